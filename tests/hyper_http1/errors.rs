//! Connections that fail: what the user is told, at each stage, and what led to it.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use http_body_util::BodyExt;
use hyper::{Method, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    time::sleep,
};
use tower::ServiceExt;
use tower_heartbeat::{BoxError, Error, Failure, HeartbeatError, Stage, hyper::http1::SendError};

use super::{
    client::{CallError, Client, Peer, connect, send, serve, spawn},
    support::{
        client::{RequestBody, all, data, ended, fed, get, request},
        found, millis, secs, soon, told, within_a_second,
    },
};

fn post(body: RequestBody) -> Request<RequestBody> {
    let mut request = request("/echo", body);
    *request.method_mut() = Method::POST;
    request
}

/// The error of the given type in what led to `error`.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn heartbeat<E>(error: &Error<E>) -> &HeartbeatError {
    error.heartbeat().expect("the connection's end")
}

/// What a call gets whose request the peer answers with `answer`, and then the connection ends.
async fn answered(answer: &str) -> (Client, Result<(), CallError>, Result<(), BoxError>) {
    let (client, mut peer) = Peer::connected(within_a_second()).await;
    let call = spawn(&client, get("/request"));
    peer.request().await;
    peer.say(answer).await;
    drop(peer);
    match soon(secs(5), "an answer", call).await.expect("no panic") {
        Ok(response) => {
            let body = all(response.into_body()).await;
            (client, Ok(()), body.map(drop).map_err(Into::into))
        }
        Err(error) => (client, Err(error), Ok(())),
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_without_an_answer() {
    let (mut client, call, _) = answered("").await;
    let error = call.expect_err("no answer");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::AwaitingResponse))
    );
    let hyper: &hyper::Error = cause(heartbeat(&error)).expect("hyper's");
    assert!(hyper.is_incomplete_message(), "{hyper:?}");
    let next = send(&mut client, get("/next")).await.expect_err("closed");
    assert_eq!(told(&next), Some((Failure::Transport, Stage::NotSent)));
    let hyper: &hyper::Error = cause(heartbeat(&next)).expect("the same");
    assert!(hyper.is_incomplete_message(), "{hyper:?}");
    assert_eq!(ended(&client.handle()).await, Failure::Transport);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_within_the_head() {
    let (_, call, _) = answered("HTTP/1.1 200 OK\r\ncontent-le").await;
    let error = call.expect_err("half a head");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::AwaitingResponse))
    );
    let hyper: &hyper::Error = cause(heartbeat(&error)).expect("hyper's");
    assert!(hyper.is_incomplete_message(), "{hyper:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_speak_http() {
    let (_, call, _) = answered("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    let error = call.expect_err("no HTTP");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::AwaitingResponse))
    );
    let hyper: &hyper::Error = cause(heartbeat(&error)).expect("hyper's");
    assert!(hyper.is_parse(), "{hyper:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_short() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno chunk",
    ] {
        let (mut client, call, body) = answered(answer).await;
        call.expect("a head");
        let error = body.expect_err("cut short");
        assert_eq!(
            found(&*error),
            Some((Failure::Transport, Stage::Streaming)),
            "{answer}"
        );
        let hyper: &hyper::Error = cause(&*error).expect("hyper's");
        assert!(cause::<io::Error>(hyper).is_some(), "{hyper:?}");
        let next = send(&mut client, get("/next")).await.expect_err("closed");
        assert_eq!(told(&next), Some((Failure::Transport, Stage::NotSent)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_nothing() {
    let (mut client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    // Some servers say so before they close an idle connection.
    peer.say("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(ended(&handle).await, Failure::Transport);
    let error = send(&mut client, get("/next")).await.expect_err("closed");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    assert!(cause::<hyper::Error>(heartbeat(&error)).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_answered_with_nonsense_is_the_transports_end() {
    let (client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    assert!(peer.head().await.starts_with("HEAD"));
    peer.say("nonsense\r\n\r\n").await;
    assert_eq!(ended(&handle).await, Failure::Transport);
    let error = handle.error().expect("it ended");
    assert!(cause::<hyper::Error>(&error).expect("hyper's").is_parse());
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_fails_is_the_requests_own_error() {
    let (near, far) = duplex(64 * 1024);
    let _server = serve(far);
    let mut client = connect(near, within_a_second()).await;
    let (feeder, body) = fed();
    let call = spawn(&client, post(body.boxed_unsync()));
    feeder
        .send(Err("the disk is gone".into()))
        .await
        .expect("awaited");
    let error = soon(secs(5), "an end", call)
        .await
        .expect("no panic")
        .expect_err("it failed");
    let Error::Inner(SendError::Failed(hyper)) = &error else {
        panic!("{error:?}");
    };
    assert!(hyper.is_user());
    assert_eq!(
        hyper.source().expect("a cause").to_string(),
        "the disk is gone"
    );
    let next = send(&mut client, get("/next")).await.expect_err("closed");
    assert_eq!(told(&next), Some((Failure::Transport, Stage::NotSent)));
}

/// An IO that fails with an error of its own when it is told to.
struct Failing {
    inner: DuplexStream,
    switch: Arc<Switch>,
}

#[derive(Default)]
struct Switch {
    reads: AtomicU8,
    writes: AtomicU8,
    reader: AtomicWaker,
}

impl Switch {
    fn fail_reads(&self) {
        self.reads.store(1, Ordering::Release);
        self.reader.wake();
    }
}

#[derive(Debug)]
struct Unplugged;

impl std::fmt::Display for Unplugged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unplugged")
    }
}

impl StdError for Unplugged {}

fn unplugged() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, Unplugged)
}

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.switch.reader.register(cx.waker());
        if self.switch.reads.load(Ordering::Acquire) == 1 {
            return Poll::Ready(Err(unplugged()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Failing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.switch.writes.load(Ordering::Acquire) == 1 {
            return Poll::Ready(Err(unplugged()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn over_failing() -> (Client, Arc<Switch>, super::support::server::Server) {
    let (inner, far) = duplex(1024);
    let switch = Arc::new(Switch::default());
    let io = Failing {
        inner,
        switch: Arc::clone(&switch),
    };
    let mut client = connect(io, within_a_second()).await;
    let server = serve(far);
    let response = send(&mut client, get("/hello")).await.expect("an answer");
    all(response.into_body()).await.expect("a body");
    (client, switch, server)
}

#[track_caller]
fn assert_unplugged(error: &(dyn StdError + 'static)) {
    let io: &io::Error = cause(error).unwrap_or_else(|| panic!("no io error in {error:?}"));
    assert_eq!(io.kind(), io::ErrorKind::ConnectionReset);
    assert!(io.get_ref().expect("its own").is::<Unplugged>());
}

#[tokio::test(start_paused = true)]
async fn an_io_error_comes_through_typed_to_a_call() {
    let (client, switch, _server) = over_failing().await;
    let call = spawn(&client, get("/never"));
    sleep(secs(5)).await;
    switch.fail_reads();
    let error = call.await.expect("no panic").expect_err("unplugged");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::AwaitingResponse))
    );
    assert_unplugged(heartbeat(&error));
}

#[tokio::test(start_paused = true)]
async fn an_io_error_comes_through_typed_to_a_body() {
    let (mut client, switch, _server) = over_failing().await;
    let mut body = send(&mut client, get("/stalled"))
        .await
        .expect("a head")
        .into_body();
    data(&mut body).await.expect("a frame").expect("data");
    switch.fail_reads();
    let error = data(&mut body)
        .await
        .expect("an end")
        .expect_err("unplugged");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::Streaming)));
    assert_unplugged(heartbeat(&error));
}

#[tokio::test(start_paused = true)]
async fn an_io_error_comes_through_typed_to_those_who_wait() {
    let (client, switch, _server) = over_failing().await;
    let out = spawn(&client, get("/never"));
    sleep(millis(10)).await;
    let mut waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.ready().await.map(|_| ()) });
    sleep(millis(10)).await;
    switch.fail_reads();
    let error = waiting.await.expect("no panic").expect_err("unplugged");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    out.await.expect("no panic").expect_err("unplugged");
}

#[tokio::test(start_paused = true)]
async fn an_io_error_comes_through_typed_to_the_next_call() {
    let (mut client, switch, _server) = over_failing().await;
    let handle = client.handle();
    switch.fail_reads();
    assert_eq!(ended(&handle).await, Failure::Transport);
    assert_unplugged(&handle.error().expect("it ended"));
    let error = send(&mut client, get("/next"))
        .await
        .expect_err("unplugged");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    assert_unplugged(heartbeat(&error));
}

#[tokio::test(start_paused = true)]
async fn a_write_error_comes_through_typed() {
    let (mut client, switch, _server) = over_failing().await;
    switch.writes.store(1, Ordering::Release);
    let error = send(&mut client, get("/hello"))
        .await
        .expect_err("unplugged");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::AwaitingResponse))
    );
    assert_unplugged(heartbeat(&error));
}

#[tokio::test(start_paused = true)]
async fn a_write_error_under_a_body_that_streams_comes_through_typed() {
    let (mut client, switch, _server) = over_failing().await;
    let (feeder, body) = fed();
    let call = spawn(&client, post(body.boxed_unsync()));
    feeder.send(Ok("one".into())).await.expect("awaited");
    let mut answer = call.await.expect("no panic").expect("a head").into_body();
    assert_eq!(
        data(&mut answer).await.expect("a frame").expect("data"),
        "one"
    );
    switch.writes.store(1, Ordering::Release);
    feeder.send(Ok("two".into())).await.expect("awaited");
    let error = data(&mut answer)
        .await
        .expect("an end")
        .expect_err("unplugged");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::Streaming)));
    assert_unplugged(heartbeat(&error));
    let error = send(&mut client, get("/next"))
        .await
        .expect_err("unplugged");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "connection was called before it was ready")]
async fn a_call_without_readiness_is_not_queued_unseen() {
    use tower::Service;
    let (near, _far) = duplex(64);
    let builder = hyper::client::conn::http1::Builder::new();
    let io = hyper_util::rt::TokioIo::new(near);
    let made = tower_heartbeat::hyper::http1::handshake(&builder, io).await;
    let (mut service, _connection) = made.expect("it connects");
    drop(service.call(get("/hello")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_the_cause_is_the_same_every_time() {
    for _ in 0..30 {
        let (mut client, call, _) = answered("").await;
        let error = call.expect_err("no answer");
        assert_eq!(
            told(&error),
            Some((Failure::Transport, Stage::AwaitingResponse)),
            "{error:?}"
        );
        assert!(cause::<hyper::Error>(heartbeat(&error)).is_some());
        let next = send(&mut client, get("/next")).await.expect_err("closed");
        assert_eq!(told(&next), Some((Failure::Transport, Stage::NotSent)));
        assert!(cause::<hyper::Error>(heartbeat(&next)).is_some());

        let (mut client, call, body) =
            answered("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        call.expect("a head");
        let error = body.expect_err("cut short");
        assert_eq!(
            found(&*error),
            Some((Failure::Transport, Stage::Streaming)),
            "{error:?}"
        );
        assert!(cause::<io::Error>(&*error).is_some());
        let next = send(&mut client, get("/next")).await.expect_err("closed");
        assert_eq!(told(&next), Some((Failure::Transport, Stage::NotSent)));

        let (client, call, body) =
            answered("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlast").await;
        call.expect("a head");
        body.expect("a body");
        assert_eq!(ended(&client.handle()).await, Failure::Transport);
        assert!(
            client
                .handle()
                .error()
                .expect("it ended")
                .source()
                .is_none()
        );

        let (client, switch, _server) = over_failing().await;
        let call = spawn(&client, get("/never"));
        tokio::task::yield_now().await;
        switch.fail_reads();
        // It may not have got out in time.
        let error: BoxError = call.await.expect("no panic").expect_err("unplugged").into();
        let (failure, stage) = found(&*error).expect("the connection's end");
        assert_eq!(failure, Failure::Transport);
        assert_ne!(stage, Stage::Streaming);
        assert_unplugged(&*error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_connection_did_not_get_to_was_not_sent() {
    let (mut client, switch, server) = over_failing().await;
    client.ready().await.expect("ready");
    let call = tower::Service::call(&mut client, get("/hello"));
    switch.fail_reads();
    let error = call.await.expect_err("unplugged");
    assert!(
        matches!(error, Error::Inner(SendError::Refused(_))),
        "{error:?}"
    );
    let error: BoxError = error.into();
    assert_eq!(found(&*error), Some((Failure::Transport, Stage::NotSent)));
    assert_unplugged(&*error);
    assert_eq!(server.seen.requests(), 1);
}
