//! What an error is put down to, when hyper itself doesn't say.

use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use tokio::{io::duplex, sync::watch, task::JoinSet, time::sleep};
use tower::{Service, ServiceExt};
use tower_heartbeat::{BoxError, Config, Failure, HeartbeatError, Stage, State};

use super::{
    keep_alive::{INTERVAL, TIMEOUT, connected},
    reasons::{driven, errors_wait_for_the_reason, plain},
    support::{
        client::{connect, ended, get, send, spawn},
        eventually, found,
        line::{Line, Watched},
        millis, secs,
        server::Server,
        soon, told,
    },
};

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
async fn calls_that_queue_are_turned_away_and_only_those_that_never_left_are_called_unsent() {
    let (near, far) = duplex(64 * 1024);
    let mut server = Server::with(far, &one_stream_at_a_time());
    let mut client = connect(near, patient()).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    let slow = spawn(&client, get("/slow?10"));
    sleep(millis(10)).await;
    let queued: Vec<_> = (0..3).map(|_| spawn(&client, get("/hello"))).collect();
    sleep(millis(10)).await;
    server.leave();
    let mut stages = Vec::new();
    for call in queued {
        let error = soon(secs(1), "a refusal", call).await.expect("no panic");
        let error: BoxError = error.expect_err("it leaves").into();
        let (failure, stage) = found(&*error).expect("typed");
        assert_eq!(failure, Failure::Transport, "{error:?}");
        stages.push(stage);
    }
    // hyper gives those back that it had not handed to h2; of the first it doesn't say.
    let (given_up, unsent) = (Stage::AwaitingResponse, Stage::NotSent);
    assert_eq!(stages, [given_up, unsent, unsent]);
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
                .interval(millis(200))
                .pong_timeout(secs(60))
                .build()
                .expect("legal settings");
            let mut client = connect(near, config).await;
            send(&mut client, get("/hello")).await.expect("an answer");
            let slow = spawn(&client, get("/never"));
            // The ping queues, and after it, in every other round, a call.
            sleep(millis(300)).await;
            let queued = (n % 2 == 0).then(|| spawn(&client, get("/hello")));
            sleep(millis(20)).await;
            server.kill();
            for call in [Some(slow), queued].into_iter().flatten() {
                let error = call.await.expect("no panic").expect_err("it is gone");
                let error: BoxError = error.into();
                let failure = HeartbeatError::find(&*error).map(HeartbeatError::failure);
                assert_eq!(failure, Some(Failure::Transport), "{error:?}");
            }
            assert_eq!(ended(&client.handle()).await, Failure::Transport);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_timeout_is_a_pong_timeout_for_calls_that_come_just_then() {
    let mut connections = JoinSet::new();
    for _ in 0..10 {
        connections.spawn(async {
            let (line, client, _server) = connected(INTERVAL, TIMEOUT).await;
            let handle = client.handle();
            line.freeze();
            let mut calls = JoinSet::new();
            for delay in 0..100 {
                let mut client = client.clone();
                calls.spawn(async move {
                    let early = INTERVAL + TIMEOUT - millis(20);
                    tokio::time::sleep(early + delay * Duration::from_micros(400)).await;
                    send(&mut client, get("/never")).await.expect_err("frozen")
                });
            }
            assert_eq!(ended(&handle).await, Failure::PongTimeout);
            for error in calls.join_all().await {
                let error: BoxError = error.into();
                match found(&*error) {
                    // In the instant before the verdict it looks like a connection that leaves.
                    Some((Failure::Transport, Stage::NotSent)) => {}
                    told => assert_eq!(
                        told.map(|(failure, _)| failure),
                        Some(Failure::PongTimeout),
                        "{error:?}"
                    ),
                }
            }
        });
    }
    soon(secs(60), "all verdicts", connections.join_all()).await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_closed_transport_wait_for_the_reason() {
    errors_wait_for_the_reason(plain(), |_, server| server.kill(), Failure::Transport).await;
}

/// Waits for a future on a thread that is in no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_awaited_outside_the_runtime_fails_without_a_panic() {
    // Now and then the link's end is faster than hyper's error.
    for _ in 0..20 {
        let (near, far) = duplex(64 * 1024);
        let server = Server::start(far);
        let mut client = connect(near, patient()).await;
        send(&mut client, get("/hello")).await.expect("an answer");
        let call = async move { client.ready().await?.call(get("/never")).await };
        let caller = std::thread::spawn(move || block_on(call));
        let there = || server.seen.requests() == 2;
        eventually(secs(10), "the call is there", there).await;
        server.kill();
        let error = caller.join().expect("no panic").expect_err("it is gone");
        assert_eq!(
            told(&error),
            Some((Failure::Transport, Stage::AwaitingResponse))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_driver_the_verdict_closes_the_io_all_the_same() {
    let (line, near, far) = Line::new();
    let _server = Server::start(far);
    let (near, closed) = Watched::new(near);
    let config = Config::builder()
        .quiet_timeout(secs(5))
        .build()
        .expect("legal settings");
    let (_run, running) = watch::channel(true);
    let (mut client, task) = driven(near, config, plain(), running).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    task.abort();
    line.freeze();
    assert_eq!(ended(&client.handle()).await, Failure::ReadTimeout);
    eventually(millis(10), "the IO is closed", || closed.is_set()).await;
    drop(response);
}
