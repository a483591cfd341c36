//! Whose end an error above the client is.

use std::convert::Infallible;

use http::Request;
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{
    Error, Failure, Handle, Stage,
    h2_io::{Attribution, PingIo, PingLayer},
};

use super::{
    server::{Frozen, SendRequest, get, second, serve, shake_hands},
    support::frames::{PING, SETTINGS, frame, go_away},
};

/// A connection of `pings`, by a connector whose target doesn't matter.
pub(crate) async fn connection_of(pings: &PingLayer) -> (SendRequest, Frozen) {
    let (send, _, frozen) = connection_with_handle(pings).await;
    (send, frozen)
}

pub(crate) async fn connection_with_handle(pings: &PingLayer) -> (SendRequest, Handle, Frozen) {
    let (near, frozen) = serve();
    let io = over(pings, near).await;
    let handle = io.handle();
    (shake_hands(TokioIo::new(io)).await, handle, frozen)
}

async fn over(pings: &PingLayer, near: DuplexStream) -> PingIo<DuplexStream> {
    let mut near = Some(near);
    let connector = pings.layer(service_fn(move |()| {
        let near = near.take().expect("once");
        async move { Ok::<_, Infallible>(near) }
    }));
    connector.oneshot(()).await.expect("a connection")
}

/// What a client that uses `connections` in the order of their paths' last part gets for `path`.
pub(crate) async fn end_of<S>(client: &mut Attribution<S>, path: &str) -> Option<(Failure, Stage)>
where
    S: Service<Request<Empty<Bytes>>, Response = http::Response<hyper::body::Incoming>>,
    S::Error: Into<BoxError>,
{
    let error = client.call(get(path)).await.expect_err("an error");
    match error {
        Error::Heartbeat(end) => Some((end.failure(), end.stage())),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_connections_the_one_that_ended_explains_its_own_calls_only() {
    let pings = PingLayer::new(second());
    let (one, frozen) = connection_of(&pings).await;
    let (two, _line) = connection_of(&pings).await;
    let client = service_fn(move |request: Request<_>| {
        let on_one = request.uri().path().ends_with("one");
        let mut send = if on_one { one.clone() } else { two.clone() };
        async move { send.send_request(request).await }
    });
    let mut client = pings.attribution().layer(client);
    frozen.send_replace(true);
    let mut other = client.clone();
    let (on_one, on_two) = tokio::join!(
        end_of(&mut client, "never/one"),
        end_of(&mut other, "5000/reset/two"),
    );
    let dead = (Failure::PongTimeout, Stage::AwaitingResponse);
    assert_eq!(on_one, Some(dead));
    assert_eq!(on_two, None, "its own connection lives");
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_call_explains_nothing() {
    let pings = PingLayer::new(second());
    let (mut one, frozen) = connection_of(&pings).await;
    frozen.send_replace(true);
    one.send_request(get("0")).await.expect_err("it is frozen");
    drop(one);
    let (two, _line) = connection_of(&pings).await;
    let client = service_fn(move |request: Request<_>| {
        let mut two = two.clone();
        async move { two.send_request(request).await }
    });
    let mut client = pings.attribution().layer(client);
    assert_eq!(end_of(&mut client, "0/reset").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_still_waiting_is_explained_by_the_only_connection() {
    let pings = PingLayer::new(second());
    let (one, frozen) = connection_of(&pings).await;
    let client = service_fn(move |request: Request<_>| {
        let mut one = one.clone();
        async move {
            drop(one.send_request(request).await);
            // As a client does that had not given it to the connection yet.
            Err::<http::Response<hyper::body::Incoming>, BoxError>("canceled".into())
        }
    });
    let mut client = pings.attribution().layer(client);
    frozen.send_replace(true);
    let end = end_of(&mut client, "0").await;
    assert_eq!(end, Some((Failure::PongTimeout, Stage::AwaitingResponse)));
}

#[tokio::test(start_paused = true)]
async fn a_complaint_about_pings_explains_the_calls_that_came_too_late_to_know_of_it() {
    let (near, far) = tokio::io::duplex(4096);
    let pings = PingLayer::new(second());
    let io = over(&pings, near).await;
    let handle = io.handle();
    let connected = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(io));
    let (_send, connection) = connected.await.expect("a handshake");
    let connection = tokio::spawn(connection);
    tokio::spawn(annoyed(far));
    assert_eq!(handle.closed().await, Failure::TooManyPings);

    // What the calls hear that hyper takes for this connection yet.
    let error = connection
        .await
        .expect("no panic")
        .expect_err("it is annoyed");
    let mut error = Some(error);
    let client = service_fn(move |_| {
        let error = error.take().expect("once");
        async move { Err::<http::Response<hyper::body::Incoming>, _>(error) }
    });
    let (other, _line) = connection_of(&pings).await;
    let mut client = pings.attribution().layer(client);
    let end = end_of(&mut client, "0").await;
    assert_eq!(end, Some((Failure::TooManyPings, Stage::AwaitingResponse)));
    drop(other);
}

/// Says so after the first PING.
async fn annoyed(mut far: DuplexStream) -> std::io::Result<()> {
    far.write_all(&frame(SETTINGS, 0, 0, b"")).await?;
    let mut bytes = [0; 1024];
    while !our_ping(&bytes) {
        let read = far.read(&mut bytes).await?;
        bytes[read..].fill(0);
    }
    far.write_all(&go_away(0, 11, b"too_many_pings")).await?;
    std::future::pending().await
}

fn our_ping(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0, 8, PING, 0])
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_client_had_for_a_dead_connection_is_explained_unless_another_closed() {
    #[derive(Clone, Copy, PartialEq)]
    enum Since {
        Nothing,
        Opened,
        Closed,
    }
    for since in [Since::Nothing, Since::Opened, Since::Closed] {
        let pings = PingLayer::new(second());
        let (mut one, frozen) = connection_of(&pings).await;
        frozen.send_replace(true);
        one.send_request(get("0")).await.expect_err("it is frozen");

        let layer = pings.attribution();
        let client = service_fn(move |_: Request<Empty<Bytes>>| {
            let pings = pings.clone();
            async move {
                let next = match since {
                    Since::Nothing => None,
                    Since::Opened | Since::Closed => Some(connection_of(&pings).await),
                };
                let next = next.filter(|_| since == Since::Opened);
                // It closes.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                let error = canceled().await;
                drop(next);
                Err::<http::Response<hyper::body::Incoming>, _>(error)
            }
        });
        let mut client = layer.layer(client);
        let end = end_of(&mut client, "0").await;
        let dead = (Failure::PongTimeout, Stage::NotSent);
        assert_eq!(end, (since != Since::Closed).then_some(dead));
    }
}

/// What hyper says to a call with which a connection that ends has not begun.
async fn canceled() -> hyper::Error {
    let (near, _far) = tokio::io::duplex(4096);
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(near))
        .await
        .expect("a handshake");
    let call = send.send_request(get("0"));
    drop(connection);
    let error = call.await.expect_err("nobody has it");
    assert!(error.is_canceled(), "{error:?}");
    error
}
