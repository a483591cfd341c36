//! The back-off between real HTTP/2 connections.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::Empty;
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tower::{Service, ServiceExt, reconnect::Reconnect, service_fn};
use tower_heartbeat::{
    Failure, HeartbeatLayer, Stage,
    http::head,
    hyper::http2::Connect,
    reconnect::{Backoff, Delays},
};

use super::support::{found, line::Line, secs, server::Server, within_a_second};

#[tokio::test(start_paused = true)]
async fn a_server_that_shakes_hands_and_answers_nothing_has_proved_nothing() {
    let attempts = attempts_in_ten_minutes("http://localhost/never").await;
    // 1 s of detection each, and waits of 0.5, 1, 2, 4, 8 and then 15 s in the mean.
    assert!((20..90).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_pings_alone_has_proved_itself() {
    let attempts = attempts_in_ten_minutes("http://localhost/health").await;
    // 3 s each, and half a second of waiting in the mean.
    assert!(attempts > 120, "{attempts}");
}

/// Each connection is cut off after three seconds, if it is there for so long.
async fn attempts_in_ten_minutes(ping: &'static str) -> usize {
    let attempts = Arc::new(AtomicUsize::new(0));
    let connector = service_fn({
        let attempts = Arc::clone(&attempts);
        move |()| {
            attempts.fetch_add(1, Ordering::Relaxed);
            let (line, near, far) = Line::new();
            let server = Server::start(far);
            tokio::spawn(async move {
                tokio::time::sleep(secs(3)).await;
                server.kill();
                drop(line);
            });
            std::future::ready(Ok::<_, io::Error>(TokioIo::new(near)))
        }
    });
    let heartbeat = HeartbeatLayer::new(within_a_second(), head(ping.parse().unwrap()));
    let delays = Delays::builder().first_delay(secs(1)).build().unwrap();
    let make = Backoff::new(Connect::new(connector, heartbeat), delays);
    let mut client = Reconnect::new(make, ());
    let asking = async {
        loop {
            let request = Request::get("http://localhost/never");
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let error = client.ready().await.unwrap().call(request).await;
            let Err(error) = error else {
                panic!("nobody answers")
            };
            let (failure, stage) = found(&*error).expect("the heartbeat's");
            assert!(matches!(failure, Failure::PongTimeout | Failure::Transport));
            assert_eq!(stage, Stage::AwaitingResponse);
        }
    };
    let never: Result<(), _> = timeout(secs(600), asking).await;
    assert!(never.is_err());
    attempts.load(Ordering::Relaxed)
}
