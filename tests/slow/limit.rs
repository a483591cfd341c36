//! HTTP/2 with few streams: requests beyond the peer's limit, and pings, wait in hyper, unseen.

use std::num::NonZeroU32;

use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep};
use tower_heartbeat::{
    Config, Failure, HeartbeatLayer, PingWhen, Stage,
    http::{CompleteOnBody, HttpSource},
    hyper::http2::Connect,
    ping,
};

use super::support::{
    client::{Client, RequestBody, all, data, ended, get, head_pings, over, request, send, spawn},
    line::Line,
    millis, secs,
    server::Server,
    soon, told, within_a_second,
};

/// A connection that knows how many streams the server takes, and what freezes it.
async fn connected(streams: u32, config: Config, ping: HttpSource<RequestBody>) -> Connected {
    let (line, near, far) = Line::new();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(streams);
    let server = Server::with(far, &builder);
    let layer = HeartbeatLayer::new(config, ping).completion(CompleteOnBody::default());
    let mut client = over(near, |connector| Connect::new(connector, layer)).await;
    // With its answer the server's settings are known.
    let hello = send(&mut client, get("/hello")).await.expect("an answer");
    all(hello.into_body()).await.expect("a body");
    Connected {
        line,
        client,
        server,
    }
}

struct Connected {
    line: Line,
    client: Client,
    server: Server,
}

fn told_of(streams: u32) -> HttpSource<RequestBody> {
    let streams = NonZeroU32::new(streams).expect("some");
    head_pings().max_concurrent_requests(streams)
}

#[tokio::test(start_paused = true)]
async fn one_slow_request_at_a_limit_of_one_survives_where_the_ping_was_told() {
    let mut peer = connected(1, within_a_second(), told_of(1)).await;
    let before = peer.server.seen.pings();
    for _ in 0..2 {
        let slow = send(&mut peer.client, get("/slow?10")).await;
        all(slow.expect("an answer").into_body())
            .await
            .expect("a body");
    }
    assert!(peer.server.seen.pings() <= before + 1, "one between them");
    sleep(secs(3)).await;
    assert!(peer.server.seen.pings() >= before + 4, "watched again");
    assert!(peer.client.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_was_not_told_waits_behind_the_slow_request_and_convicts() {
    let mut peer = connected(1, within_a_second(), head_pings()).await;
    let error = send(&mut peer.client, get("/slow?10"))
        .await
        .expect_err("a verdict on a living peer");
    assert_eq!(
        told(&error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
}

#[tokio::test(start_paused = true)]
async fn requests_far_beyond_the_limit_survive() {
    let peer = connected(2, within_a_second(), told_of(2)).await;
    let calls: Vec<_> = (0..9)
        .map(|_| spawn(&peer.client, get("/slow?10")))
        .collect();
    for call in calls {
        let answer = call.await.expect("no panic").expect("an answer");
        all(answer.into_body()).await.expect("a body");
    }
    assert!(peer.client.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_flight_to_the_end_of_its_body_for_the_limit_as_well() {
    let mut peer = connected(1, within_a_second(), told_of(1)).await;
    let stalled = send(&mut peer.client, get("/stalled")).await;
    let mut body = stalled.expect("an answer").into_body();
    assert!(data(&mut body).await.is_some());
    sleep(secs(10)).await;
    assert!(peer.client.is_alive());

    // A body given up frees its stream.
    let before = peer.server.seen.pings();
    drop(body);
    sleep(secs(3)).await;
    assert!(peer.client.is_alive());
    assert!(peer.server.seen.pings() > before);
}

#[tokio::test(start_paused = true)]
async fn below_its_limit_a_busy_connection_is_pinged_and_found_dead_in_time() {
    let config = within_a_second();
    let peer = connected(3, config, told_of(3)).await;
    let before = peer.server.seen.pings();
    let calls: Vec<_> = (0..2)
        .map(|_| spawn(&peer.client, get("/slow?60")))
        .collect();
    sleep(secs(5)).await;
    assert!(peer.server.seen.pings() >= before + 5);

    let begin = Instant::now();
    peer.line.freeze();
    for call in calls {
        let error = call.await.expect("no panic").expect_err("frozen");
        assert_eq!(
            told(&error),
            Some((Failure::PongTimeout, Stage::AwaitingResponse))
        );
    }
    assert!(begin.elapsed() <= config.worst_case_detection() + millis(3));
}

#[tokio::test(start_paused = true)]
async fn pings_begin_again_as_soon_as_there_is_room() {
    let config = within_a_second();
    let mut peer = connected(2, config, told_of(2)).await;
    let slow = spawn(&peer.client, get("/never"));
    let answer = send(&mut peer.client, get("/slow?10")).await;
    all(answer.expect("an answer").into_body())
        .await
        .expect("a body");
    let begin = Instant::now();
    peer.line.freeze();
    let error = slow.await.expect("no panic").expect_err("frozen");
    assert_eq!(
        told(&error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
    assert!(begin.elapsed() <= config.worst_case_detection() + millis(3));
}

#[tokio::test(start_paused = true)]
async fn at_its_limit_the_quiet_limit_finds_a_frozen_peer() {
    let config = Config::builder()
        .detect_within(secs(1))
        .quiet_timeout(secs(20))
        .build()
        .expect("legal settings");
    let mut peer = connected(1, config, told_of(1)).await;
    let answer = send(&mut peer.client, get("/slow?10")).await;
    all(answer.expect("an answer").into_body())
        .await
        .expect("a body");

    peer.line.freeze();
    let begin = Instant::now();
    let error = send(&mut peer.client, get("/hello"))
        .await
        .expect_err("frozen");
    assert_eq!(
        told(&error),
        Some((Failure::ReadTimeout, Stage::AwaitingResponse))
    );
    assert_eq!(begin.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_freezes_between_requests_at_its_limit_is_found_in_time() {
    let config = within_a_second();
    let peer = connected(1, config, told_of(1)).await;
    let handle = peer.client.handle();
    let begin = Instant::now();
    peer.line.freeze();
    assert_eq!(ended(&handle).await, Failure::PongTimeout);
    assert!(begin.elapsed() <= config.worst_case_detection() + millis(3));
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_somebody_waits_for_comes_when_there_is_room() {
    let peer = connected(1, within_a_second(), told_of(1)).await;
    let begin = Instant::now();
    let slow = spawn(&peer.client, get("/slow?10"));
    sleep(millis(500)).await;
    let handle = peer.client.handle();
    let wanted = tokio::spawn(async move { handle.ping_now().await });
    let answer = slow.await.expect("no panic").expect("an answer");
    all(answer.into_body()).await.expect("a body");
    assert!(!wanted.is_finished());
    let pong = soon(secs(1), "a pong", wanted).await.expect("no panic");
    pong.expect("a pong");
    assert_eq!(begin.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn at_a_limit_of_one_pings_that_are_made_only_between_requests_do_as_well() {
    let config = Config::builder()
        .detect_within(secs(1))
        .ping_when(PingWhen::NotBusy)
        .build()
        .expect("legal settings");
    let mut peer = connected(1, config, head_pings()).await;
    let slow = send(&mut peer.client, get("/slow?10")).await;
    all(slow.expect("an answer").into_body())
        .await
        .expect("a body");
    assert!(peer.client.is_alive());
}

#[tokio::test(start_paused = true)]
async fn other_request_pings_can_be_told_as_well() {
    let requests = ping::request(|| get("/hello"));
    let closure = ping::with_service(|mut service: Sending| async move {
        tower::Service::call(&mut service, get("/hello"))
            .await
            .map(drop)
    });
    survives(requests.max_concurrent_requests(NonZeroU32::MIN)).await;
    survives(closure.max_concurrent_requests(NonZeroU32::MIN)).await;
}

type Sending = tower_heartbeat::hyper::http2::SendRequest<RequestBody>;

async fn survives<P>(ping: P)
where
    P: ping::PingSource<Sending> + Clone + Send + 'static,
    P::Ping: Send + 'static,
    <P::Ping as ping::Ping>::Pong: Send,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(1);
    let _server = Server::with(far, &builder);
    let layer = HeartbeatLayer::new(within_a_second(), ping).completion(CompleteOnBody::default());
    let mut client = over(near, |connector| Connect::new(connector, layer)).await;
    for path in ["/hello", "/slow?10"] {
        let answer = send(&mut client, get(path)).await.expect("an answer");
        all(answer.into_body()).await.expect("a body");
    }
    assert!(client.is_alive());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_goes_on_counts_until_its_answer_has_ended() {
    let peer = connected(1, within_a_second(), told_of(1)).await;
    let (feeder, body) = super::support::client::fed();
    let body = http_body_util::BodyExt::boxed_unsync(body);
    let upload = spawn(&peer.client, request("/echo", body));
    sleep(secs(10)).await;
    assert!(peer.client.is_alive());
    drop(feeder);
    let answer = upload.await.expect("no panic").expect("an answer");
    all(answer.into_body()).await.expect("a body");
}
