//! Many calls at once on one channel with PINGs below it, over freezes and thaws, on several threads.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hyper_util::rt::TokioIo;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_heartbeat::{Config, Failure, Handle, Stage, h2_io::PingLayer, tonic::StatusLayer};

use super::{
    channel::plain,
    support::{Site, secs, seen},
};

const CALLERS: u64 = 64;
const FREEZES: usize = 4;

/// In real time, so that calls are everywhere when the end comes: in a stream, in the queue of the connection, in
/// that of the channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_that_a_freeze_fails_says_so_wherever_it_was() {
    let (site, _reporter) = Site::healthy();
    let handles = Arc::<Mutex<Vec<Handle>>>::default();
    let made = Arc::clone(&handles);
    let config = Config::detect_within(secs(1)).expect("a legal bound");
    let pings = PingLayer::new(config)
        .on_connect(move |handle| made.lock().expect("no panic").push(handle.clone()));
    let own = site.clone();
    let connector = pings.layer(service_fn(move |_| {
        let site = own.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(site.connect())) }
    }));
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .layer(pings.attribution())
        .service(plain().connect_with_connector_lazy(connector));
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let over = Arc::clone(&over);
        let mut client = HealthClient::new(stack.clone());
        callers.spawn(async move {
            let mut failed = 0;
            while !over.load(Ordering::Acquire) {
                let Err(status) = client.check(HealthCheckRequest::default()).await else {
                    continue;
                };
                failed += 1;
                let (code, end) = seen(&status);
                let failure = end.map(|(failure, _): (_, Stage)| failure);
                let dead = (Code::Unavailable, Some(Failure::PongTimeout));
                assert_eq!((code, failure), dead, "{status:?}");
            }
            failed
        });
    }
    for _ in 0..FREEZES {
        sleep(secs(1) / 4).await;
        site.freeze();
        let newest = handles.lock().expect("no panic").last().cloned();
        let newest = newest.expect("there is one");
        let end = timeout(secs(30), newest.closed()).await.expect("in time");
        assert_eq!(end, Failure::PongTimeout);
        site.thaw();
    }
    over.store(true, Ordering::Release);
    let failed: Vec<u64> = callers.join_all().await;
    assert!(failed.iter().sum::<u64>() >= CALLERS);
}
