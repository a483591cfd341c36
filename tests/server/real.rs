//! Real sockets, threads and time, with wide margins.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tower_heartbeat::server::{Connections, Ended, Reason};

use crate::support::{Body, Server, get, limits, ms};

/// Serves until it is told to stop; gives all ends then.
async fn serve(server: Server, listener: TcpListener) -> Vec<Ended> {
    let mut tasks = Vec::new();
    let connections: Connections = server.connections.clone();
    let stop = tokio::spawn({
        let server = server.clone();
        async move { server.stopped().await }
    });
    tokio::pin!(stop);
    loop {
        let (socket, _) = tokio::select! {
            accepted = listener.accept() => accepted.expect("a client"),
            _ = &mut stop => break,
        };
        let connection = connections.serve_connection(TokioIo::new(socket), server.service());
        tasks.push(tokio::spawn(connection));
    }
    drop(listener);
    connections.shutdown().await;
    let ends = join_all(tasks).await;
    ends.into_iter().map(|end| end.expect("no panic")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_call_fails_by_age_and_all_leave_at_the_shutdown() {
    for http2 in [false, true] {
        let limits = limits().max_age(ms(500)).grace(ms(10_000));
        let server = Server::new(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let serving = tokio::spawn(serve(server.clone(), listener));
        let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new())
            .http2_only(http2)
            .build_http();
        let calls = Arc::new(AtomicUsize::new(0));
        let callers = (0..8).map(|_| {
            let (client, calls) = (client.clone(), Arc::clone(&calls));
            tokio::spawn(async move {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(2) {
                    let mut request = get("/slow/3");
                    *request.uri_mut() = format!("http://{address}/slow/3").parse().expect("a URI");
                    let answer = match client.request(request).await {
                        Err(error) if is_refused(&error) => continue,
                        answer => answer.expect("no call fails"),
                    };
                    let body = answer.into_body().collect().await.expect("a body");
                    assert_eq!(body.to_bytes(), "slow");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        for caller in join_all(callers).await {
            caller.expect("no panic");
        }
        server.stop();
        let ends = serving.await.expect("no panic");
        let served: u64 = ends.iter().map(Ended::requests).sum();
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls > 100, "{calls} calls");
        // hyper's client may call one off that it has just sent, when a GOAWAY comes in.
        assert!(served >= u64::try_from(calls).expect("it fits"));
        assert!(ends.iter().any(|end| end.reason() == Reason::Age));
        for end in &ends {
            assert!(!end.was_forced(), "http2 {http2}: {end}");
        }
        assert_eq!(server.connections.count(), 0);
        assert_eq!(server.alive.count(), 0);
    }
}

/// Whether the connection left before the call was begun: over HTTP/2 hyper's client says so, and leaves it
/// to its user to call again.
fn is_refused(error: &hyper_util::client::legacy::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        }
        cause = error.source();
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_stalled_when_the_systems_buffers_are_full() {
    let server = Server::new(limits().write_timeout(ms(1_000)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(serve(server.clone(), listener));
    let mut client = TcpStream::connect(address).await.expect("a connection");
    client
        .write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("room");
    let begun = Instant::now();
    while !server.events().contains(&"Ended(Stalled)".to_string()) {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{:?}",
            server.events()
        );
        tokio::time::sleep(ms(20)).await;
    }
    assert!(begun.elapsed() >= ms(1_000));
    server.stop();
    let ends = serving.await.expect("no panic");
    assert!(ends[0].was_forced());
    assert_eq!(server.alive.count(), 0);
    drop(client);
}
