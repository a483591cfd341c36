//! What a graceful GOAWAY does to calls that come too late, and to the limits.

use std::error::Error as StdError;

use tokio::{
    io::duplex,
    time::{Instant, sleep},
};
use tower_heartbeat::{BoxError, Config, Failure, Stage, State, hyper::http2::GoAway};

use super::support::{
    client::{CallError, all, connect, ended, get, send, spawn},
    found,
    frames::{END_STREAM, Frames, NO_ERROR},
    millis, secs,
    server::Server,
    soon, within_a_second,
};

/// The peer never acted on it: sending it again, on another connection, is safe.
fn assert_refused(error: CallError) {
    let error: BoxError = error.into();
    assert_eq!(
        found(&*error),
        Some((Failure::Transport, Stage::NotSent)),
        "{error:?}"
    );
}

/// Settings under which the heartbeat itself has nothing to say for a day.
fn patient() -> Config {
    Config::detect_within(secs(24 * 60 * 60)).expect("a legal bound")
}

#[tokio::test(start_paused = true)]
async fn new_calls_are_turned_away_after_a_graceful_one() {
    let (near, far) = duplex(64 * 1024);
    let mut server = Server::start(far);
    let mut client = connect(near, patient()).await;
    let slow = spawn(&client, get("/slow?10"));
    sleep(millis(10)).await;
    server.leave();
    sleep(millis(10)).await;

    for _ in 0..3 {
        let call = send(&mut client, get("/hello"));
        assert_refused(
            soon(secs(1), "a refusal", call)
                .await
                .expect_err("it leaves"),
        );
    }
    assert!(!client.is_alive());
    assert_eq!(client.handle().state(), State::Closing);
    slow.await.expect("no panic").expect("an answer");
    assert_eq!(server.seen.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_calls_at_once_are_turned_away_after_a_graceful_one() {
    let (near, far) = duplex(64 * 1024);
    let mut server = Server::start(far);
    let client = connect(near, patient()).await;
    let slow = spawn(&client, get("/slow?10"));
    sleep(millis(10)).await;
    server.leave();
    sleep(millis(10)).await;
    let calls: Vec<_> = (0..5).map(|_| spawn(&client, get("/hello"))).collect();
    for call in calls {
        let error = soon(secs(1), "a refusal", call).await.expect("no panic");
        assert_refused(error.expect_err("it leaves"));
    }
    slow.await.expect("no panic").expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_graceful_one_refuses_fail_while_others_go_on() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        let taken = server.request().await;
        server.head(taken, 0).await;
        let _refused = server.request().await;
        server.go_away(taken, NO_ERROR, b"").await;
        for _ in 0..100 {
            sleep(millis(100)).await;
            server.data(taken, 0, b"frame").await;
        }
        server.data(taken, END_STREAM, b"").await;
        server.rest().await;
    });
    let mut client = connect(near, within_a_second()).await;
    let response = send(&mut client, get("/taken")).await.expect("an answer");
    let taken = tokio::spawn(all(response.into_body()));
    let begin = Instant::now();
    let error = send(&mut client, get("/refused"))
        .await
        .expect_err("refused");
    assert!(
        begin.elapsed() < secs(1),
        "{:?}: {error:?}",
        begin.elapsed()
    );
    assert_refused(error);
    assert_eq!(client.handle().state(), State::Closing);
    let body = taken.await.expect("no panic").expect("a body");
    assert_eq!(body.len(), 100 * "frame".len());

    // What it said is the reason of the end, too.
    assert_eq!(ended(&client.handle()).await, Failure::Transport);
    let error = client.handle().error().expect("it ended");
    let go_away = error.source().expect("a cause").downcast_ref::<GoAway>();
    assert_eq!(go_away.expect("the GOAWAY").code(), NO_ERROR);
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_when_a_leaving_peer_dies_may_have_been_acted_on() {
    let (near, far) = duplex(64 * 1024);
    let mut server = Server::start(far);
    let mut client = connect(near, patient()).await;
    let call = spawn(&client, get("/never"));
    sleep(millis(10)).await;
    server.leave();
    sleep(millis(10)).await;
    assert_refused(
        send(&mut client, get("/hello"))
            .await
            .expect_err("it leaves"),
    );
    assert_eq!(client.handle().state(), State::Closing);
    server.kill();
    let error = soon(secs(1), "the end", call).await.expect("no panic");
    let error: BoxError = error.expect_err("it died").into();
    assert_eq!(
        found(&*error),
        Some((Failure::Transport, Stage::AwaitingResponse)),
        "{error:?}"
    );
}
