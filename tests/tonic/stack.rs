//! Stacks that recover by themselves.

use std::io;

use hyper_util::rt::TokioIo;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{ServiceBuilder, reconnect::Reconnect, service_fn};
use tower_heartbeat::{HeartbeatLayer, Stage, hyper::http2::Connect, tonic::StatusLayer};

use super::support::{Site, dead_at, origin, ping, seen, within_a_second};

#[tokio::test(start_paused = true)]
async fn a_stack_over_hyper_recovers_after_a_freeze() {
    let (site, _reporter) = Site::healthy();
    let there = site.clone();
    let connector = service_fn(move |()| {
        let there = there.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(there.connect())) }
    });
    let heartbeat = HeartbeatLayer::new(within_a_second(), ping());
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .buffer(64)
        .service(Reconnect::new(Connect::new(connector, heartbeat), ()));
    let mut client = HealthClient::with_origin(stack, origin());
    let check = HealthCheckRequest::default;
    client.check(check()).await.expect("an answer");
    client.check(check()).await.expect("an answer");
    assert_eq!(site.connections(), 1);

    site.freeze();
    let status = client.check(check()).await.expect_err("it is frozen");
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
    site.thaw();
    client.check(check()).await.expect("an answer");
    assert_eq!(site.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_come_about_is_unavailable() {
    let connector = service_fn(|()| async {
        Err::<TokioIo<tokio::io::DuplexStream>, _>(io::Error::other("no route"))
    });
    let heartbeat = HeartbeatLayer::new(within_a_second(), ping());
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .buffer(64)
        .service(Reconnect::new(Connect::new(connector, heartbeat), ()));
    let mut client = HealthClient::with_origin(stack, origin());
    let status = client.check(HealthCheckRequest::default()).await;
    let status = status.expect_err("nobody is there");
    assert_eq!(
        seen(&status),
        (tonic::Code::Unavailable, None),
        "{status:?}"
    );
}
