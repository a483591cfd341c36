//! Python's gRPC as a client: its connections leave by age while it calls.

use std::{env, process::Stdio, time::Duration};

use tokio::{process::Command, sync::mpsc};
use tonic::transport::{Server, server::TcpIncoming};
use tower_heartbeat::server::{Connections, Event, Limits, Reason, tonic::CountLayer};

use crate::{skip::skip, support::service};

#[tokio::test]
async fn grpcio_is_moved_with_no_failed_call() {
    let Some(python) = python().await else {
        skip("grpcio", "the Python of `PEERS_PYTHON` has no grpcio");
        return;
    };
    let limits = Limits::builder()
        .max_age(Duration::from_millis(500))
        .grace(Duration::from_secs(20));
    let (tell, mut ends) = mpsc::unbounded_channel();
    let connections = Connections::new(limits.build().expect("legal")).on_event(move |_, event| {
        if let Event::Ended(ended) = event {
            let _gone = tell.send(ended.clone());
        }
    });
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = incoming.local_addr().expect("an address");
    let server = Server::builder()
        .layer(CountLayer::new())
        .serve_with_incoming(service(), connections.watch_incoming(incoming));
    let server = tokio::spawn(server);

    let client = Command::new(python)
        .arg("tests/real_peers/calling_client.py")
        .args([&address.to_string(), "5"])
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let client = tokio::time::timeout(Duration::from_secs(60), client).await;
    let client = client.expect("in time").expect("it runs");
    assert!(client.status.success(), "no call fails");
    let calls = String::from_utf8_lossy(&client.stdout);
    let calls: u64 = calls.trim().parse().expect("a number");
    connections.shutdown().await;
    server.abort();
    let (mut moves, mut requests) = (0, 0);
    while let Ok(ended) = ends.try_recv() {
        assert!(!ended.was_forced(), "{ended}");
        moves += usize::from(ended.reason() == Reason::Age);
        requests += ended.requests();
    }
    assert!(moves >= 3, "{moves} moves");
    assert_eq!(requests, calls, "none was begun twice");
}

/// One that has grpcio and its health service.
async fn python() -> Option<String> {
    let python = env::var("PEERS_PYTHON").unwrap_or("python3".into());
    let imports = Command::new(&python)
        .args(["-c", "import grpc, grpc_health.v1.health"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    imports
        .is_ok_and(|status| status.success())
        .then_some(python)
}
