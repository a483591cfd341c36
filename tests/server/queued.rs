//! Requests that wait for their service to be ready.

use std::{convert::Infallible, sync::Arc};

use hyper::Response;
use hyper_util::{rt::TokioExecutor, server::conn::auto, service::TowerToHyperService};
use tokio::sync::Semaphore;
use tower::{Layer, limit::GlobalConcurrencyLimitLayer, service_fn};
use tower_heartbeat::server::Phase;

use crate::support::{Client, Server, get, limits, ms, sleep};

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_its_service_is_in_flight() {
    for http2 in [false, true] {
        let limits = limits().idle_timeout(ms(300)).write_timeout(ms(500));
        let server = Server::new(limits.grace(ms(250)));
        let (io, client) = server.watched(1 << 20);
        let handle = io.handle();
        let places = Arc::new(Semaphore::new(1));
        let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&places));
        let service =
            service_fn(async |_| Ok::<_, Infallible>(Response::new(String::from("here"))));
        let service = TowerToHyperService::new(handle.counted(limit.layer(service)));
        let driver = tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let _end = builder.serve_connection(io, service).await;
        });
        let mut client = Client::over(client, http2).await;
        client.ask(get("/")).await.expect("an answer");

        // Others have the only place.
        let others = places.acquire().await.expect("open");
        let asked = tokio::spawn(async move { (client.ask(get("/")).await, client) });
        sleep(2_000).await;
        assert_eq!(handle.phase(), Phase::Serving, "http2 {http2}");
        assert_eq!(handle.in_flight(), 1);
        drop(others);
        let (answer, _client) = asked.await.expect("no panic");
        assert_eq!(answer.expect("an answer"), "here");
        assert_eq!(handle.in_flight(), 0);

        let begun = server.now();
        driver.await.expect("no panic");
        assert_eq!(server.now() - begun, ms(300), "idle from the answer on");
    }
}
