//! Settings that most tests share, and a peer that answers, freezes and thaws.

mod drivers;
mod peer;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinHandle, yield_now},
    time::{Instant, sleep_until, timeout},
};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    Config, ConfigBuilder, Error, Failure, Handle, Heartbeat, HeartbeatLayer, ping,
};

pub(crate) use drivers::Drivers;
pub(crate) use peer::{Connection, Fact, Mood, Peer, Request};

pub(crate) type TestLayer = HeartbeatLayer<ping::RequestSource<fn() -> Request>>;
pub(crate) type Outcome = Result<(), Error<std::io::Error>>;

/// `interval` 1 s, `pong_timeout` 200 ms, three misses: dead after 1,600 ms, tick 125 ms.
pub(crate) fn classic() -> ConfigBuilder {
    Config::builder()
        .interval(ms(1_000))
        .pong_timeout(ms(200))
        .max_missed(3)
        .ready_timeout(Duration::ZERO)
}

pub(crate) fn layer(config: ConfigBuilder) -> TestLayer {
    HeartbeatLayer::new(
        config.build().expect("legal"),
        ping::request(|| Request::Ping),
    )
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("no test is that long")
}

pub(crate) fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

pub(crate) fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// Lets a few tasks run who can without time going by.
pub(crate) async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

/// Turns a test that would hang into one that fails.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    let age = Duration::from_secs(20_000);
    timeout(age, future).await.expect("it would hang")
}

/// Starts a request of its own task, which keeps no service once it is sent.
pub(crate) fn call(service: &Heartbeat<Connection>) -> JoinHandle<Outcome> {
    let mut service = service.clone();
    tokio::spawn(async move {
        let response = service.ready().await?.call(Request::Work);
        drop(service);
        in_time(response).await
    })
}

/// A wrapped connection, its handle and its peer.
pub(crate) struct Watched {
    pub(crate) service: Heartbeat<Connection>,
    pub(crate) handle: Handle,
    pub(crate) peer: Arc<Peer>,
    pub(crate) start: Instant,
    died_at: Arc<OnceLock<u64>>,
}

impl Watched {
    pub(crate) fn under(layer: &TestLayer) -> Watched {
        let peer = Peer::new();
        let service = layer.layer(Connection::to(&peer));
        let (handle, start) = (service.handle(), peer.start);
        let died_at = Arc::new(OnceLock::new());
        let hook = Arc::clone(&died_at);
        handle.on_end(move |_| hook.set(millis(start.elapsed())).expect("one end"));
        Watched {
            handle,
            service,
            start,
            died_at,
            peer,
        }
    }

    pub(crate) fn many(layer: &TestLayer, count: usize) -> Vec<Watched> {
        (0..count).map(|_| Watched::under(layer)).collect()
    }

    /// Sleeps to a moment after connect, and has everything done that is due then.
    pub(crate) async fn at(&self, at: u64) {
        sleep_until(self.start + ms(at)).await;
        settle().await;
    }

    pub(crate) fn call(&self) -> JoinHandle<Outcome> {
        call(&self.service)
    }

    pub(crate) async fn served(&self) {
        in_time(self.call()).await.unwrap().expect("alive");
    }

    pub(crate) async fn death(&self) -> (u64, Failure) {
        let failure = in_time(self.handle.closed()).await;
        (*self.died_at.get().expect("the hook comes first"), failure)
    }

    /// Pinged within one interval from now, and found dead if it freezes then.
    pub(crate) async fn assert_watched(&self) {
        assert_eq!(self.handle.failure(), None);
        let config = *self.handle.config();
        let pongs = self.handle.pongs();
        tokio::time::sleep(config.interval() + config.tick()).await;
        settle().await;
        assert!(self.handle.pongs() > pongs, "pings go on");
        assert_eq!(self.handle.failure(), None);
        self.peer.be(Mood::Frozen);
        let froze_at = Instant::now();
        assert_eq!(in_time(self.handle.closed()).await, Failure::PongTimeout);
        assert!(froze_at.elapsed() <= config.worst_case_detection());
    }
}
