//! gRPC: health checks go on beside what is slow, and beside nothing where the server takes one call
//! at a time.

use std::{convert::Infallible, num::NonZeroU32};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, uri::PathAndQuery};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status, body::Body, client::Grpc, transport::Server};
use tonic_health::{
    pb::{HealthCheckRequest, HealthCheckResponse},
    server::health_reporter,
};
use tonic_prost::ProstCodec;
use tower::{BoxError, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_heartbeat::{Config, Failure, Stage};

use super::site::{Site, dead_at, origin, ping, secs, seen, within_a_second};

/// Answers after ten seconds.
const WAIT: &str = "/test.Slow/Wait";
/// Answers with [`ITEMS`] messages, as fast as they are taken.
pub(crate) const MANY: &str = "/test.Slow/Many";

pub(crate) const ITEMS: usize = 4_000;
/// A message of 1024 bytes: its head, and a field of protobuf that nobody knows.
const ITEM: usize = 5 + 3 + 1021;

pub(crate) fn slow(server: Server) -> Site {
    let (_reporter, health) = health_reporter();
    let service = service_fn(move |request: Request<Body>| {
        let health = health.clone();
        async move {
            Ok::<_, Infallible>(match request.uri().path() {
                WAIT => {
                    sleep(secs(10)).await;
                    Status::new(Code::Ok, "at last").into_http()
                }
                MANY => Response::builder()
                    .header("content-type", "application/grpc")
                    .body(items())
                    .expect("a legal response"),
                _ => health.oneshot(request).await?,
            })
        }
    });
    Site::serve_as(server, BoxCloneService::new(service))
}

fn items() -> Body {
    let items = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(item()))).take(ITEMS);
    let status = Status::new(Code::Ok, "").into_http::<()>();
    let trailers = stream::once(async move { Ok(Frame::trailers(status.headers().clone())) });
    Body::new(StreamBody::new(items.chain(trailers)))
}

fn item() -> Bytes {
    let mut item = vec![0, 0, 0, 4, 0, 0x7a, 0xfd, 0x07];
    item.resize(ITEM, 7);
    item.into()
}

pub(crate) fn request() -> tonic::Request<HealthCheckRequest> {
    tonic::Request::new(HealthCheckRequest::default())
}

pub(crate) fn codec() -> ProstCodec<HealthCheckRequest, HealthCheckResponse> {
    ProstCodec::default()
}

pub(crate) async fn wait<S, B>(channel: S) -> Status
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    let mut grpc = Grpc::with_origin(channel, origin());
    grpc.ready().await.expect("it is alive");
    let answer = grpc.unary(request(), PathAndQuery::from_static(WAIT), codec());
    // OK, and no message: tonic says so of a call that asked for one.
    answer.await.expect_err("no message in it")
}

pub(crate) fn at_last(status: &Status) -> bool {
    status.code() != Code::Unavailable && seen(status).1.is_none()
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_ten_seconds_survives_a_bound_of_one() {
    let site = slow(Server::builder());
    let channel = site.channel(within_a_second(), ping()).await;
    let begin = Instant::now();
    let status = wait(channel).await;
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert!(at_last(&status), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_reader_pauses_for_ten_seconds_survives() {
    let site = slow(Server::builder());
    let channel = site.channel(within_a_second(), ping()).await;
    let mut grpc = Grpc::with_origin(channel, origin());
    grpc.ready().await.expect("it is alive");
    let path = PathAndQuery::from_static(MANY);
    let stream = grpc.server_streaming(request(), path, codec()).await;
    let mut stream = stream.expect("an answer").into_inner();
    assert!(stream.message().await.expect("an item").is_some());
    sleep(secs(10)).await;
    let mut left = ITEMS - 1;
    while stream.message().await.expect("no error").is_some() {
        left -= 1;
    }
    assert_eq!(left, 0);
}

#[tokio::test(start_paused = true)]
async fn one_slow_call_at_a_limit_of_one_survives_where_the_ping_was_told() {
    let told = ping().max_concurrent_requests(NonZeroU32::MIN);
    let site = slow(Server::builder().max_concurrent_streams(1));
    let channel = site.channel(within_a_second(), told).await;
    for _ in 0..2 {
        let status = wait(channel.clone()).await;
        assert!(at_last(&status), "{status:?}");
        // Between them it is watched.
        sleep(secs(3)).await;
    }
    site.freeze();
    let status = timeout(secs(5), wait(channel)).await;
    status.expect_err("nothing but a quiet limit would find it under a call");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_freezes_between_calls_at_a_limit_of_one_is_found() {
    let told = ping().max_concurrent_requests(NonZeroU32::MIN);
    let site = slow(Server::builder().max_concurrent_streams(1));
    let channel = site.channel(within_a_second(), told).await;
    wait(channel.clone()).await;
    site.freeze();
    sleep(within_a_second().worst_case_detection()).await;
    let status = wait(channel).await;
    assert_eq!(seen(&status), dead_at(Stage::NotSent), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn the_quiet_limit_finds_a_server_that_freezes_under_the_one_call_it_takes() {
    let config = Config::builder()
        .detect_within(secs(1))
        .quiet_timeout(secs(20))
        .build()
        .expect("legal settings");
    let told = ping().max_concurrent_requests(NonZeroU32::MIN);
    let site = slow(Server::builder().max_concurrent_streams(1));
    let channel = site.channel(config, told).await;
    wait(channel.clone()).await;
    site.freeze();
    let begin = Instant::now();
    let status = wait(channel).await;
    let dead = (Failure::ReadTimeout, Stage::AwaitingResponse);
    assert_eq!(seen(&status), (Code::Unavailable, Some(dead)), "{status:?}");
    assert_eq!(begin.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_was_not_told_waits_behind_the_one_slow_call_and_convicts() {
    let site = slow(Server::builder().max_concurrent_streams(1));
    let channel = site.channel(within_a_second(), ping()).await;
    let status = wait(channel).await;
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
}
