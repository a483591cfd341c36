//! HEAD and OPTIONS requests as pings.

use std::error::Error as StdError;

use hyper::{StatusCode, Uri};
use tokio::{io::duplex, time::sleep};
use tower::ServiceExt;
use tower_heartbeat::{
    Failure, HeartbeatError, HeartbeatLayer, Stage, State,
    http::{CompleteOnBody, HttpSource, UnexpectedStatus, head, options},
    hyper::http2::Connect,
};

use super::support::{
    client::{Client, Io, RequestBody, data, ended, get, over, send, spawn},
    eventually,
    frames::{END_STREAM, Frames, RST_STREAM},
    millis, secs,
    server::Server,
    soon, told, within_a_second,
};

async fn connected(io: impl Io, ping: HttpSource<RequestBody>) -> Client {
    let layer = HeartbeatLayer::new(within_a_second(), ping).completion(CompleteOnBody::default());
    over(io, |connector| Connect::new(connector, layer)).await
}

fn uri(path: &'static str) -> Uri {
    format!("http://localhost{path}").parse().expect("a URI")
}

#[tokio::test(start_paused = true)]
async fn any_status_is_a_pong() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let client = connected(near, head(uri("/nowhere"))).await;
    let handle = client.handle();
    sleep(secs(10)).await;
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.pongs() >= 10);
    assert_eq!(handle.pongs(), server.seen.pings() as u64);
}

#[tokio::test(start_paused = true)]
async fn the_expected_status_is_a_pong() {
    let (near, far) = duplex(64 * 1024);
    let _server = Server::start(far);
    let ping = head(uri("/health")).expect_status(StatusCode::OK);
    let client = connected(near, ping).await;
    sleep(secs(10)).await;
    assert_eq!(client.handle().state(), State::Alive);
    assert!(client.handle().pongs() >= 10);
}

#[tokio::test(start_paused = true)]
async fn another_status_than_the_expected_one_is_a_failed_ping() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let ping = head(uri("/nowhere")).expect_status(StatusCode::NO_CONTENT);
    let mut client = connected(near, ping).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").expect("data");
    let call = spawn(&client, get("/never"));

    let error = soon(secs(2), "the verdict", call).await;
    let error = error.expect("no panic").expect_err("it failed");
    assert_unexpected(error.heartbeat(), Stage::AwaitingResponse);
    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("it failed");
    assert_unexpected(error.heartbeat(), Stage::Streaming);
    let error = client.ready().await.expect_err("it failed");
    assert_unexpected(error.heartbeat(), Stage::NotSent);
    soon(secs(1), "the server sees it", server.ended()).await;
}

fn assert_unexpected(error: Option<&HeartbeatError>, stage: Stage) {
    let error = error.expect("the heartbeat's");
    assert_eq!(
        (error.failure(), error.stage()),
        (Failure::PingFailed, stage)
    );
    let source = error.source().expect("a cause");
    let status = source.downcast_ref::<UnexpectedStatus>();
    assert_eq!(status.expect("a status").status(), StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_with_its_body_is_not_reset() {
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        for _ in 0..3 {
            let ping = server.request().await;
            server.head(ping, 0).await;
            server.data(ping, 0, b"GET, ").await;
            server.data(ping, END_STREAM, b"HEAD").await;
        }
        server.rest().await
    });
    let client = connected(near, options(uri("/"))).await;
    let handle = client.handle();
    eventually(secs(5), "three pongs", || handle.pongs() == 3).await;
    drop(client);
    for frame in server.await.expect("no panic") {
        assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_with_bodies_do_not_use_the_window_up() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let client = connected(near, options(uri("/bytes?60000"))).await;
    sleep(secs(200)).await;
    assert_eq!(client.handle().state(), State::Alive);
    assert!(server.seen.pings() > 300);
}

#[tokio::test(start_paused = true)]
async fn the_head_of_an_answer_is_the_pong_even_if_its_body_never_ends() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let client = connected(near, options(uri("/stalled"))).await;
    let handle = client.handle();
    sleep(secs(10)).await;
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.pongs() >= 10);
    assert_eq!(handle.pongs(), handle.pings());
    assert_eq!(handle.pings(), server.seen.pings() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_head_with_a_body_is_a_pong_all_the_same() {
    let (near, far) = duplex(64 * 1024);
    // hyper's server sends the body that its handler returns, also to HEAD; h2 resets the stream.
    let _server = Server::start(far);
    let client = connected(near, head(uri("/hello"))).await;
    let handle = client.handle();
    sleep(secs(10)).await;
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.pongs() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_refuses_the_ping_is_alive() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        loop {
            let ping = server.request().await;
            // REFUSED_STREAM: busy, and alive.
            server.send(RST_STREAM, 0, ping, &7_u32.to_be_bytes()).await;
        }
    });
    let client = connected(near, head(uri("/"))).await;
    let handle = client.handle();
    sleep(secs(10)).await;
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.pongs() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_ping_whose_connection_is_gone_is_no_pong() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        server.request().await;
        // Only now the socket closes.
    });
    let mut client = connected(near, head(uri("/"))).await;
    let handle = client.handle();
    assert_eq!(ended(&handle).await, Failure::Transport);
    assert_eq!((handle.pings(), handle.pongs()), (1, 0));
    let error = client.ready().await.expect_err("it is gone");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn a_ping_on_demand_tells_the_round_trip() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let client = connected(near, head(uri("/health"))).await;
    let trip = soon(secs(1), "a pong", client.handle().ping_now()).await;
    assert!(trip.expect("a pong") < millis(100));
    assert_eq!(server.seen.pings(), 1);
}
