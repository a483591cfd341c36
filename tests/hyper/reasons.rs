//! Errors that are there before `drive` knows the reason wait for it.

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{io::duplex, sync::watch, task::JoinHandle, time::sleep};
use tower::Layer;
use tower_heartbeat::{
    Config, Failure, HeartbeatError, HeartbeatLayer, Stage, State,
    http::CompleteOnBody,
    hyper::http2::{drive, handshake},
};

use super::support::{
    client::{Client, Io, RequestBody, all, data, ended, get, head_pings, send, spawn},
    frames::Frames,
    line::Line,
    millis, secs,
    server::Server,
    soon, told, within_a_second,
};

/// Settings under which the heartbeat itself has nothing to say for a day.
fn patient() -> Config {
    Config::detect_within(secs(24 * 60 * 60)).expect("a legal bound")
}

/// A connection whose `drive` the test runs itself: while `running` says so.
pub(crate) async fn driven(
    near: impl Io,
    config: Config,
    builder: http2::Builder<TokioExecutor>,
    running: watch::Receiver<bool>,
) -> (Client, JoinHandle<()>) {
    let (service, connection) = handshake::<_, RequestBody, _>(&builder, TokioIo::new(near))
        .await
        .expect("a handshake");
    let layer = HeartbeatLayer::new(config, head_pings()).completion(CompleteOnBody::default());
    let client = layer.layer(service);
    let driving = drive(connection, client.handle());
    let task = tokio::spawn(polled_while(running, driving));
    (client, task)
}

async fn polled_while(mut running: watch::Receiver<bool>, future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    loop {
        let runs = |running: &bool| *running;
        running.wait_for(runs).await.expect("the test says when");
        tokio::select! {
            biased;
            _ = running.wait_for(|running| !running) => {}
            () = &mut future => return,
        }
    }
}

pub(crate) fn plain() -> http2::Builder<TokioExecutor> {
    http2::Builder::new(TokioExecutor::new())
}

/// What fails before `drive` knows why waits until it does.
pub(crate) async fn errors_wait_for_the_reason(
    builder: http2::Builder<TokioExecutor>,
    end: impl FnOnce(&Line, &Server),
    failure: Failure,
) {
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let (run, running) = watch::channel(true);
    let (mut client, task) = driven(near, patient(), builder, running).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").expect("data");
    let trailers = send(&mut client, get("/stalled")).await.expect("an answer");
    let call = spawn(&client, get("/never"));
    sleep(millis(10)).await;

    run.send_replace(false);
    end(&line, &server);
    let body = tokio::spawn(async move { data(&mut body).await });
    let unread = tokio::spawn(all(trailers.into_body()));
    let late = spawn(&client, get("/hello"));
    sleep(millis(800)).await;
    assert!(!call.is_finished() && !body.is_finished() && !unread.is_finished());
    assert_eq!(client.handle().failure(), None);

    run.send_replace(true);
    let error = call.await.expect("no panic").expect_err("it ended");
    assert_eq!(
        told(&error),
        Some((failure, Stage::AwaitingResponse)),
        "{error:?}"
    );
    let error = body
        .await
        .expect("no panic")
        .expect("an error")
        .expect_err("it ended");
    assert_eq!(told(&error), Some((failure, Stage::Streaming)), "{error:?}");
    let error = unread.await.expect("no panic").expect_err("it ended");
    assert_eq!(told(&error), Some((failure, Stage::Streaming)), "{error:?}");
    let error = late.await.expect("no panic").expect_err("it ended");
    assert_eq!(
        error.heartbeat().map(HeartbeatError::failure),
        Some(failure),
        "{error:?}"
    );
    task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_keep_alive_wait_for_the_reason() {
    let mut builder = plain();
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(millis(200))
        .keep_alive_timeout(millis(100));
    errors_wait_for_the_reason(builder, |line, _| line.freeze(), Failure::PongTimeout).await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_broken_protocol_wait_for_the_reason() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        server.request().await;
        sleep(millis(100)).await;
        // No stream may do that on stream 0.
        server.data(0, 0, b"nonsense").await;
        server.rest().await;
    });
    let (run, running) = watch::channel(true);
    let (client, task) = driven(near, patient(), plain(), running).await;
    let call = spawn(&client, get("/hello"));
    sleep(millis(10)).await;
    run.send_replace(false);
    sleep(millis(800)).await;
    assert!(!call.is_finished());
    run.send_replace(true);
    let error = call.await.expect("no panic").expect_err("nonsense");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::AwaitingResponse)),
        "{error:?}"
    );
    task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn without_its_driver_a_connection_takes_no_calls_and_ends_with_the_last() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let (_run, running) = watch::channel(true);
    let (mut client, task) = driven(near, within_a_second(), plain(), running).await;
    let call = spawn(&client, get("/slow?10"));
    sleep(millis(10)).await;
    task.abort();
    sleep(millis(10)).await;
    assert_eq!(client.handle().state(), State::Closing);
    let error = soon(secs(1), "a refusal", send(&mut client, get("/hello"))).await;
    assert_eq!(
        told(&error.expect_err("it leaves")),
        Some((Failure::Transport, Stage::NotSent))
    );
    let response = call.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert_eq!(ended(&client.handle()).await, Failure::Transport);
    soon(secs(1), "the server sees it", server.ended()).await;
}

#[tokio::test(start_paused = true)]
async fn drive_ends_with_the_connection() {
    let (line, near, far) = Line::new();
    let _server = Server::start(far);
    let (_run, running) = watch::channel(true);
    let (mut client, task) = driven(near, within_a_second(), plain(), running).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    line.freeze();
    assert_eq!(ended(&client.handle()).await, Failure::PongTimeout);
    soon(secs(1), "drive ends", task).await.expect("no panic");
    drop(client);
}
