//! Pools of connections: nobody polls what lies there ready, and what died leaves.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use hyper_util::{client::pool::cache, rt::TokioIo};
use tokio::{io::DuplexStream, time::sleep};
use tower::{Service, ServiceExt, ready_cache::ReadyCache, service_fn};
use tower_heartbeat::{Config, Failure, Stage, State, hyper::http1::Connect};

use super::{
    client::{Client, connect, layer, send, serve},
    support::{
        client::{RequestBody, all, ended, get},
        line::Line,
        secs,
        server::Server,
        told, within_a_second,
    },
};

/// What is behind the connections that a test made, in the order of their making.
#[derive(Clone, Default)]
struct Site(Arc<Mutex<Vec<(Line, Server)>>>);

type Io = TokioIo<DuplexStream>;
type Connecting = Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>;

impl Site {
    fn connect(&self) -> Connecting {
        let (line, near, far) = Line::new();
        self.0.lock().expect("no panic").push((line, serve(far)));
        Box::pin(async { Ok(TokioIo::new(near)) })
    }

    fn connector(
        &self,
        config: Config,
    ) -> impl Service<(), Response = Client, Future: Unpin, Error: std::fmt::Debug> + use<> {
        let site = self.clone();
        let connector = service_fn(move |()| site.connect());
        Connect::<_, _, RequestBody>::new(connector, layer(config)).expect("legal")
    }

    fn made(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    fn freeze(&self) {
        for (line, _) in &*self.0.lock().expect("no panic") {
            line.freeze();
        }
    }
}

fn idle_for_three_seconds() -> Config {
    let config = Config::builder().detect_within(secs(1));
    config.idle_timeout(secs(3)).build().expect("legal")
}

#[tokio::test(start_paused = true)]
async fn pings_go_on_while_the_service_lies_ready_in_a_ready_cache() {
    let (line, near, far) = Line::new();
    let server = serve(far);
    let client = connect(near, within_a_second()).await;
    let handle = client.handle();
    let mut cache: ReadyCache<_, Client, _> = ReadyCache::default();
    cache.push("there", client);
    poll_fn(|cx| cache.poll_pending(cx)).await.expect("ready");
    assert_eq!(cache.ready_len(), 1);

    sleep(secs(10)).await;
    assert!(handle.pongs() >= 10, "{}", handle.pongs());
    assert!(handle.is_alive());
    let response = cache
        .call_ready(&"there", get("/hello"))
        .await
        .expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "hello");
    poll_fn(|cx| cache.poll_pending(cx)).await.expect("ready");
    assert_eq!(server.seen.requests(), 1);

    line.freeze();
    assert_eq!(ended(&handle).await, Failure::PongTimeout);
    let cx = &mut Context::from_waker(Waker::noop());
    cache.check_ready(cx, &"there").expect_err("dead");
    assert!(cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_goes_back_to_a_cache_and_is_pinged_there() {
    let site = Site::default();
    let mut pool = cache::builder().build(site.connector(within_a_second()));
    for _ in 0..3 {
        let mut client = pool
            .ready()
            .await
            .expect("ready")
            .call(())
            .await
            .expect("it connects");
        let response = send(client.inner_mut(), get("/hello"))
            .await
            .expect("an answer");
        all(response.into_body()).await.expect("a body");
        let pongs = client.inner().handle().pongs();
        assert_eq!(client.inner().handle().pings(), pongs);
        drop(client);
        sleep(secs(5)).await;
    }
    assert_eq!(site.made(), 1);
    assert!(!pool.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_handed_out_once_more_and_leaves_the_cache() {
    let site = Site::default();
    let mut pool = cache::builder().build(site.connector(within_a_second()));
    drop(
        pool.ready()
            .await
            .expect("ready")
            .call(())
            .await
            .expect("it connects"),
    );
    site.freeze();
    sleep(secs(5)).await;
    assert!(!pool.is_empty());
    let mut dead = pool
        .ready()
        .await
        .expect("ready")
        .call(())
        .await
        .expect("it is there");
    let error = ServiceExt::<hyper::Request<RequestBody>>::ready(&mut dead)
        .await
        .map(|_| ());
    let error = error.expect_err("dead");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::NotSent)));
    drop(dead);
    assert!(pool.is_empty());
    let mut client = pool
        .ready()
        .await
        .expect("ready")
        .call(())
        .await
        .expect("it connects");
    send(client.inner_mut(), get("/hello"))
        .await
        .expect("an answer");
    assert_eq!(site.made(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_alive_can_be_dropped_from_a_cache() {
    for config in [within_a_second(), idle_for_three_seconds()] {
        let site = Site::default();
        let mut pool = cache::builder().build(site.connector(config));
        drop(
            pool.ready()
                .await
                .expect("ready")
                .call(())
                .await
                .expect("it connects"),
        );
        sleep(secs(2)).await;
        pool.retain(|client| client.is_alive());
        assert!(!pool.is_empty(), "it is alive");
        if config.idle_timeout().is_none() {
            site.freeze();
        }
        sleep(secs(5)).await;
        pool.retain(|client| client.is_alive());
        assert!(pool.is_empty());
        let mut client = pool
            .ready()
            .await
            .expect("ready")
            .call(())
            .await
            .expect("it connects");
        send(client.inner_mut(), get("/hello"))
            .await
            .expect("an answer");
        assert_eq!(site.made(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_connection_is_not_handed_out_of_a_cache() {
    let config = Config::builder()
        .detect_within(secs(60))
        .suspect_after(secs(40));
    let site = Site::default();
    let mut pool = cache::builder().build(site.connector(config.build().expect("legal")));
    let mut hand_out = async || {
        pool.retain(|client| client.is_alive());
        let ready = pool.ready().await.expect("ready");
        ready.call(()).await.expect("it connects")
    };
    let lying = hand_out().await;
    let handle = lying.inner().handle();
    drop(lying);
    site.freeze();
    sleep(secs(45)).await;
    assert_eq!(handle.state(), State::Suspect);

    let mut client = hand_out().await;
    let response = send(client.inner_mut(), get("/hello")).await;
    all(response.expect("an answer").into_body())
        .await
        .expect("a body");
    assert_eq!(site.made(), 2);
    assert_eq!(handle.failure(), Some(Failure::Closed));
}

#[tokio::test(start_paused = true)]
async fn two_at_a_time_take_two_connections() {
    let site = Site::default();
    let mut pool = cache::builder().build(site.connector(within_a_second()));
    let first = pool
        .ready()
        .await
        .expect("ready")
        .call(())
        .await
        .expect("it connects");
    let second = pool
        .ready()
        .await
        .expect("ready")
        .call(())
        .await
        .expect("it connects");
    drop((first, second));
    assert_eq!(site.made(), 2);
    site.freeze();
    sleep(secs(5)).await;
    pool.retain(|client| client.is_alive());
    assert!(pool.is_empty());
}
