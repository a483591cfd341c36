//! What a hook is told of each connection, in virtual time.

#![expect(clippy::disallowed_methods, reason = "tests wait on the virtual clock")]

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{
    Config, ConfigBuilder, Event, Failure, Handle, Heartbeat, HeartbeatLayer, PingWhen,
    ping::{self, FnPing, OutOfBandSource, PingError},
};

#[tokio::test(start_paused = true)]
async fn a_life_is_told_from_its_beginning_to_its_end() {
    let (layer, log) = logged(classic(), pings(soon));
    let service = layer.layer(connection());
    sleep(ms(1_100)).await;
    assert_eq!(log.take(), ["connected", "ping", "pong 40ms"]);

    // Dead after 600 ms, and two misses before.
    let (layer, log) = logged(classic(), pings(late));
    let slow = layer.layer(connection());
    sleep(ms(1_550)).await;
    assert_eq!(
        log.take(),
        [
            "connected",
            "ping",
            "missed 1",
            "suspect",
            "missed 2",
            "pong 500ms",
            "recovered"
        ]
    );
    drop((service, slow));

    let (layer, log) = logged(classic(), pings(never));
    let frozen = layer.layer(connection());
    assert_eq!(frozen.handle().closed().await, Failure::PongTimeout);
    assert_eq!(
        log.take(),
        [
            "connected",
            "ping",
            "missed 1",
            "suspect",
            "missed 2",
            "missed 3",
            "dead PongTimeout"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_way_to_end_has_its_own_event() {
    let idle = classic().idle_timeout(ms(300));
    let (layer, log) = logged(idle, ping::none());
    let service = layer.layer(connection());
    service.handle().closed().await;
    assert_eq!(log.take(), ["connected", "idle-closed"]);

    let (layer, log) = logged(classic(), ping::none());
    let service = layer.layer(connection());
    service.handle().close();
    drop(service);
    assert_eq!(log.take(), ["connected", "closed"], "once");

    let (layer, log) = logged(classic(), pings(failed));
    let service = layer.layer(connection());
    service.handle().closed().await;
    assert_eq!(log.take(), ["connected", "ping", "dead PingFailed"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_pinged_is_told_once_and_lives_on() {
    let (layer, log) = logged(classic(), pings(unsupported));
    let service = layer.layer(connection());
    sleep(ms(10_000)).await;
    assert_eq!(log.take(), ["connected", "ping", "unsupported"]);
    drop_and_wait(service).await;
    assert_eq!(log.take(), ["closed"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_after_the_transport_is_closed_and_before_anybody_wakes() {
    let order = Log::default();
    let config = classic().ping_when(PingWhen::WhileBusy).build().unwrap();
    let layer = HeartbeatLayer::new(config, pings(never)).on_event({
        let order = order.clone();
        move |handle, event| {
            if let Event::Dead(error) = event {
                assert_eq!(handle.failure(), Some(error.failure()));
                order.push("told");
            }
        }
    });
    let mut service = layer.layer(service_fn(|()| pending::<Result<(), Never>>()));
    let hook = order.clone();
    service.handle().on_end(move |_| hook.push("closed"));
    let call = service.ready().await.unwrap().call(());
    call.await.expect_err("dead");
    order.push("woken");
    assert_eq!(order.take(), ["closed", "told", "woken"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_disturbs_nobody() {
    let config = classic().build().unwrap();
    let ping = pings(soon);
    let layer = HeartbeatLayer::new(config, ping).on_event(|_, _| panic!("on purpose"));
    let service = layer.layer(connection());
    sleep(ms(3_500)).await;
    assert_eq!(service.handle().pongs(), 3);
    assert_eq!(service.handle().failure(), None);
    service.handle().close();
    assert_eq!(service.handle().closed().await, Failure::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_hook_may_close_its_connection() {
    let layer = HeartbeatLayer::new(classic().build().unwrap(), pings(soon));
    let layer = layer.on_event(|handle: &Handle, event| {
        if let Event::Pong { .. } = event {
            handle.close();
        }
    });
    let service = layer.layer(connection());
    assert_eq!(service.handle().closed().await, Failure::Closed);
    assert_eq!(service.handle().pongs(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_hook_goes_with_the_layer_wherever_its_driver_runs() {
    let (layer, log) = logged(classic(), pings(soon));
    let layer = layer.executor(|driver| drop(tokio::spawn(driver)));
    let service = layer.layer(connection());
    sleep(ms(1_100)).await;
    drop_and_wait(service).await;
    assert_eq!(log.take(), ["connected", "ping", "pong 40ms", "closed"]);

    let (layer, log) = logged(classic(), pings(soon));
    let (service, driver) = layer.pair(connection());
    let driver = tokio::spawn(driver);
    sleep(ms(1_100)).await;
    drop(service);
    driver.await.expect("it ends");
    assert_eq!(log.take(), ["connected", "ping", "pong 40ms", "closed"]);
}

#[test]
fn a_connection_that_was_wrapped_outside_of_a_runtime_is_told_as_well() {
    let (layer, log) = logged(classic(), pings(soon));
    let mut service = layer.layer(connection());
    assert_eq!(log.take(), ["connected"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        service.ready().await.expect("alive");
        sleep(ms(1_100)).await;
    });
    assert_eq!(log.take(), ["ping", "pong 40ms"]);
    // Nobody watches it from here on.
    drop(runtime);
    assert_eq!(log.take(), ["dead MonitorGone"]);
}

#[test]
fn the_handles_of_a_hook_are_its_connections() {
    let (tx, rx) = mpsc::channel();
    let tx = Mutex::new(tx);
    let layer = HeartbeatLayer::new(Config::default(), ping::none())
        .on_event(move |handle, _| tx.lock().unwrap().send(handle.clone()).unwrap());
    let (first, second) = (layer.layer(connection()), layer.layer(connection()));
    let handles: Vec<Handle> = rx.try_iter().collect();
    assert_eq!(handles.len(), 2);
    drop(second);
    assert_eq!(handles[0].failure(), None);
    assert_eq!(handles[1].failure(), Some(Failure::Closed));
    drop(first);
}

async fn drop_and_wait<S>(service: Heartbeat<S>) {
    let handle = service.handle();
    drop(service);
    handle.closed().await;
}

type Never = std::convert::Infallible;

type Answer = Pin<Box<dyn Future<Output = Result<(), PingError>> + Send>>;

fn pings(answer: fn() -> Answer) -> OutOfBandSource<FnPing<fn() -> Answer>> {
    ping::out_of_band(ping::from_fn(answer))
}

fn soon() -> Answer {
    Box::pin(async {
        sleep(ms(40)).await;
        Ok(())
    })
}

fn late() -> Answer {
    Box::pin(async {
        sleep(ms(500)).await;
        Ok(())
    })
}

fn never() -> Answer {
    Box::pin(pending())
}

fn failed() -> Answer {
    Box::pin(async { Err(PingError::new("no")) })
}

fn unsupported() -> Answer {
    Box::pin(async { Err(PingError::unsupported("no such method")) })
}

fn connection() -> impl Service<(), Response = (), Error = Never, Future: Send> + Clone + Send {
    service_fn(|()| async { Ok(()) })
}

/// `interval` 1 s, `pong_timeout` 200 ms, three misses.
fn classic() -> ConfigBuilder {
    Config::builder()
        .interval(ms(1_000))
        .pong_timeout(ms(200))
        .ready_timeout(Duration::ZERO)
}

fn logged<P>(config: ConfigBuilder, ping: P) -> (HeartbeatLayer<P>, Log) {
    let log = Log::default();
    let hook = log.clone();
    let layer = HeartbeatLayer::new(config.build().unwrap(), ping)
        .on_event(move |_, event| hook.push(&words(event)));
    (layer, log)
}

fn words(event: &Event) -> String {
    match event {
        Event::Connected => "connected".into(),
        Event::Ping => "ping".into(),
        Event::Pong { rtt, .. } => format!("pong {}ms", rtt.as_millis()),
        Event::Missed { missed, .. } => format!("missed {missed}"),
        Event::Suspect => "suspect".into(),
        Event::Recovered => "recovered".into(),
        Event::Unsupported => "unsupported".into(),
        Event::IdleClosed => "idle-closed".into(),
        Event::Closed => "closed".into(),
        Event::Dead(error) => format!("dead {:?}", error.failure()),
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, words: &str) {
        self.0.lock().unwrap().push(words.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
