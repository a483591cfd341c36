//! Limits on the bytes, below a `Channel` of tonic's that connects by itself.

use std::{
    io,
    sync::{Arc, Mutex},
};

use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{ServiceExt, service_fn};
use tower_heartbeat::{
    Failure,
    io::{IoHandle, Limit, Limits, ReadWhen},
};
use turmoil::{Builder, hold, partition, partition_oneway, release, repair};

use super::{
    client::{Stack, dial},
    server::{HOST, serve},
    support::{millis, secs},
};

#[test]
fn a_silent_link_fails_the_io_in_time_and_the_channel_connects_anew() {
    for fault in [
        || hold(CLIENT, HOST),
        || partition(CLIENT, HOST),
        || partition_oneway(CLIENT, HOST),
        || partition_oneway(HOST, CLIENT),
    ] {
        let mut simulation = Builder::new()
            .rng_seed(1)
            .simulation_duration(secs(30))
            .build();
        simulation.host(HOST, || serve(Stack::Grpc));
        simulation.client(CLIENT, recovers(fault));
        simulation.run().expect("it recovers");
    }
}

const CLIENT: &str = "client";

async fn recovers(fault: fn()) -> turmoil::Result {
    let limits = Limits::builder()
        .read_timeout(secs(1))
        .read_when(ReadWhen::AfterWrite)
        .build()?;
    let handles = Arc::new(Mutex::new(Vec::<IoHandle>::new()));
    let connector = Limit::new(service_fn(|_| dial()), limits);
    let kept = Arc::clone(&handles);
    let connector = service_fn(move |uri: http::Uri| {
        let kept = Arc::clone(&kept);
        async move {
            let io = connector.oneshot(uri).await?;
            kept.lock().expect("no panic").push(io.handle());
            Ok::<_, io::Error>(TokioIo::new(io))
        }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await?;
    let mut client = HealthClient::new(channel);
    client.check(HealthCheckRequest::default()).await?;

    fault();
    let begin = Instant::now();
    let call = client.check(HealthCheckRequest::default());
    let status = timeout(secs(5), call).await.expect("in time");
    status.expect_err("nobody answers");
    assert!(begin.elapsed() <= millis(1_005), "{:?}", begin.elapsed());
    let first = handles.lock().expect("no panic")[0].failure();
    assert_eq!(first, Some(Failure::ReadTimeout));

    release(CLIENT, HOST);
    repair(CLIENT, HOST);
    client.check(HealthCheckRequest::default()).await?;
    assert_eq!(handles.lock().expect("no panic").len(), 2);
    Ok(())
}
