//! A server freezes: each kind of call, and the next one.

use futures_util::stream;
use http::uri::PathAndQuery;
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tower_heartbeat::Stage;

use super::support::{Channel, Site, UPLOAD, dead_at, origin, ping, secs, seen, within_a_second};

async fn client(site: &Site) -> HealthClient<Channel> {
    let channel = site.channel(within_a_second(), ping()).await;
    let mut client = HealthClient::with_origin(channel, origin());
    let health = client.check(HealthCheckRequest::default()).await;
    let health = health.expect("an answer").into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    client
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_and_the_next_one_are_unavailable_and_typed() {
    let (site, _reporter) = Site::healthy();
    let mut client = client(&site).await;
    site.freeze();
    let begin = Instant::now();
    let status = client.check(HealthCheckRequest::default()).await;
    let status = status.expect_err("it is frozen");
    let bound = within_a_second().worst_case_detection();
    assert!(begin.elapsed() <= bound, "{:?}", begin.elapsed());
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
    assert!(status.message().contains("did not answer a ping"));

    for _ in 0..2 {
        let next = client.check(HealthCheckRequest::default()).await;
        let next = next.expect_err("it is dead");
        assert_eq!(seen(&next), dead_at(Stage::NotSent), "{next:?}");
    }
    let clone = client.clone().check(HealthCheckRequest::default()).await;
    let clone = clone.expect_err("it is dead");
    assert_eq!(seen(&clone), dead_at(Stage::NotSent), "{clone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_from_the_server_is_unavailable_and_typed() {
    let (site, _reporter) = Site::healthy();
    let mut client = client(&site).await;
    let stream = client.watch(HealthCheckRequest::default()).await;
    let mut stream = stream.expect("an answer").into_inner();
    assert!(stream.message().await.expect("an item").is_some());
    site.freeze();
    let status = stream.message().await.expect_err("it is frozen");
    assert_eq!(seen(&status), dead_at(Stage::Streaming), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_to_the_server_is_unavailable_and_typed() {
    let (site, _reporter) = Site::healthy();
    client(&site).await;
    let channel = site.channel(within_a_second(), ping()).await;
    let mut grpc = tonic::client::Grpc::with_origin(channel, origin());
    grpc.ready().await.expect("it is alive");
    let uploads = stream::unfold((), |()| async {
        sleep(secs(1) / 10).await;
        Some((HealthCheckRequest::default(), ()))
    });
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static(UPLOAD);
    let call = grpc.client_streaming(Request::new(uploads), path, codec);
    let mut call = std::pin::pin!(call);
    let early = timeout(secs(20), call.as_mut()).await;
    assert!(early.is_err(), "an upload is no reason to end: {early:?}");
    site.freeze();
    let status = call.await.expect_err("it is frozen");
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_died_idle_fails_the_next_call_with_its_type() {
    let (site, _reporter) = Site::healthy();
    let mut client = client(&site).await;
    site.freeze();
    sleep(secs(5)).await;
    let status = client.check(HealthCheckRequest::default()).await;
    let status = status.expect_err("it is dead");
    assert_eq!(seen(&status), dead_at(Stage::NotSent), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_from_a_living_server_goes_on() {
    let (site, reporter) = Site::healthy();
    let mut client = client(&site).await;
    let stream = client.watch(HealthCheckRequest::default()).await;
    let mut stream = stream.expect("an answer").into_inner();
    assert!(stream.message().await.expect("an item").is_some());
    sleep(secs(60)).await;
    let down = tonic_health::ServingStatus::NotServing;
    reporter.set_service_status("", down).await;
    let item = stream.message().await.expect("no error").expect("an item");
    assert_eq!(item.status(), ServingStatus::NotServing);
}
