//! Calls that wait for a service to be ready.

use std::{io, sync::Arc};

use futures_util::stream::{self, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tonic::transport::{Endpoint, Server, Uri};
use tower::{Layer, limit::GlobalConcurrencyLimitLayer, service_fn};
use tower_heartbeat::server::{Connections, Limits, tonic::CountLayer};

use crate::support::{call, ms, service, sleep};

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_service_is_not_stalled() {
    let limits = Limits::builder().write_timeout(ms(500));
    let connections = Connections::new(limits.build().expect("legal"));
    let places = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&places));
    let (near, far) = tokio::io::duplex(1 << 20);
    let incoming = stream::iter([Ok::<_, io::Error>(near)]).chain(stream::pending());
    let server = Server::builder()
        .layer(CountLayer::new())
        .serve_with_incoming(limit.layer(service()), connections.watch_incoming(incoming));
    tokio::spawn(server);
    let mut far = Some(far);
    let connector = service_fn(move |_: Uri| {
        let io = far.take().ok_or(io::ErrorKind::NotConnected);
        async move { io.map(TokioIo::new).map_err(io::Error::from) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let mut channel = endpoint.connect_with_connector_lazy(connector);
    call(&mut channel, "/test/slow/1").await.expect("an answer");

    // Others have the only place.
    let others = places.acquire().await.expect("open");
    let asked = tokio::spawn(async move { call(&mut channel, "/test/slow/1").await });
    sleep(2_000).await;
    drop(others);
    assert_eq!(asked.await.expect("no panic").expect("an answer"), "slow");
}
