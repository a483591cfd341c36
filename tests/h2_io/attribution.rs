//! Whose end an error above the client is.

use std::convert::Infallible;

use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{
    Error, Failure, Stage,
    h2_io::{Attribution, PingIo, PingLayer},
};

use super::server::{Frozen, SendRequest, get, second, serve, shake_hands};

/// A connection of `pings`, by a connector whose target doesn't matter.
async fn connection(pings: &PingLayer) -> (SendRequest, Frozen) {
    let (near, frozen) = serve();
    let mut near = Some(near);
    let connector = pings.layer(service_fn(move |()| {
        let near = near.take().expect("once");
        async move { Ok::<_, Infallible>(near) }
    }));
    let io: PingIo<DuplexStream> = connector.oneshot(()).await.expect("a connection");
    (shake_hands(TokioIo::new(io)).await, frozen)
}

/// What a client that uses `connections` in the order of their paths' last part gets for `path`.
async fn end_of<S>(client: &mut Attribution<S>, path: &str) -> Option<(Failure, Stage)>
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
    let (one, frozen) = connection(&pings).await;
    let (two, _line) = connection(&pings).await;
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
    let (mut one, frozen) = connection(&pings).await;
    frozen.send_replace(true);
    one.send_request(get("0")).await.expect_err("it is frozen");
    drop(one);
    let (two, _line) = connection(&pings).await;
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
    let (one, frozen) = connection(&pings).await;
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
