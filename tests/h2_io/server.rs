//! A hyper server behind a line that can be frozen.

use std::{future::pending, time::Duration};

use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::{body::Bytes, client::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::watch,
    time::sleep,
};
use tower_heartbeat::{Config, Handle, h2_io::PingIo};

pub(crate) type SendRequest = http2::SendRequest<Empty<Bytes>>;

/// Freezes what goes over a line while it is `true`.
pub(crate) type Frozen = watch::Sender<bool>;

pub(crate) fn second() -> Config {
    Config::detect_within(Duration::from_secs(1)).expect("legal settings")
}

/// A client's end of a line to a server that answers after the milliseconds in the path, and never if
/// there are none. What comes after them may be anything but `reset`, which gets the stream reset.
pub(crate) fn serve() -> (DuplexStream, Frozen) {
    let frozen = watch::Sender::new(false);
    let (near, near_far) = duplex(64 * 1024);
    let (far_near, far) = duplex(64 * 1024);
    let (near_read, near_write) = split(near_far);
    let (far_read, far_write) = split(far_near);
    tokio::spawn(pump(near_read, far_write, frozen.subscribe()));
    tokio::spawn(pump(far_read, near_write, frozen.subscribe()));
    tokio::spawn(async move {
        let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
            let mut parts = request.uri().path()[1..].split('/');
            match parts.next().and_then(|millis| millis.parse().ok()) {
                Some(millis) => sleep(Duration::from_millis(millis)).await,
                None => pending().await,
            }
            if parts.next() == Some("reset") {
                return Err("reset");
            }
            Ok(Response::new(Full::new(Bytes::from_static(b"here"))))
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), service)
            .await
    });
    (near, frozen)
}

/// The same, with PINGs on the line.
pub(crate) async fn connected(config: Config) -> (SendRequest, Handle, Frozen) {
    let (near, frozen) = serve();
    let io = PingIo::client(near, config);
    let handle = io.handle();
    (shake_hands(TokioIo::new(io)).await, handle, frozen)
}

pub(crate) async fn shake_hands<T>(io: T) -> SendRequest
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (send, connection) = http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    send
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

pub(crate) fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost/{path}"))
        .body(Empty::new())
        .expect("a request")
}
