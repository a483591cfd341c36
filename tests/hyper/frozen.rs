//! A peer that is there no more, while its socket looks fine.

use std::time::Duration;

use hyper::body::Body;
use tokio::{
    io::duplex,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};
use tower_heartbeat::{
    BoxError, Config, Failure, HeartbeatError, HeartbeatLayer, Stage, State, hyper::http2::Connect,
};

use super::support::{
    client::{CallError, Client, all, connect, data, ended, get, head_pings, over, send, spawn},
    eventually, found,
    line::{Line, Watched},
    millis, secs,
    server::Server,
    told, within_a_second,
};

/// Settings of different shapes, each with its own bound.
fn configs() -> Vec<Config> {
    let custom = |interval, pong_timeout, max_missed| {
        Config::builder()
            .interval(millis(interval))
            .pong_timeout(millis(pong_timeout))
            .max_missed(max_missed)
            .build()
            .expect("legal settings")
    };
    vec![
        within_a_second(),
        Config::detect_within(secs(60)).expect("a legal bound"),
        custom(100, 300, 1),
        custom(5_000, 20, 4),
    ]
}

/// A connection that has just been used, and what freezes it.
async fn connected(config: Config) -> (Line, Client, Server) {
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let mut client = connect(near, config).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    (line, client, server)
}

/// Timers have a resolution of a millisecond.
const MARGIN: Duration = millis(3);

#[tokio::test(start_paused = true)]
async fn a_pending_call_fails_within_the_bound() {
    for config in configs() {
        let (line, mut client, _server) = connected(config).await;
        line.freeze();
        let begin = Instant::now();
        let error = send(&mut client, get("/hello")).await.expect_err("frozen");
        assert_eq!(
            told(&error),
            Some((Failure::PongTimeout, Stage::AwaitingResponse))
        );
        let took = begin.elapsed();
        assert!(took <= config.worst_case_detection() + MARGIN, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_body_fails_within_the_bound_and_ends() {
    for config in configs() {
        let (line, mut client, _server) = connected(config).await;
        let response = send(&mut client, get("/stalled")).await.expect("an answer");
        let mut body = response.into_body();
        assert_eq!(
            data(&mut body).await.expect("a frame").expect("data"),
            "frame"
        );
        line.freeze();
        let begin = Instant::now();
        let error = data(&mut body)
            .await
            .expect("an error")
            .expect_err("frozen");
        assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::Streaming)));
        let took = begin.elapsed();
        assert!(took <= config.worst_case_detection() + MARGIN, "{took:?}");

        assert!(data(&mut body).await.is_none());
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_fails_within_the_bound_and_takes_no_call() {
    for config in configs() {
        let (line, mut client, server) = connected(config).await;
        line.freeze();
        let begin = Instant::now();
        let handle = client.handle();
        assert_eq!(ended(&handle).await, Failure::PongTimeout);
        let took = begin.elapsed();
        assert!(took <= config.worst_case_detection() + MARGIN, "{took:?}");

        for _ in 0..2 {
            let error = client.ready().await.expect_err("dead");
            assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
        }
        let error = client.call(get("/hello")).await.expect_err("dead");
        assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
        assert_eq!((handle.state(), client.is_alive()), (State::Dead, false));
        assert_eq!(server.seen.requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_is_in_flight_fails_at_once() {
    let (line, mut client, _server) = connected(within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").expect("data");
    let mut calls = vec![];
    for path in ["/slow?1000", "/never", "/never"] {
        calls.push(spawn(&client, get(path)));
    }
    sleep(millis(50)).await;
    line.freeze();
    calls.push(spawn(&client, get("/hello")));

    let failure = ended(&client.handle()).await;
    let end = Instant::now();
    assert_eq!(failure, Failure::PongTimeout);
    for call in calls {
        let error = call.await.expect("no panic").expect_err("frozen");
        assert_eq!(
            told(&error),
            Some((Failure::PongTimeout, Stage::AwaitingResponse))
        );
    }
    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("frozen");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::Streaming)));
    assert_eq!(end.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn every_error_is_found_in_a_box() {
    async fn boxed<T, E: Into<BoxError>>(
        outcome: impl Future<Output = Result<T, E>>,
    ) -> Option<(Failure, Stage)> {
        let error: BoxError = outcome.await.err().expect("frozen").into();
        assert!(error.is::<HeartbeatError>());
        found(&*error)
    }

    let (line, mut client, _server) = connected(within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    line.freeze();
    let call = boxed(send(&mut client, get("/hello"))).await;
    assert_eq!(call, Some((Failure::PongTimeout, Stage::AwaitingResponse)));
    // What came in before is still there.
    let mut body = response.into_body();
    assert_eq!(
        data(&mut body).await.expect("a frame").expect("data"),
        "frame"
    );
    let body = boxed(all(body)).await;
    assert_eq!(body, Some((Failure::PongTimeout, Stage::Streaming)));
    let ready = boxed(client.ready()).await;
    assert_eq!(ready, Some((Failure::PongTimeout, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn the_error_has_the_figures_of_the_verdict() {
    let config = within_a_second();
    let (line, mut client, _server) = connected(config).await;
    sleep(secs(2)).await;
    line.freeze();
    let error: CallError = send(&mut client, get("/hello")).await.expect_err("frozen");
    let error = error.heartbeat().expect("the heartbeat's");
    assert_eq!(error.missed(), 3);
    assert!(error.waited() >= millis(3 * 125), "{error:?}");
    assert!(error.quiet_for() >= error.waited(), "{error:?}");
    assert!(error.quiet_for() <= config.worst_case_detection() + MARGIN);
    assert!(error.smoothed_rtt().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_thaws_in_time_loses_nothing() {
    let (line, mut client, _server) = connected(within_a_second()).await;
    let mut body = send(&mut client, get("/ticks?20"))
        .await
        .expect("an answer")
        .into_body();
    data(&mut body).await.expect("a frame").expect("data");
    line.freeze();
    let call = spawn(&client, get("/hello"));
    sleep(millis(700)).await;
    assert_eq!(client.handle().state(), State::Suspect);
    line.thaw();
    let response = call.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "hello");
    assert_eq!(all(body).await.expect("a body").len(), 19 * "frame".len());
    assert_eq!(client.handle().state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_thaws_too_late_finds_the_connection_closed() {
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let (near, closed) = Watched::new(near);
    let mut client = connect(near, within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    line.freeze();
    let call = spawn(&client, get("/hello"));
    assert_eq!(ended(&client.handle()).await, Failure::PongTimeout);
    // The response's body, and the clones, are still there.
    eventually(millis(10), "the IO is closed", || closed.is_set()).await;

    line.thaw();
    server.ended().await;
    let error = call.await.expect("no panic").expect_err("dead");
    assert_eq!(
        told(&error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
    let error = client.ready().await.expect_err("dead for good");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stays_mute_from_the_first_is_found() {
    let (near, _far) = duplex(64 * 1024);
    let config = within_a_second();
    let mut client = connect(near, config).await;
    let begin = Instant::now();
    let error = send(&mut client, get("/hello")).await.expect_err("mute");
    assert_eq!(
        told(&error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
    let took = begin.elapsed();
    assert!(took <= config.worst_case_detection() + MARGIN, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_found_with_a_body_half_sent() {
    let config = within_a_second();
    let (near, far) = duplex(1024);
    let (near, closed) = Watched::new(near);
    let mut client = connect(near, config).await;
    let begin = Instant::now();
    let body = super::support::client::full(vec![0; 1_000_000]);
    let call = super::support::client::request("/echo", body);
    let error = send(&mut client, call).await.expect_err("it never reads");
    assert_eq!(
        told(&error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
    let took = begin.elapsed();
    assert!(took <= config.worst_case_detection() + MARGIN, "{took:?}");
    eventually(millis(10), "the IO is closed", || closed.is_set()).await;
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_limit_finds_a_frozen_peer_without_pings() {
    let (line, near, far) = Line::new();
    let _server = Server::start(far);
    let config = Config::builder()
        .quiet_timeout(secs(2))
        .build()
        .expect("legal settings");
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let mut client = super::support::client::connect_without_pings(near, config, builder).await;
    let mut body = send(&mut client, get("/ticks?20"))
        .await
        .expect("an answer")
        .into_body();
    for _ in 0..10 {
        data(&mut body).await.expect("a frame").expect("data");
    }
    line.freeze();
    let begin = Instant::now();
    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("frozen");
    assert_eq!(told(&error), Some((Failure::ReadTimeout, Stage::Streaming)));
    let took = begin.elapsed();
    assert!(took <= secs(2) + config.tick() + MARGIN, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_calls_fail_together_also_those_that_queue_in_h2() {
    let (line, client, server) = connected(within_a_second()).await;
    let calls: Vec<_> = (0..500).map(|_| spawn(&client, get("/never"))).collect();
    sleep(millis(50)).await;
    // hyper's server takes 200 at a time.
    assert_eq!(server.seen.requests(), 1 + 200);
    line.freeze();
    assert_eq!(ended(&client.handle()).await, Failure::PongTimeout);
    let end = Instant::now();
    for call in calls {
        let error = call.await.expect("no panic").expect_err("frozen");
        assert_eq!(
            told(&error),
            Some((Failure::PongTimeout, Stage::AwaitingResponse))
        );
    }
    assert_eq!(end.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connection_verified_after_idle_costs_no_call() {
    let config = Config::builder()
        .interval(secs(60))
        .pong_timeout(millis(500))
        .max_missed(2)
        .verify_after_idle(secs(10))
        .build()
        .expect("legal settings");
    let (line, mut client, server) = connected(config).await;
    sleep(secs(20)).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    assert_eq!(server.seen.pings(), 1);

    line.freeze();
    sleep(secs(20)).await;
    let begin = Instant::now();
    let error = client.ready().await.expect_err("frozen");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
    assert!(begin.elapsed() <= millis(1_003), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_connection_holds_new_calls_until_it_thaws() {
    let config = Config::builder()
        .interval(secs(1))
        .pong_timeout(secs(1))
        .max_missed(5)
        .suspect_after(millis(1_500))
        .build()
        .expect("legal settings");
    let (line, mut client, server) = connected(config).await;
    line.freeze();
    sleep(secs(3)).await;
    assert!(!client.is_alive());
    let held = spawn(&client, get("/hello"));
    sleep(secs(1)).await;
    line.thaw();
    held.await.expect("no panic").expect("an answer");
    assert_eq!(server.seen.requests(), 2);
    client.ready().await.expect("alive again");
}

#[tokio::test(start_paused = true)]
async fn no_verdict_falls_before_the_waits_are_over() {
    let config = Config::builder()
        .interval(secs(1))
        .pong_timeout(millis(500))
        .max_missed(4)
        .build()
        .expect("legal settings");
    let (line, mut client, _server) = connected(config).await;
    line.freeze();
    let begin = Instant::now();
    let error = send(&mut client, get("/hello")).await.expect_err("frozen");
    assert_eq!(error.heartbeat().expect("the heartbeat's").missed(), 4);
    assert!(begin.elapsed() >= secs(3), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn only_the_frozen_one_of_two_connections_dies() {
    let mut servers = vec![];
    let mut clients = vec![];
    let layer = HeartbeatLayer::new(within_a_second(), head_pings());
    let mut lines = vec![];
    for _ in 0..2 {
        let (line, near, far) = Line::new();
        servers.push(Server::start(far));
        let layer = layer.clone();
        clients.push(over(near, |connector| Connect::new(connector, layer)).await);
        lines.push(line);
    }
    lines[0].freeze();
    let (first, second) = clients.split_at_mut(1);
    assert_eq!(ended(&first[0].handle()).await, Failure::PongTimeout);
    sleep(secs(10)).await;
    send(&mut second[0], get("/hello"))
        .await
        .expect("an answer");
    assert_eq!(second[0].handle().state(), State::Alive);
}
