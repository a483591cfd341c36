//! Below hyper's client, against hyper's server, on paused time.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_heartbeat::{Failure, State};

use super::server::{connected, get, second};

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_pinged_and_lives() {
    let (mut send, handle, _line) = connected(second()).await;
    let response = send.send_request(get("10000")).await.expect("it is slow");
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "here");
    assert!(handle.pings() >= 10, "{}", handle.pings());
    assert_eq!(handle.pings(), handle.pongs());
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.rtt().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_frozen_peer_is_found_within_the_bound_under_a_call_and_idle() {
    for busy in [true, false] {
        let (mut send, handle, line) = connected(second()).await;
        send.send_request(get("0")).await.expect("an answer");
        line.send_replace(true);
        let began = Instant::now();
        if busy {
            let error = send.send_request(get("0")).await.expect_err("it is frozen");
            assert!(
                format!("{error:?}").contains("did not answer a ping"),
                "{error:?}"
            );
        }
        assert_eq!(handle.closed().await, Failure::PongTimeout);
        assert!(
            began.elapsed() <= Duration::from_millis(1001),
            "{:?}",
            began.elapsed()
        );
        assert!(send.ready().await.is_err());
    }
}
