//! Python's grpcio and its health service.

use http::Uri;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{BoxError, Service, ServiceBuilder, reconnect::Reconnect};
use tower_heartbeat::{
    Config, Failure, HeartbeatError, HeartbeatLayer, Stage,
    http::CompleteOnBody,
    hyper::http2::Connect,
    tonic::{StatusLayer, health},
};

use super::{
    peer::{MARGIN, Peer, Target},
    support::{secs, soon},
};

fn config() -> Config {
    Config::detect_within(secs(2)).expect("a legal bound")
}

fn origin() -> Uri {
    Uri::from_static("http://localhost")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_hyper_a_stream_and_a_call_are_told_in_time_and_reconnect_recovers() {
    let Some(peer) = Peer::grpcio() else {
        return;
    };
    let Some(other) = Peer::grpcio() else {
        return;
    };
    let target = Target::new(peer.address);
    let layer = HeartbeatLayer::new(config(), health().origin(origin()));
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .buffer(64)
        .service(Reconnect::new(Connect::new(target.connector(), layer), ()));
    let mut client = HealthClient::with_origin(stack, origin());

    dies(&mut client, &peer).await;
    peer.thaw();
    assert_serves(&mut client).await;

    dies(&mut client, &peer).await;
    target.turn_to(other.address);
    assert_serves(&mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_channel_of_tonics_a_stream_and_a_call_are_told_in_time() {
    let Some(peer) = Peer::grpcio() else {
        return;
    };
    let channel = Endpoint::from_shared(format!("http://{}", peer.address))
        .expect("a legal address")
        .connect()
        .await
        .expect("it listens");
    let heartbeat = HeartbeatLayer::new(config(), health()).completion(CompleteOnBody::default());
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .layer(heartbeat)
        .service(channel);
    let mut client = HealthClient::new(stack);
    dies(&mut client, &peer).await;
    let next = client.check(HealthCheckRequest::default()).await;
    let next = next.expect_err("it is dead");
    assert_eq!(seen(&next), dead_at(Stage::NotSent), "{next:?}");
}

/// Watches, lives, is frozen under the stream and a call, and dies.
async fn dies<S, B>(client: &mut HealthClient<S>, peer: &Peer)
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Status>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    assert_serves(client).await;
    let watching = client.watch(HealthCheckRequest::default()).await;
    let mut watching = watching.expect("an answer").into_inner();
    assert!(watching.message().await.expect("an item").is_some());
    // Several pings, beside a stream that is silent.
    sleep(secs(2)).await;
    assert_serves(client).await;

    let begin = Instant::now();
    peer.freeze();
    let call = client.check(HealthCheckRequest::default());
    let call = soon(secs(30), "an end", call).await.expect_err("frozen");
    assert_eq!(seen(&call), dead_at(Stage::AwaitingResponse), "{call:?}");
    let stream = watching.message().await.expect_err("frozen");
    assert_eq!(seen(&stream), dead_at(Stage::Streaming), "{stream:?}");
    let took = begin.elapsed();
    println!("grpcio: {took:?} from the freeze to the last verdict");
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");
}

async fn assert_serves<S, B>(client: &mut HealthClient<S>)
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Status>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    let check = client.check(HealthCheckRequest::default());
    let answer = soon(secs(30), "an answer", check).await;
    let answer = answer.expect("an answer").into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

fn seen(status: &Status) -> (Code, Option<(Failure, Stage)>) {
    let found = HeartbeatError::find(status);
    let found = found.map(|error| (error.failure(), error.stage()));
    (status.code(), found)
}

fn dead_at(stage: Stage) -> (Code, Option<(Failure, Stage)>) {
    (Code::Unavailable, Some((Failure::PongTimeout, stage)))
}
