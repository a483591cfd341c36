//! A heartbeat around a channel of tonic's.

use std::io;

use hyper_util::rt::TokioIo;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{ServiceBuilder, service_fn};
use tower_heartbeat::{
    Heartbeat, HeartbeatLayer, Stage,
    http::CompleteOnBody,
    tonic::{StatusLayer, StatusService, health},
};

use super::support::{Site, dead_at, secs, seen, within_a_second};

pub(crate) fn plain() -> Endpoint {
    Endpoint::from_static("http://localhost")
}

/// A channel of tonic's to the site.
pub(crate) async fn channel(site: &Site, endpoint: Endpoint) -> Channel {
    let site = site.clone();
    let connector = service_fn(move |_| {
        let site = site.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(site.connect())) }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    channel.expect("a connection")
}

type Client = HealthClient<StatusService<Heartbeat<Channel, CompleteOnBody>>>;

async fn client(site: &Site, endpoint: Endpoint) -> Client {
    let heartbeat =
        HeartbeatLayer::new(within_a_second(), health()).completion(CompleteOnBody::default());
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .layer(heartbeat)
        .service(channel(site, endpoint).await);
    HealthClient::new(stack)
}

#[tokio::test(start_paused = true)]
async fn a_call_a_stream_and_the_next_call_are_typed() {
    let (site, _reporter) = Site::healthy();
    let mut client = client(&site, plain()).await;
    let watching = client.watch(HealthCheckRequest::default()).await;
    let mut watching = watching.expect("an answer").into_inner();
    assert!(watching.message().await.expect("an item").is_some());
    sleep(secs(10)).await;

    site.freeze();
    let call = client.check(HealthCheckRequest::default()).await;
    let call = call.expect_err("it is frozen");
    assert_eq!(seen(&call), dead_at(Stage::AwaitingResponse), "{call:?}");
    let stream = watching.message().await.expect_err("it is frozen");
    assert_eq!(seen(&stream), dead_at(Stage::Streaming), "{stream:?}");
    let next = client.check(HealthCheckRequest::default()).await;
    let next = next.expect_err("it is dead");
    assert_eq!(seen(&next), dead_at(Stage::NotSent), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slower_keep_alive_of_the_endpoint_leaves_the_verdict_to_the_heartbeat() {
    let (site, _reporter) = Site::healthy();
    let endpoint = plain()
        .http2_keep_alive_interval(secs(1))
        .keep_alive_timeout(secs(1))
        .keep_alive_while_idle(true);
    let mut client = client(&site, endpoint).await;
    let watching = client.watch(HealthCheckRequest::default()).await;
    let mut watching = watching.expect("an answer").into_inner();
    assert!(watching.message().await.expect("an item").is_some());
    sleep(secs(10)).await;

    site.freeze();
    let stream = watching.message().await.expect_err("it is frozen");
    assert_eq!(seen(&stream), dead_at(Stage::Streaming), "{stream:?}");
    sleep(secs(10)).await;
    let next = client.check(HealthCheckRequest::default()).await;
    let next = next.expect_err("it is dead");
    assert_eq!(seen(&next), dead_at(Stage::NotSent), "{next:?}");
}
