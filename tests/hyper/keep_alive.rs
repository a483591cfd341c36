//! hyper's own keep-alive ends the connection, and the heartbeat says so.

use std::{error::Error as StdError, time::Duration};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tower_heartbeat::{Config, Failure, HeartbeatError, Stage};

use super::support::{
    client::{Client, ResponseBody, connect_without_pings, data, get, send, spawn},
    eventually,
    line::Line,
    millis, secs,
    server::Server,
    soon,
};

fn keep_alive(interval: Duration, timeout: Duration) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .keep_alive_while_idle(true);
    builder
}

pub(crate) async fn connected(interval: Duration, timeout: Duration) -> (Line, Client, Server) {
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let builder = keep_alive(interval, timeout);
    let client = connect_without_pings(near, Config::default(), builder).await;
    (line, client, server)
}

fn assert_timed_out(error: &HeartbeatError, stage: Stage) {
    assert_eq!(
        (error.failure(), error.stage()),
        (Failure::PongTimeout, stage),
        "{error:?}"
    );
    // Between threads, hyper now and then has no error to tell.
    if let Some(source) = error.source() {
        let hyper = source.downcast_ref::<hyper::Error>().expect("hyper's");
        assert!(hyper.is_timeout(), "{hyper:?}");
    }
}

/// A call, a body and the service on one connection, whose peer freezes.
async fn everything_says_pong_timeout(line: Line, mut client: Client, server: &Server) {
    let Some(mut body) = streaming(&mut client).await else {
        return;
    };
    let body = tokio::spawn(async move {
        let error = data(&mut body)
            .await
            .expect("an error")
            .expect_err("frozen");
        assert!(data(&mut body).await.is_none());
        error
    });
    let call = spawn(&client, get("/never"));
    let handle = client.handle();
    let there = || server.seen.requests() == 2 || handle.failure().is_some();
    eventually(secs(60), "the call is there", there).await;
    if handle.failure().is_some() {
        return;
    }
    line.freeze();

    let (call, body) = tokio::join!(call, body);
    let call = call.expect("no panic").expect_err("frozen");
    let call = call.heartbeat().unwrap_or_else(|| panic!("{call:?}"));
    assert_timed_out(call, Stage::AwaitingResponse);
    let body = body.expect("no panic");
    let body = body.heartbeat().unwrap_or_else(|| panic!("{body:?}"));
    assert_timed_out(body, Stage::Streaming);
    let ready = client.ready().await.expect_err("dead");
    let ready = ready.heartbeat().unwrap_or_else(|| panic!("{ready:?}"));
    assert_timed_out(ready, Stage::NotSent);
}

/// A body in the middle; `None` if the machine is so busy that the keep-alive has struck already.
async fn streaming(client: &mut Client) -> Option<ResponseBody> {
    let response = send(client, get("/stalled")).await.ok()?;
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").ok()?;
    Some(body)
}

#[tokio::test(start_paused = true)]
async fn its_timeout_is_a_pong_timeout_for_call_body_and_service() {
    let (line, client, server) = connected(secs(2), secs(1)).await;
    let handle = client.handle();
    everything_says_pong_timeout(line, client, &server).await;
    let error = handle.error().expect("it ended");
    assert_timed_out(&error, Stage::NotSent);
    assert!(error.source().is_some());
}

#[tokio::test(start_paused = true)]
async fn its_timeout_is_a_pong_timeout_on_an_idle_connection() {
    let (line, client, _server) = connected(secs(2), secs(1)).await;
    line.freeze();
    let handle = client.handle();
    let failure = soon(secs(4), "its verdict", handle.closed()).await;
    assert_eq!(failure, Failure::PongTimeout);
    assert_timed_out(&handle.error().expect("it ended"), Stage::NotSent);
}

/// Real time: long enough for a busy machine to answer in.
pub(crate) const INTERVAL: Duration = millis(100);
pub(crate) const TIMEOUT: Duration = millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_timeout_is_a_pong_timeout_whichever_task_is_first() {
    for _ in 0..3 {
        let mut connections = JoinSet::new();
        for _ in 0..20 {
            connections.spawn(async {
                let (line, client, server) = connected(INTERVAL, TIMEOUT).await;
                let handle = client.handle();
                everything_says_pong_timeout(line, client, &server).await;
                assert_eq!(handle.failure(), Some(Failure::PongTimeout));
            });
        }
        let all = connections.join_all();
        soon(secs(60), "all verdicts", all).await;
    }
}
