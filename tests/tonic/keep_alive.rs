//! The keep-alive of an `Endpoint` beside the heartbeat of its channel.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tower_heartbeat::{Failure, Handle, HeartbeatLayer, Stage, tonic::HealthSource};

use super::{
    channel::plain,
    sockets::{Open, connect, layer, stack},
    support::{Site, dead_at, seen, within_a_second},
};

#[tokio::test(start_paused = true)]
async fn a_slower_keep_alive_of_the_endpoint_leaves_the_verdict_to_the_heartbeat() {
    let (site, _reporter) = Site::healthy();
    let (layer, made) = counted(layer());
    let bound = within_a_second().worst_case_detection();
    let endpoint = keep_alive(bound / 2 + MILLISECOND);
    let mut client = stack(connect(&site, &Open::default(), layer), endpoint);
    let check = HealthCheckRequest::default;
    let watching = client.watch(check()).await.expect("an answer");
    let mut watching = watching.into_inner();
    assert!(watching.message().await.expect("an item").is_some());

    site.freeze();
    let (call, stream) = tokio::join!(client.check(check()), watching.message());
    let (call, stream) = (call.expect_err("frozen"), stream.expect_err("frozen"));
    assert_eq!(seen(&call), dead_at(Stage::AwaitingResponse), "{call:?}");
    assert_eq!(seen(&stream), dead_at(Stage::Streaming), "{stream:?}");

    site.thaw();
    client.check(check()).await.expect("an answer");
    assert_eq!((site.connections(), made.lock().unwrap().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_faster_keep_alive_of_the_endpoint_fails_calls_untyped_and_reconnects_below() {
    let (site, _reporter) = Site::healthy();
    let (layer, made) = counted(layer());
    let each = MILLISECOND * 50;
    let mut client = stack(connect(&site, &Open::default(), layer), keep_alive(each));
    let check = HealthCheckRequest::default;
    let watching = client.watch(check()).await.expect("an answer");
    let mut watching = watching.into_inner();
    assert!(watching.message().await.expect("an item").is_some());

    site.freeze();
    let begin = Instant::now();
    let (call, stream) = tokio::join!(client.check(check()), watching.message());
    let (call, stream) = (call.expect_err("frozen"), stream.expect_err("frozen"));
    assert!(begin.elapsed() <= each * 2 + MILLISECOND);
    assert_eq!(seen(&call), (Code::Unavailable, None), "{call:?}");
    assert_eq!(seen(&stream), (Code::Unknown, None), "{stream:?}");

    site.thaw();
    client.check(check()).await.expect("an answer");
    assert_eq!(site.connections(), 2);
    let made = made.lock().unwrap();
    assert_eq!(made.len(), 1, "the channel reconnected by itself");
    assert_eq!(made[0].failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_that_is_first_while_a_ping_is_out_fails_the_ping_as_well() {
    let (site, _reporter) = Site::healthy();
    let (layer, made) = counted(layer());
    let config = within_a_second();
    // Between the first miss and the second.
    let each = (config.interval() + config.pong_timeout() * 3 / 2) / 2;
    let mut client = stack(connect(&site, &Open::default(), layer), keep_alive(each));
    let check = HealthCheckRequest::default;
    client.check(check()).await.expect("an answer");

    site.freeze();
    let call = client.check(check()).await.expect_err("frozen");
    assert_eq!(call.code(), Code::Unavailable, "{call:?}");
    let handle = made.lock().unwrap()[0].clone();
    assert_eq!(handle.closed().await, Failure::PingFailed);
    assert!(handle.missed() > 0);

    site.thaw();
    client.check(check()).await.expect("an answer");
    assert_eq!((site.connections(), made.lock().unwrap().len()), (2, 2));
}

fn keep_alive(each: Duration) -> Endpoint {
    plain()
        .http2_keep_alive_interval(each)
        .keep_alive_timeout(each)
        .keep_alive_while_idle(true)
}

/// The handles of the heartbeats that are made.
fn counted(
    layer: HeartbeatLayer<HealthSource>,
) -> (HeartbeatLayer<HealthSource>, Arc<Mutex<Vec<Handle>>>) {
    let made = Arc::<Mutex<Vec<Handle>>>::default();
    let handles = Arc::clone(&made);
    let layer = layer.on_connect(move |handle| handles.lock().unwrap().push(handle.clone()));
    (layer, made)
}

const MILLISECOND: Duration = Duration::from_millis(1);
