//! The peer freezes: between exchanges pings find it, under a request the quiet limit does.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;
use tower_heartbeat::{Config, Failure, HeartbeatError, Stage, http::CompleteOnBody};

use super::{
    client::{Client, LONG, connect, send, serve, spawn},
    support::{
        client::{all, data, ended, get},
        line::{Closed, Line, Watched},
        millis, secs,
        server::Server,
        soon, told, within_a_second,
    },
};

/// Timers of a millisecond, and a yield or two.
const MARGIN: Duration = millis(20);

struct Frozen {
    client: Client,
    line: Line,
    closed: Closed,
    server: Server,
}

/// A connection over a line that can freeze, used once.
async fn connected(config: Config) -> Frozen {
    let (line, near, far) = Line::new();
    let (near, closed) = Watched::new(near);
    let server = serve(far);
    let mut client = connect(near, config).await;
    let response = send(&mut client, get("/hello")).await.expect("an answer");
    all(response.into_body()).await.expect("a body");
    Frozen {
        client,
        line,
        closed,
        server,
    }
}

fn quiet_for_two_seconds() -> Config {
    let config = Config::builder().detect_within(secs(1));
    config.quiet_timeout(secs(2)).build().expect("legal")
}

#[tokio::test(start_paused = true)]
async fn an_idle_frozen_peer_is_found_within_the_bound() {
    let mut frozen = connected(within_a_second()).await;
    let handle = frozen.client.handle();
    for wait in [0, 100, 444, 700, 5_000] {
        sleep(millis(wait)).await;
        assert!(handle.is_alive());
    }
    let begin = Instant::now();
    frozen.line.freeze();
    assert_eq!(ended(&handle).await, Failure::PongTimeout);
    let took = begin.elapsed();
    assert!(
        took <= within_a_second().worst_case_detection() + MARGIN,
        "{took:?}"
    );
    soon(MARGIN, "the IO is closed", async {
        while !frozen.closed.is_set() {
            sleep(millis(1)).await;
        }
    })
    .await;
    let error = send(&mut frozen.client, get("/hello"))
        .await
        .expect_err("dead");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
    assert_eq!(frozen.server.seen.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_behind_an_unanswered_ping_end_with_it() {
    let frozen = connected(within_a_second()).await;
    let handle = frozen.client.handle();
    let mut told_ready = frozen.client.clone();
    told_ready.ready().await.expect("ready");
    let before = handle.pings();
    frozen.line.freeze();
    while handle.pings() == before {
        sleep(millis(1)).await;
    }
    let held = spawn(&frozen.client, get("/held"));
    let waiting = tokio::spawn(tower::Service::call(&mut told_ready, get("/waiting")));
    let error = held.await.expect("no panic").expect_err("dead");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
    let error = waiting.await.expect("no panic").expect_err("dead");
    assert_eq!(told(&error).map(|told| told.0), Some(Failure::PongTimeout));
    assert_eq!(frozen.server.seen.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_freezes_under_a_request_dies_by_the_quiet_limit() {
    let frozen = connected(quiet_for_two_seconds()).await;
    let handle = frozen.client.handle();
    frozen.line.freeze();
    let begin = Instant::now();
    let call = spawn(&frozen.client, get("/hello"));
    let error = soon(LONG, "an end", call)
        .await
        .expect("no panic")
        .expect_err("frozen");
    let took = begin.elapsed();
    assert_eq!(
        told(&error),
        Some((Failure::ReadTimeout, Stage::AwaitingResponse))
    );
    assert!(took >= secs(2) - MARGIN, "{took:?}");
    assert!(
        took <= secs(2) + handle.config().tick() + MARGIN,
        "{took:?}"
    );
    sleep(MARGIN).await;
    assert!(frozen.closed.is_set());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_freezes_within_a_body_dies_by_the_quiet_limit() {
    let mut frozen = connected(quiet_for_two_seconds()).await;
    let response = send(&mut frozen.client, get("/ticks?100"))
        .await
        .expect("a head");
    let mut body = response.into_body();
    for _ in 0..10 {
        data(&mut body).await.expect("a frame").expect("data");
    }
    frozen.line.freeze();
    let begin = Instant::now();
    let error = data(&mut body).await.expect("an end").expect_err("frozen");
    let took = begin.elapsed();
    assert_eq!(told(&error), Some((Failure::ReadTimeout, Stage::Streaming)));
    assert!(took <= secs(2) + millis(300) + MARGIN, "{took:?}");
    assert!(data(&mut body).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_a_quiet_limit_nobody_finds_it() {
    let frozen = connected(within_a_second()).await;
    let handle = frozen.client.handle();
    frozen.line.freeze();
    let mut call = spawn(&frozen.client, get("/hello"));
    assert!(timeout(secs(200), &mut call).await.is_err());
    assert!(handle.is_alive());
    // It was slow, not dead.
    frozen.line.thaw();
    call.await.expect("no panic").expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_by_a_time_out_closes_the_connection_on_this_side() {
    let mut frozen = connected(within_a_second()).await;
    let handle = frozen.client.handle();
    frozen.line.freeze();
    let call = send(&mut frozen.client, get("/hello"));
    timeout(secs(5), call).await.expect_err("frozen");
    assert_eq!(
        soon(secs(1), "an end", handle.closed()).await,
        Failure::Closed
    );
    sleep(secs(1)).await;
    assert!(frozen.closed.is_set());
    let error = send(&mut frozen.client, get("/hello"))
        .await
        .expect_err("closed");
    assert_eq!(told(&error), Some((Failure::Closed, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn verification_costs_no_request_on_a_peer_that_vanished() {
    let config = Config::builder()
        .detect_within(secs(10))
        .verify_after_idle(millis(500))
        .build()
        .expect("legal");
    let mut frozen = connected(config).await;
    sleep(secs(2)).await;
    frozen.line.freeze();
    sleep(secs(1)).await;
    let error = send(&mut frozen.client, get("/hello"))
        .await
        .expect_err("dead");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
    assert_eq!(frozen.server.seen.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn verification_lets_a_call_through_when_the_pong_is_there() {
    let config = Config::builder()
        .detect_within(secs(10))
        .verify_after_idle(millis(500))
        .build()
        .expect("legal");
    let mut alive = connected(config).await;
    for _ in 0..3 {
        sleep(secs(2)).await;
        let pings = alive.server.seen.pings();
        let response = send(&mut alive.client, get("/hello"))
            .await
            .expect("an answer");
        all(response.into_body()).await.expect("a body");
        assert_eq!(alive.server.seen.pings(), pings + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_freezes_and_thaws_within_the_pong_wait_lives() {
    let mut frozen = connected(within_a_second()).await;
    let handle = frozen.client.handle();
    let before = handle.pings();
    while handle.pings() == before {
        sleep(millis(1)).await;
    }
    for _ in 0..5 {
        frozen.line.freeze();
        sleep(millis(400)).await;
        frozen.line.thaw();
        sleep(millis(500)).await;
    }
    assert!(handle.is_alive());
    send(&mut frozen.client, get("/hello"))
        .await
        .expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn the_parts_can_be_put_together_by_hand() {
    use tower::Layer;
    use tower_heartbeat::{
        HeartbeatLayer, PingWhen, ShareLayer,
        hyper::http1::{drive, handshake},
    };
    let (line, near, far) = Line::new();
    let _server = serve(far);
    let builder = hyper::client::conn::http1::Builder::new();
    let io = hyper_util::rt::TokioIo::new(near);
    let (send_request, connection) = handshake(&builder, io).await.expect("it connects");
    let config = Config::builder()
        .detect_within(secs(1))
        .ping_when(PingWhen::NotBusy)
        .build()
        .expect("legal");
    let layer = HeartbeatLayer::new(config, super::client::head_pings())
        .completion(CompleteOnBody::default());
    let mut client: Client = layer.layer(ShareLayer::new().layer(send_request));
    let driving = tokio::spawn(drive(connection, client.handle()));
    let response = send(&mut client, get("/slow?5")).await.expect("an answer");
    all(response.into_body()).await.expect("a body");
    line.freeze();
    assert_eq!(ended(&client.handle()).await, Failure::PongTimeout);
    soon(secs(1), "the driver's end", driving)
        .await
        .expect("no panic");
    let error: HeartbeatError = client.handle().error().expect("it ended");
    assert_eq!(error.missed(), config.max_missed());
}
