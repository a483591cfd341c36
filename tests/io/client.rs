//! Below hyper's HTTP/1 connection and hyper-util's client.

use std::{convert::Infallible, error::Error as _, io, pin::Pin, time::Duration};

use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::Bytes,
    client::conn::{http1, http2},
    rt::Write as _,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
    time::Instant,
};
use tower_heartbeat::{
    Failure, HeartbeatError, Stage,
    io::{IoHandle, Limit, LimitedIo, Limits, ReadWhen},
};

use crate::{LIMIT, Set, answers, idles, reads, writes};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";

type Io = LimitedIo<TokioIo<tokio::io::DuplexStream>>;

fn limited(set: Set) -> (Io, tokio::io::DuplexStream) {
    let (near, far) = duplex(1024);
    let limits = set(Limits::builder()).build().expect("legal settings");
    (LimitedIo::new(TokioIo::new(near), limits), far)
}

fn request(uri: impl TryInto<Uri, Error: std::fmt::Debug>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.try_into().expect("a URI");
    let host = "localhost".try_into().expect("a value");
    request.headers_mut().insert("host", host);
    request
}

#[tokio::test(start_paused = true)]
async fn a_frozen_http1_peer_fails_the_request_with_its_cause() {
    let sets: [(Set, Failure); 3] = [
        (reads, Failure::ReadTimeout),
        (answers, Failure::ReadTimeout),
        (idles, Failure::IdleTimeout),
    ];
    for (set, failure) in sets {
        let (io, _far) = limited(set);
        let (mut send, connection) = http1::handshake(io).await.expect("no bytes yet");
        let connection = tokio::spawn(connection);
        let began = Instant::now();
        let error = send.send_request(request("/")).await.unwrap_err();
        let cause = HeartbeatError::find(&error).expect("typed");
        assert_eq!(cause.failure(), failure);
        assert_eq!(cause.stage(), Stage::AwaitingResponse);
        assert_eq!(began.elapsed(), LIMIT);
        // And the IO is closed: nobody waits for the frozen peer.
        let _end = connection.await.expect("no panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_halfway_fails_with_the_cause() {
    let (io, mut far) = limited(reads);
    let (mut send, connection) = http1::handshake(io).await.expect("no bytes yet");
    tokio::spawn(connection);
    let peer = tokio::spawn(async move {
        far.read_u8().await.expect("a request");
        far.write_all(HALF).await.expect("it is open");
        far
    });
    let response = send.send_request(request("/")).await.expect("a head");
    let error = response.into_body().collect().await.unwrap_err();
    let cause = HeartbeatError::find(&error).expect("typed");
    assert_eq!(cause.failure(), Failure::ReadTimeout);
    let _open_to_the_end = peer.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_pauses_is_not_a_quiet_peer() {
    let (io, far) = limited(idles);
    let (mut send, connection) = http1::handshake(io).await.expect("no bytes yet");
    tokio::spawn(connection);
    let server = service_fn(|_| async {
        let body = Full::new(Bytes::from(vec![7; 4 << 20]));
        Ok::<_, Infallible>(Response::new(body))
    });
    tokio::spawn(
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), server),
    );
    let response = send.send_request(request("/")).await.expect("a head");
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.expect("alive").into_data().expect("data").len();
        if read < 64 << 10 {
            tokio::time::sleep(LIMIT * 100).await;
        }
    }
    assert_eq!(read, 4 << 20);
}

#[tokio::test(start_paused = true)]
async fn over_http2_the_handle_has_the_cause_that_hyper_drops() {
    let (io, far) = limited(answers);
    let handle = io.handle();
    let server = service_fn(|request: Request<hyper::body::Incoming>| async move {
        if request.uri().path() == "/frozen" {
            std::future::pending::<()>().await;
        }
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
    });
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), server),
    );
    let handshake = http2::handshake(TokioExecutor::new(), io);
    let (mut send, connection) = handshake.await.expect("a handshake");
    tokio::spawn(connection);
    let get = |path| request(format!("http://localhost{path}"));
    let response = send.send_request(get("/")).await.expect("an answer");
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "ok");
    let error = send.send_request(get("/frozen")).await.unwrap_err();
    assert!(HeartbeatError::find(&error).is_none(), "document it anew");
    assert_eq!(handle.failure(), Some(Failure::ReadTimeout));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_reads_is_a_stalled_write() {
    let (io, _far) = limited(writes);
    let (mut send, connection) = http1::handshake(io).await.expect("no bytes yet");
    tokio::spawn(connection);
    let body = Full::new(Bytes::from(vec![7; 1 << 20]));
    let began = Instant::now();
    let error = send.send_request(Request::post("/").body(body).expect("a request"));
    let error = error.await.unwrap_err();
    let cause = HeartbeatError::find(&error).expect("typed");
    assert_eq!(cause.failure(), Failure::WriteTimeout);
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test]
async fn vectored_writes_stay_vectored_for_hyper() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let socket = tokio::net::TcpStream::connect(address).await;
    let limits = Limits::builder().idle_timeout(Duration::from_secs(60));
    let limits = limits.build().expect("legal settings");
    let mut io = LimitedIo::new(TokioIo::new(socket.expect("connected")), limits);
    assert!(io.is_write_vectored());
    let slices = [io::IoSlice::new(b"ab"), io::IoSlice::new(b"cd")];
    let written = std::future::poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &slices));
    assert_eq!(written.await.expect("written"), 4);
}

/// The bounds of tonic's `Endpoint::connect_with_connector`.
fn fits_tonic<C>(_: &C)
where
    C: tower::Service<Uri> + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    C::Future: Send,
    C::Error: Into<tower_heartbeat::BoxError> + Send,
{
}

type Legacy = Client<Limit<HttpConnector>, Empty<Bytes>>;

fn client(limits: Limits) -> Legacy {
    let connector = Limit::new(HttpConnector::new(), limits);
    fits_tonic(&connector);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Answers the first request of its connection and freezes on the second.
async fn freezing() -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                let read = socket.read(&mut buffer).await?;
                assert_ne!(read, 0, "a request comes");
                socket.write_all(OK).await?;
                std::future::pending::<io::Result<()>>().await
            });
        }
    });
    format!("http://{address}/").parse().expect("a URI")
}

async fn exchange(client: &Legacy, uri: &Uri) -> Result<Option<IoHandle>, ClientError> {
    let mut response = client.request(request(uri.clone())).await?;
    let handle = response.extensions_mut().remove();
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "ok");
    Ok(handle)
}

#[tokio::test]
async fn hyper_utils_client_tells_the_cause_and_connects_anew() {
    let uri = freezing().await;
    let limit = Duration::from_millis(300);
    let limits = Limits::builder()
        .read_timeout(limit)
        .read_when(ReadWhen::AfterWrite);
    let client = client(limits.build().expect("legal settings"));

    let handle = exchange(&client, &uri).await.expect("an answer");
    let handle = handle.expect("the response carries it");
    // The pooled connection outlives the limit: no answer is waited for.
    tokio::time::sleep(limit * 2).await;
    assert_eq!(handle.failure(), None);

    let began = Instant::now();
    let error = exchange(&client, &uri).await.unwrap_err();
    assert!(began.elapsed() >= limit - crate::MILLISECOND);
    assert!(began.elapsed() < limit * 20);
    assert!(error.source().is_some());
    let cause = HeartbeatError::find(&error).expect("typed");
    assert_eq!(cause.failure(), Failure::ReadTimeout);
    assert_eq!(cause.stage(), Stage::AwaitingResponse);
    assert_eq!(handle.failure(), Some(Failure::ReadTimeout));

    let anew = exchange(&client, &uri).await.expect("a new connection");
    assert_eq!(anew.expect("a handle").failure(), None);
}

#[tokio::test]
async fn a_pooled_connection_that_idles_too_long_leaves_the_pool() {
    let uri = freezing().await;
    let limits = Limits::builder().idle_timeout(Duration::from_millis(100));
    let client = client(limits.build().expect("legal settings"));
    let first = exchange(&client, &uri).await.expect("an answer");
    let first = first.expect("a handle");
    for _ in 0..500 {
        if first.failure().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(first.failure(), Some(Failure::IdleTimeout));
    let second = exchange(&client, &uri).await.expect("a new connection");
    assert_eq!(second.expect("a handle").failure(), None);
}
