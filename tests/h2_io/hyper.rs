//! Below hyper's client, against hyper's server, on paused time.

use std::{convert::Infallible, future::pending, time::Duration};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Bytes, client::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::watch,
    time::{Instant, sleep},
};
use tower_heartbeat::{Config, Failure, Handle, State, h2_io::PingIo};

type SendRequest = http2::SendRequest<Empty<Bytes>>;

fn second() -> Config {
    Config::detect_within(Duration::from_secs(1)).expect("legal settings")
}

/// A client's connection to a server that answers after the milliseconds in the path.
async fn connected(config: Config) -> (SendRequest, Handle, watch::Sender<bool>) {
    let frozen = watch::Sender::new(false);
    let (near, near_far) = duplex(64 * 1024);
    let (far_near, far) = duplex(64 * 1024);
    let (near_read, near_write) = split(near_far);
    let (far_read, far_write) = split(far_near);
    tokio::spawn(pump(near_read, far_write, frozen.subscribe()));
    tokio::spawn(pump(far_read, near_write, frozen.subscribe()));
    tokio::spawn(async move {
        let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
            match request.uri().path()[1..].parse() {
                Ok(millis) => sleep(Duration::from_millis(millis)).await,
                Err(_) => pending().await,
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"here"))))
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), service)
            .await
    });
    let io = PingIo::client(near, config);
    let handle = io.handle();
    let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    (send, handle, frozen)
}

async fn pump(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut frozen: watch::Receiver<bool>,
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let open = frozen.wait_for(|frozen| !frozen).await.is_ok();
        if !open || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost/{path}"))
        .body(Empty::new())
        .expect("a request")
}

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
