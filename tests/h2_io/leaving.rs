//! Servers that leave, in good order or not.

use std::{convert::Infallible, future::poll_fn, io, pin::pin, task::Poll, time::Duration};

use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http2,
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::oneshot,
    time::{sleep, timeout},
};
use tower_heartbeat::{Failure, Handle, h2_io::PingIo};

use super::{
    server::{get, second},
    support::peer::millis,
};

/// A server that leaves when it is told to, as soon as its requests are answered.
fn serve(far: DuplexStream) -> oneshot::Sender<()> {
    let (leave, mut told) = oneshot::channel();
    let answer = service_fn(|request: Request<Incoming>| async move {
        let wait = request.uri().path()[1..].parse().expect("milliseconds");
        sleep(Duration::from_millis(wait)).await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"here"))))
    });
    tokio::spawn(async move {
        let builder = server::Builder::new(TokioExecutor::new());
        let mut connection = pin!(builder.serve_connection(TokioIo::new(far), answer));
        let mut stays = true;
        poll_fn(|cx| {
            if stays && pin!(&mut told).poll(cx) == Poll::Ready(Ok(())) {
                stays = false;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await
    });
    leave
}

async fn shake_hands(near: DuplexStream) -> (http2::SendRequest<Empty<Bytes>>, Handle, Ended) {
    let io = PingIo::client(near, second());
    let handle = io.handle();
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
    let (send, connection) = connected.expect("a handshake");
    (send, handle, tokio::spawn(connection))
}

type Ended = tokio::task::JoinHandle<hyper::Result<()>>;

/// hyper says twice that it leaves, with a PING between: first that it will, then up to which stream.
#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_in_good_order_answers_and_is_pinged_until_then() {
    let (near, far) = duplex(64 * 1024);
    let leave = serve(far);
    let (mut send, handle, connection) = shake_hands(near).await;
    let slow = tokio::spawn(send.send_request(get("10000")));
    sleep(millis(3_000)).await;
    let before = handle.pongs();
    leave.send(()).expect("it is there");
    let slow = slow.await.expect("no panic").expect("it was there before");
    let body = slow.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "here");
    assert!(handle.pongs() >= before + 5, "{}", handle.pongs());
    connection.await.expect("no panic").expect("a good end");
    assert!(matches!(
        handle.failure(),
        Some(Failure::Transport | Failure::Closed)
    ));
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_right_after_accepting_is_the_transports_end_and_no_verdict() {
    for said in [&b""[..], b"\0\0\0\x04\0\0\0\0\0"] {
        for reads_on in [false, true] {
            let (near, mut far) = duplex(64 * 1024);
            far.write_all(said).await.expect("it is taken");
            far.shutdown().await.expect("it closes");
            let far = reads_on.then_some(far);
            let io = PingIo::client(near, second());
            let handle = io.handle();
            let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
            let told = if let Ok((mut send, connection)) = connected {
                tokio::spawn(connection);
                let answer = timeout(millis(1), send.send_request(get("0")));
                let error = answer.await.expect("at once");
                format!("{:?}", error.expect_err("nobody is there"))
            } else {
                String::new()
            };
            assert!(!told.contains("heartbeat"), "{told}");
            assert_eq!(handle.failure(), Some(Failure::Transport));
            assert_eq!(handle.pings(), 0);
            drop(far);
        }
    }
}

/// Whatever it says or does not say before, nobody waits longer than the bound.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_twice_that_it_leaves_and_then_freezes_is_found_in_time() {
    let (near, mut far) = duplex(64 * 1024);
    let (mut send, handle, connection) = shake_hands(near).await;
    let call = tokio::spawn(send.send_request(get("0")));
    tokio::spawn(async move {
        far.write_all(b"\0\0\0\x04\0\0\0\0\0").await?;
        for last in [0x7fff_ffff_u32, 1] {
            far.write_all(b"\0\0\x08\x07\0\0\0\0\0").await?;
            far.write_all(&last.to_be_bytes()).await?;
            far.write_all(&[0; 4]).await?;
        }
        let mut bytes = [0; 1024];
        while far.read(&mut bytes).await? > 0 {}
        io::Result::Ok(())
    });
    let call = timeout(millis(1_001), call).await.expect("in time");
    call.expect("no panic").expect_err("it is frozen");
    assert_eq!(handle.failure(), Some(Failure::PongTimeout));
    let _ = connection.await.expect("no panic");
}
