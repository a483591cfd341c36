//! hyper-util's `Singleton`: one connection for all, until it dies.

use std::{
    io,
    sync::{Arc, Mutex},
};

use hyper::Request;
use hyper_util::{client::pool::singleton::Singleton, rt::TokioIo};
use tokio::time::sleep;
use tower::{Service, ServiceExt, service_fn};
use tower_heartbeat::{
    Config, Failure, HeartbeatLayer, Stage, http::CompleteOnBody, hyper::http2::Connect,
};

use super::support::{
    client::{Client, RequestBody, all, get, head_pings},
    line::Line,
    secs,
    server::Server,
    told, within_a_second,
};

type Lines = Arc<Mutex<Vec<(Line, Server)>>>;

fn pool(
    config: Config,
) -> (
    Singleton<
        impl Service<(), Response = Client, Error: std::error::Error + Send + Sync, Future: Send>,
        (),
    >,
    Lines,
) {
    let lines = Lines::default();
    let made = Arc::clone(&lines);
    let connector = service_fn(move |()| {
        let (line, near, far) = Line::new();
        let pair = (line, Server::start(far));
        made.lock().expect("no panic").push(pair);
        async { Ok::<_, io::Error>(TokioIo::new(near)) }
    });
    let layer = HeartbeatLayer::new(config, head_pings()).completion(CompleteOnBody::default());
    let connect = Connect::<_, _, RequestBody>::new(connector, layer);
    (Singleton::new(connect), lines)
}

#[tokio::test(start_paused = true)]
async fn a_singleton_is_cleared_when_its_connection_is_dead() {
    let (mut pool, lines) = pool(within_a_second());
    let mut first = pool
        .ready()
        .await
        .expect("ready")
        .call(())
        .await
        .expect("connected");
    let mut same = pool
        .ready()
        .await
        .expect("ready")
        .call(())
        .await
        .expect("connected");
    for client in [&mut first, &mut same] {
        let response = client
            .ready()
            .await
            .expect("alive")
            .call(get("/hello"))
            .await;
        all(response.expect("an answer").into_body())
            .await
            .expect("a body");
    }
    assert_eq!(lines.lock().expect("no panic").len(), 1);

    lines.lock().expect("no panic")[0].0.freeze();
    sleep(secs(5)).await;
    assert!(!pool.is_empty(), "nobody has asked it");
    let dead = ServiceExt::<Request<RequestBody>>::ready(&mut first)
        .await
        .map(|_| ());
    let error = dead.expect_err("dead");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
    assert!(pool.is_empty());

    let mut second = pool
        .ready()
        .await
        .expect("ready")
        .call(())
        .await
        .expect("connected");
    let response = second
        .ready()
        .await
        .expect("alive")
        .call(get("/hello"))
        .await;
    all(response.expect("an answer").into_body())
        .await
        .expect("a body");
    assert_eq!(lines.lock().expect("no panic").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_alive_can_be_dropped_from_a_singleton() {
    let idle = Config::builder()
        .detect_within(secs(1))
        .idle_timeout(secs(3));
    for config in [within_a_second(), idle.build().expect("legal")] {
        let (mut pool, lines) = pool(config);
        drop(
            pool.ready()
                .await
                .expect("ready")
                .call(())
                .await
                .expect("connected"),
        );
        sleep(secs(2)).await;
        pool.retain(|client| client.is_alive());
        assert!(!pool.is_empty(), "it is alive");
        if config.idle_timeout().is_none() {
            lines.lock().expect("no panic")[0].0.freeze();
        }
        sleep(secs(5)).await;
        pool.retain(|client| client.is_alive());
        assert!(pool.is_empty());
        pool.ready()
            .await
            .expect("ready")
            .call(())
            .await
            .expect("connected");
        assert_eq!(lines.lock().expect("no panic").len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_connection_is_not_handed_out_of_a_singleton_and_finishes_its_calls() {
    let config = Config::builder()
        .detect_within(secs(60))
        .suspect_after(secs(40));
    let (mut pool, lines) = pool(config.build().expect("legal"));
    let mut hand_out = async || {
        pool.retain(|client| client.is_alive());
        let ready = pool.ready().await.expect("ready");
        ready.call(()).await.expect("connected")
    };
    let mut first = hand_out().await;
    let slow = first.ready().await.expect("alive").call(get("/slow?1"));
    let slow = tokio::spawn(slow);
    sleep(secs(0)).await;
    lines.lock().expect("no panic")[0].0.freeze();
    sleep(secs(45)).await;

    let mut second = hand_out().await;
    let response = second.ready().await.expect("alive").call(get("/hello"));
    let response = response.await.expect("an answer");
    all(response.into_body()).await.expect("a body");
    assert_eq!(lines.lock().expect("no panic").len(), 2);

    lines.lock().expect("no panic")[0].0.thaw();
    let response = slow.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
}
