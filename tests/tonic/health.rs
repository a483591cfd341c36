//! What counts as an answer to a health check.

use std::{convert::Infallible, error::Error as _, io, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use h2::Reason;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    time::{Instant, timeout},
};
use tonic::{Code, Status, body::Body};
use tonic_health::ServingStatus;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};
use tower_heartbeat::{
    Config, Failure, Handle, HeartbeatError, HeartbeatLayer,
    hyper::http2::Connect,
    tonic::{HealthError, HealthSource, health},
};

use super::{
    channel::{channel, plain},
    support::{Site, origin, ping, secs, within_a_second},
};

/// The handle of a connection to a server that answers everything with `answer`.
async fn answered(
    ping: HealthSource,
    answer: impl Fn() -> Response<Body> + Clone + Send + 'static,
) -> Result<Duration, HeartbeatError> {
    let site = Site::serve(service_fn(move |_: Request<Body>| {
        let answer = answer();
        async move { Ok::<_, Infallible>(answer) }
    }));
    pinged(&site, ping).await
}

/// A server that answers as tonic's own do where they have no such service.
fn without_health() -> Site {
    Site::serve(service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Status::unimplemented("").into_http())
    }))
}

async fn pinged(site: &Site, ping: HealthSource) -> Result<Duration, HeartbeatError> {
    let channel = site.channel(within_a_second(), ping).await;
    let handle: Handle = channel.get_ref().handle();
    let rtt = handle.ping_now().await;
    if rtt.is_ok() {
        assert!(timeout(secs(30), handle.closed()).await.is_err());
    }
    rtt
}

fn reason(result: Result<Duration, HeartbeatError>) -> HealthError {
    let error = result.expect_err("no pong");
    assert_eq!(error.failure(), Failure::PingFailed, "{error:?}");
    let source = error.source().expect("a cause");
    *source
        .downcast_ref()
        .unwrap_or_else(|| panic!("{source:?}"))
}

fn grpc(message: &[u8], status: &'static str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().expect("a header"));
    let data = Frame::data(Bytes::copy_from_slice(message));
    body(vec![data, Frame::trailers(trailers)])
}

fn body(frames: Vec<Frame<Bytes>>) -> Response<Body> {
    let frames = frames.into_iter().map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
    let kind = "application/grpc".parse().expect("a header");
    response.headers_mut().insert("content-type", kind);
    response
}

#[tokio::test(start_paused = true)]
async fn serving_and_not_serving_are_signs_of_life() {
    let (site, reporter) = Site::healthy();
    pinged(&site, ping()).await.expect("a pong");
    pinged(&site, ping().expect_serving())
        .await
        .expect("a pong");
    let down = ServingStatus::NotServing;
    reporter.set_service_status("", down).await;
    pinged(&site, ping()).await.expect("a pong");
}

#[tokio::test(start_paused = true)]
async fn not_serving_ends_the_connection_where_serving_is_expected() {
    let (site, reporter) = Site::healthy();
    let down = ServingStatus::NotServing;
    reporter.set_service_status("", down).await;
    let error = reason(pinged(&site, ping().expect_serving()).await);
    assert!(matches!(error, HealthError::NotServing { status: 2, .. }));
    assert_eq!(error.to_string(), "service is not serving");
}

#[tokio::test(start_paused = true)]
async fn the_named_service_is_asked_for() {
    let (site, reporter) = Site::healthy();
    let (up, down) = (ServingStatus::Serving, ServingStatus::NotServing);
    reporter.set_service_status("files", up).await;
    reporter.set_service_status("", down).await;
    let strict = ping().expect_serving();
    let files = pinged(&site, strict.clone().service("files")).await;
    files.expect("a pong");
    let unknown = reason(pinged(&site, strict.service("nobody")).await);
    let not_found = Code::NotFound;
    assert!(matches!(unknown, HealthError::Refused { code, .. } if code == not_found));
    let unknown = pinged(&site, ping().service("nobody")).await;
    unknown.expect("the path is alive");
}

#[tokio::test(start_paused = true)]
async fn every_grpc_status_is_a_sign_of_life_unless_serving_is_expected() {
    for code in [Code::Unauthenticated, Code::Unavailable] {
        let answer = move || Status::new(code, "no").into_http();
        answered(ping(), answer).await.expect("a pong");
        let error = reason(answered(ping().expect_serving(), answer).await);
        assert!(matches!(error, HealthError::Refused { code: c, .. } if c == code));
    }
    answered(ping(), || grpc(&[], "5")).await.expect("a pong");
    answered(ping(), || grpc(b"junk", "0"))
        .await
        .expect("a pong");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_health_service_is_not_pinged_and_lives_on() {
    let site = without_health();
    let channel = site.channel(within_a_second(), ping()).await;
    let handle: Handle = channel.get_ref().handle();
    let error = handle.ping_now().await.expect_err("no pong");
    assert_eq!(error.failure(), Failure::Unsupported);
    assert!(!handle.can_ping());
    assert_eq!(handle.last_heard(), Instant::now(), "but a sign of life");

    // Nobody would notice if it froze.
    site.freeze();
    assert!(timeout(secs(30), handle.closed()).await.is_err());
    assert_eq!(handle.pings(), 1);
}

#[tokio::test(start_paused = true)]
async fn unimplemented_at_the_head_or_in_the_trailers_stops_the_pings() {
    let at_the_head = || Status::unimplemented("").into_http();
    let in_the_trailers = || grpc(&[], "12");
    for error in [
        answered(ping(), at_the_head).await,
        answered(ping(), in_the_trailers).await,
    ] {
        assert_eq!(error.expect_err("no pong").failure(), Failure::Unsupported);
    }
    let reason = HealthError::Unimplemented.to_string();
    assert_eq!(reason, "peer has no gRPC health service");
}

#[tokio::test(start_paused = true)]
async fn unimplemented_is_a_pong_where_it_is_accepted() {
    let site = without_health();
    pinged(&site, ping().accept_unimplemented())
        .await
        .expect("a pong");

    let channel = site.channel(within_a_second(), ping().accept_unimplemented());
    let channel = channel.await;
    let handle: Handle = channel.get_ref().handle();
    handle.ping_now().await.expect("a pong");
    site.freeze();
    assert_eq!(handle.closed().await, Failure::PongTimeout);
}

#[tokio::test(start_paused = true)]
async fn unimplemented_fails_the_ping_where_serving_is_expected_accepted_or_not() {
    for ping in [
        ping().expect_serving(),
        ping().expect_serving().accept_unimplemented(),
        ping().accept_unimplemented().expect_serving(),
    ] {
        let error = reason(answered(ping, || Status::unimplemented("").into_http()).await);
        let unimplemented = Code::Unimplemented;
        assert!(matches!(error, HealthError::Refused { code, .. } if code == unimplemented));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_grpc_fails_the_ping() {
    let page = |status: StatusCode, page: &'static str| {
        let mut response = Response::new(Body::new(Full::new(Bytes::from_static(page.as_bytes()))));
        *response.status_mut() = status;
        response
    };
    let gateway = StatusCode::BAD_GATEWAY;
    for (expected, text) in [
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, ""),
        (StatusCode::NOT_FOUND, "nothing here"),
        (gateway, "bad gateway"),
    ] {
        let error = reason(answered(ping(), move || page(expected, text)).await);
        assert!(
            matches!(error, HealthError::NotGrpc { status, .. } if status == expected),
            "{error:?}"
        );
    }
    let no_status = || body(vec![Frame::trailers(HeaderMap::new())]);
    let error = reason(answered(ping(), no_status).await);
    assert!(matches!(error, HealthError::NotGrpc { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_end_fails_the_ping() {
    let endless = |size: usize| {
        move || {
            let data = Bytes::from(vec![0; size]);
            let frames =
                stream::repeat_with(move || Ok::<_, Infallible>(Frame::data(data.clone())));
            Response::new(Body::new(StreamBody::new(frames)))
        }
    };
    for size in [1, 1000, 10_000] {
        let error = reason(answered(ping(), endless(size)).await);
        assert!(matches!(error, HealthError::NotGrpc { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_small_pieces_is_put_together() {
    let pieces = || {
        let mut frames: Vec<_> = [0, 0, 0, 0, 2, 8, 1]
            .map(|byte| Frame::data(Bytes::copy_from_slice(&[byte])))
            .into();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a header"));
        frames.push(Frame::trailers(trailers));
        body(frames)
    };
    let strict = ping().expect_serving();
    answered(strict.clone(), pieces).await.expect("a pong");
    for message in [&b"junk"[..], &[1, 0, 0, 0, 2, 8, 1], &[]] {
        let message = message.to_vec();
        let answer = move || grpc(&message, "0");
        let error = reason(answered(strict.clone(), answer).await);
        assert_eq!(error, HealthError::Malformed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_is_one_of_grpc() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let site = Site::serve(BoxCloneService::new(service_fn(
        move |request: Request<Body>| {
            let (parts, _) = request.into_parts();
            seen.send(parts).expect("the test waits");
            async { Ok(Status::new(Code::Ok, "").into_http()) }
        },
    )));
    pinged(&site, ping()).await.expect("a pong");
    let request = requests.recv().await.expect("a request");
    assert_eq!(request.method, "POST");
    let uri = request.uri.to_string();
    assert_eq!(uri, "http://localhost/grpc.health.v1.Health/Check");
    assert_eq!(request.headers["content-type"], "application/grpc");
    assert_eq!(request.headers["te"], "trailers");
}

#[tokio::test(start_paused = true)]
async fn a_ping_without_an_origin_works_on_a_channel_of_tonics() {
    let (site, _reporter) = Site::healthy();
    let channel = channel(&site, plain()).await;
    let service = HeartbeatLayer::new(Config::default(), health()).layer(channel);
    service.handle().ping_now().await.expect("a pong");
}

/// A server that resets the stream of each request, with or without a head.
fn resetting(with_head: bool) -> DuplexStream {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(far).await.expect("a client");
        while let Some(request) = connection.accept().await {
            let (_, mut respond) = request.expect("a request");
            if with_head {
                let mut body = respond.send_response(Response::new(()), false);
                body.as_mut()
                    .expect("open")
                    .send_reset(Reason::REFUSED_STREAM);
            } else {
                respond.send_reset(Reason::REFUSED_STREAM);
            }
        }
    });
    near
}

#[tokio::test(start_paused = true)]
async fn a_reset_by_the_peer_is_a_sign_of_life_unless_serving_is_expected() {
    for with_head in [false, true] {
        for strict in [false, true] {
            let connector = service_fn(move |_| async move {
                Ok::<_, io::Error>(TokioIo::new(resetting(with_head)))
            });
            let channel = plain().connect_with_connector(connector).await;
            let ping = ping();
            let ping = if strict { ping.expect_serving() } else { ping };
            let layer = HeartbeatLayer::new(within_a_second(), ping);
            let on_channel = layer.layer(channel.expect("a connection"));
            let on_connection = Connect::<_, _, Body>::new(connector, layer);
            let on_connection = on_connection.oneshot(origin()).await.expect("a connection");
            for handle in [on_channel.handle(), on_connection.handle()] {
                let pong = handle.ping_now().await;
                assert_eq!(pong.is_err(), strict, "head {with_head}: {pong:?}");
            }
        }
    }
}
