//! Python's grpcio as a client that pings, and a server that counts.

use std::{convert::Infallible, future::pending, process::Stdio, time::Duration};

use http::{Request, Response};
use http_body_util::Empty;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, process::Command, spawn, time::Instant};
use tower_heartbeat::{Config, Failure, PingPolicy, h2_io::PingIo};

use super::{
    peer::{MARGIN, has_grpcio},
    process::python,
    support::{millis, secs, soon},
};

/// What a client that pings so often, beside a call that nobody answers, says of its end, and the server of the
/// connection's.
async fn pinged(every: Duration, patience: Duration, policy: PingPolicy) -> (String, Failure) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let client = Command::new(python())
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/real_peers/pinging_client.py"
        ))
        .args([&address, &every.as_millis().to_string()])
        .arg(patience.as_secs_f64().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it ran before");
    let (socket, _) = listener.accept().await.expect("it connects");
    let io = PingIo::server(socket, Config::default()).police_pings(policy);
    let handle = io.handle();
    let begin = Instant::now();
    spawn(async move {
        let service = service_fn(|_: Request<Incoming>| async {
            pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let server = http2::Builder::new(TokioExecutor::new());
        server.serve_connection(TokioIo::new(io), service).await
    });
    let end = handle.closed().await;
    let took = begin.elapsed();
    let told = client.wait_with_output().await.expect("it ends");
    let told = String::from_utf8(told.stdout).expect("text");
    println!("grpcio, a ping each {every:?}: {end:?} after {took:?}, {told:?}");
    (told.trim().to_string(), end)
}

fn once_in(min_interval: Duration) -> PingPolicy {
    let policy = PingPolicy::grpc().min_interval(min_interval);
    policy.expect("legal")
}

/// Set to any less, it pings once in a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_pings_too_often_is_told_so_and_one_that_keeps_the_interval_ends_its_call() {
    if !has_grpcio() {
        return;
    }
    let patience = secs(20);
    let cases = async {
        tokio::join!(
            pinged(millis(20), patience, once_in(secs(2))),
            pinged(secs(4), patience, once_in(secs(2))),
            // It does ping.
            pinged(secs(4), patience, once_in(secs(60)).strikes(1)),
        )
    };
    let (often, seldom, strict) = soon(patience + MARGIN, "the ends", cases).await;
    for (told, end) in [often, strict] {
        assert_eq!(end, Failure::PingFlood);
        assert!(told.starts_with("UNAVAILABLE"), "{told}");
        assert!(told.contains("too_many_pings"), "{told}");
    }
    assert_eq!(seldom.1, Failure::Transport);
    assert!(seldom.0.starts_with("DEADLINE_EXCEEDED"), "{}", seldom.0);
}
