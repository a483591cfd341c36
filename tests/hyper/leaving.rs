//! What a graceful GOAWAY does to calls that come too late, and to the limits.

use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::duplex,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_heartbeat::{BoxError, Config, Failure, HeartbeatError, Stage, State};

use super::support::{
    client::{CallError, all, connect, get, send, spawn},
    found,
    frames::{END_STREAM, Frames, NO_ERROR},
    line::Line,
    millis, secs,
    server::Server,
    soon, told, within_a_second,
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

fn one_stream_at_a_time() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(1);
    builder
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
        server.to_the_end().await;
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
}

#[tokio::test(start_paused = true)]
async fn calls_that_queue_in_h2_are_turned_away_by_a_graceful_one() {
    let (near, far) = duplex(64 * 1024);
    let mut server = Server::with(far, &one_stream_at_a_time());
    let mut client = connect(near, patient()).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    let slow = spawn(&client, get("/slow?10"));
    sleep(millis(10)).await;
    let queued: Vec<_> = (0..3).map(|_| spawn(&client, get("/hello"))).collect();
    sleep(millis(10)).await;
    server.leave();
    for call in queued {
        let error = soon(secs(1), "a refusal", call).await.expect("no panic");
        assert_refused(error.expect_err("it leaves"));
    }
    slow.await.expect("no panic").expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_and_pings_that_queue_in_h2_do_not_hide_why_a_connection_ended() {
    let mut connections = JoinSet::new();
    for n in 0..200 {
        connections.spawn(async move {
            let (near, far) = duplex(64 * 1024);
            let server = Server::with(far, &one_stream_at_a_time());
            let config = Config::builder()
                .interval(millis(5))
                .pong_timeout(secs(60))
                .build()
                .expect("legal settings");
            let mut client = connect(near, config).await;
            send(&mut client, get("/hello")).await.expect("an answer");
            let slow = spawn(&client, get("/never"));
            // The ping queues, and after it, in every other round, a call.
            sleep(millis(40)).await;
            let queued = (n % 2 == 0).then(|| spawn(&client, get("/hello")));
            sleep(millis(20)).await;
            server.kill();
            for call in [Some(slow), queued].into_iter().flatten() {
                let error = call.await.expect("no panic").expect_err("it is gone");
                let error: BoxError = error.into();
                let failure = HeartbeatError::find(&*error).map(HeartbeatError::failure);
                assert_eq!(failure, Some(Failure::Transport), "{error:?}");
            }
            assert_eq!(client.handle().closed().await, Failure::Transport);
        });
    }
    soon(secs(60), "all ends", connections.join_all()).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_limit_finds_a_peer_that_vanishes_while_it_leaves() {
    let (line, near, far) = Line::new();
    let mut server = Server::start(far);
    let config = Config::builder()
        .detect_within(secs(1))
        .quiet_timeout(secs(5))
        .build()
        .expect("legal settings");
    let client = connect(near, config).await;
    let call = spawn(&client, get("/never"));
    sleep(millis(10)).await;
    server.leave();
    // A ping meets the GOAWAY.
    sleep(secs(2)).await;
    assert_eq!(client.handle().state(), State::Closing);
    line.freeze();
    let error = soon(secs(10), "the verdict", call).await;
    let error = error.expect("no panic").expect_err("frozen");
    assert_eq!(
        told(&error),
        Some((Failure::ReadTimeout, Stage::AwaitingResponse))
    );
}
