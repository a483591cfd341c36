//! curl as a client of HTTP/1: its connections leave by age while it asks. (Over HTTP/2 with prior knowledge curl 7.88 fails at its
//! second request to any server of hyper's.)

use std::{process::Stdio, time::Duration};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, process::Command, sync::mpsc};
use tower_heartbeat::server::{Connections, Event, Limits, Reason};

use crate::skip::skip;

#[tokio::test]
async fn curl_is_moved_with_no_failed_request() {
    if !is_there().await {
        skip("curl", "there is no curl");
        return;
    }
    let limits = Limits::builder()
        .max_age(Duration::from_millis(500))
        .grace(Duration::from_secs(20));
    let (tell, mut ends) = mpsc::unbounded_channel();
    let connections = Connections::new(limits.build().expect("legal")).on_event(move |_, event| {
        if let Event::Ended(ended) = event {
            let _gone = tell.send(ended.clone());
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = Router::new().route(
        "/",
        get(|| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            "now"
        }),
    );
    let serve = connections.serve_axum(listener, app);
    let server = tokio::spawn(async move { serve.await });

    // One after the other on the same connection, as long as it is there; no retries of its own.
    let client = Command::new("curl")
        .args(["--http1.1", "--silent", "--show-error", "--fail"])
        .args(["--write-out", " %{num_connects}\n"])
        .arg(format!("http://{address}/?[1-{REQUESTS}]"))
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let client = tokio::time::timeout(Duration::from_secs(60), client).await;
    let client = client.expect("in time").expect("it runs");
    assert!(client.status.success(), "no request fails");
    let answers = String::from_utf8_lossy(&client.stdout);
    assert!(answers.lines().all(|line| line.starts_with("now ")));
    assert_eq!(answers.lines().count() as u64, REQUESTS);

    connections.shutdown().await;
    server.abort();
    let (mut moves, mut requests) = (0, 0);
    while let Ok(ended) = ends.try_recv() {
        assert!(!ended.was_forced(), "{ended}");
        moves += usize::from(ended.reason() == Reason::Age);
        requests += ended.requests();
    }
    assert!(moves >= 3, "{moves} moves");
    assert_eq!(requests, REQUESTS, "none was begun twice");
}

const REQUESTS: u64 = 500;

async fn is_there() -> bool {
    let version = Command::new("curl").arg("--version").output().await;
    version.is_ok()
}
