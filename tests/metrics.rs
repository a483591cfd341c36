//! The figures of all connections add up, whatever happens to them, in virtual time.

#![cfg(feature = "metrics")]
#![expect(clippy::disallowed_methods, reason = "tests wait on the virtual clock")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{task::yield_now, time::sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{
    Config, Event, Failure, Handle, HeartbeatLayer,
    metrics::{CONNECTIONS, ENDS, MISSES, PINGS, PONGS, RTT, UNANSWERED, describe},
    ping::{self, FnPing, OutOfBandSource, PingError},
};

#[test]
fn pings_are_pongs_and_open_misses_and_cancelled_ones_over_random_runs() {
    for seed in 1..=10 {
        recorded(|figures| async move {
            let random = Random::seeded(seed);
            let told = Told::default();
            let layer = layer(&told, &random);
            let mut connections = Vec::new();
            for step in 0..400 {
                match random.below(10) {
                    0..=2 if step < 300 => connections.push(layer.layer(answering())),
                    3 if !connections.is_empty() => {
                        let n = random.below(connections.len());
                        drop(connections.swap_remove(n));
                    }
                    4 if !connections.is_empty() => {
                        let n = random.below(connections.len());
                        connections[n].handle().close();
                    }
                    5 | 6 if !connections.is_empty() => {
                        let n = random.below(connections.len());
                        if let Ok(service) = connections[n].ready().await {
                            service.call(()).await.expect("it answers");
                        }
                    }
                    _ => sleep(ms(random.below(120) as u64)).await,
                }
                settle().await;
                if step % 4 == 0 {
                    told.assert_agrees_with(&figures);
                }
            }
            connections.clear();
            settle().await;
            told.assert_agrees_with(&figures);
            assert_eq!(figures.of(CONNECTIONS), 0);
            let closed = figures.of(PONGS) + figures.of(UNANSWERED);
            assert_eq!(figures.of(PINGS), closed);
            let outcomes = ["missed", "cancelled"].map(|outcome| figures.with(UNANSWERED, outcome));
            assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
            assert_eq!(outcomes[0], figures.with(ENDS, "pong_timeout"));
        });
    }
}

#[cfg(feature = "transport")]
#[test]
fn a_peer_that_was_sent_off_is_counted_as_such() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_util::codec::{Framed, LinesCodec};
    use tower_heartbeat::transport::{HeartbeatStream, Lines};

    recorded(|figures| async move {
        let (near, far) = tokio::io::duplex(1_024);
        let near = Framed::new(near, LinesCodec::new());
        let near = HeartbeatStream::new(near, Lines::new(), Config::default());
        let mut near = near.police_pings(tower_heartbeat::PingPolicy::default());
        let mut far = Framed::new(far, LinesCodec::new());
        for _ in 0..4 {
            far.send("ping").await.unwrap();
        }
        near.next().await.unwrap().unwrap_err();
        assert_eq!(figures.with(ENDS, "ping_flood"), 1);
        assert_eq!(figures.of(ENDS), 1);
    });
}

#[test]
fn a_round_trip_is_in_seconds() {
    recorded(|figures| async move {
        let ping = ping::out_of_band(ping::from_fn(|| async {
            sleep(ms(40)).await;
            Ok::<_, PingError>(())
        }));
        let service = HeartbeatLayer::new(config(), ping).layer(answering());
        sleep(ms(150)).await;
        drop(service);
        assert_eq!(figures.now().line(&format!("{RTT}_sum")), Some(0.04));
        assert_eq!(figures.of(PONGS), 1);
    });
}

#[test]
fn each_end_is_counted_by_its_failure() {
    recorded(|figures| async move {
        let idle = Config::builder().idle_timeout(ms(50)).build().unwrap();
        let service = HeartbeatLayer::new(idle, ping::none()).layer(answering());
        assert_eq!(service.handle().closed().await, Failure::IdleTimeout);
        let other = HeartbeatLayer::new(config(), ping::none()).layer(answering());
        other.handle().close();
        other.handle().close();
        assert_eq!(figures.with(ENDS, "idle_timeout"), 1);
        assert_eq!(figures.with(ENDS, "closed"), 1);
        assert_eq!(figures.of(CONNECTIONS), 0);
    });
}

#[test]
fn a_connection_that_is_never_watched_is_gone_from_the_gauge_with_its_service() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = Figures(recorder.handle());
    metrics::with_local_recorder(&recorder, || {
        let layer = HeartbeatLayer::new(config(), ping::none());
        let service = layer.layer(answering());
        assert_eq!(figures.of(CONNECTIONS), 1);
        drop(service);
        assert_eq!(figures.of(CONNECTIONS), 0);

        // Its hook keeps it from ever being one.
        let failing = layer.on_connect(|_| panic!("on purpose"));
        let wrapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drop(failing.layer(answering()));
        }));
        assert!(wrapped.is_err());
        assert_eq!(figures.of(CONNECTIONS), 0);
    });
}

#[test]
fn every_figure_has_a_description() {
    recorded(|figures| async move {
        describe();
        let service = HeartbeatLayer::new(config(), ping::none()).layer(answering());
        let text = figures.0.render();
        assert!(text.contains(&format!("# HELP {CONNECTIONS} ")), "{text}");
        drop(service);
    });
}

/// Pings that are answered soon, late, never, or by the news that the peer has none.
fn layer(
    told: &Told,
    random: &Random,
) -> HeartbeatLayer<OutOfBandSource<FnPing<impl FnMut() -> Answer + Clone + Send + 'static>>> {
    let told = told.clone();
    let random = random.clone();
    let ping = ping::from_fn(move || -> Answer {
        let outcome = random.below(100);
        let delay = ms(random.below(90) as u64);
        Box::pin(async move {
            match outcome {
                0 => return Err(PingError::unsupported("no such ping")),
                1 => return Err(PingError::new("broken")),
                2..=8 => pending().await,
                9..=30 => sleep(delay).await,
                _ => {}
            }
            Ok(())
        })
    });
    HeartbeatLayer::new(config(), ping::out_of_band(ping))
        .on_event(move |handle, event| told.note(handle, event))
}

/// Every 100 ms, three waits of 20 ms.
fn config() -> Config {
    Config::builder()
        .interval(ms(100))
        .pong_timeout(ms(20))
        .ready_timeout(Duration::ZERO)
        .build()
        .unwrap()
}

/// What the events say.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    handles: Vec<Handle>,
    pings: u64,
    pongs: u64,
    misses: u64,
    ends: u64,
}

impl Told {
    fn note(&self, handle: &Handle, event: &Event) {
        let mut counts = self.0.lock().unwrap();
        match event {
            Event::Connected => counts.handles.push(handle.clone()),
            Event::Ping => counts.pings += 1,
            Event::Pong { .. } => counts.pongs += 1,
            Event::Missed { .. } => counts.misses += 1,
            Event::Dead(_) | Event::Closed | Event::IdleClosed => counts.ends += 1,
            _ => {}
        }
    }

    fn assert_agrees_with(&self, figures: &Figures) {
        let figures = figures.now();
        let counts = self.0.lock().unwrap();
        let alive = counts.handles.iter().filter(|h| h.failure().is_none());
        let out: u64 = alive
            .clone()
            .filter(|handle| handle.can_ping())
            .map(|handle| handle.pings() - handle.pongs())
            .sum();
        assert_eq!(figures.of(CONNECTIONS), alive.count() as u64);
        assert_eq!(figures.of(PINGS), counts.pings);
        assert_eq!(figures.of(PONGS), counts.pongs);
        assert_eq!(figures.of(MISSES), counts.misses);
        assert_eq!(figures.of(ENDS), counts.ends);
        let closed = figures.of(PONGS) + figures.of(UNANSWERED);
        assert_eq!(figures.of(PINGS), closed + out);
    }
}

/// What the recorder says.
struct Figures(PrometheusHandle);

impl Figures {
    fn now(&self) -> Text {
        Text(self.0.render())
    }

    fn of(&self, name: &str) -> u64 {
        self.now().of(name)
    }

    fn with(&self, name: &str, label: &str) -> u64 {
        self.now().with(name, label)
    }
}

/// All figures of one moment.
struct Text(String);

impl Text {
    /// The sum over all labels.
    fn of(&self, name: &str) -> u64 {
        self.lines(name).values().sum::<f64>() as u64
    }

    fn with(&self, name: &str, label: &str) -> u64 {
        let lines = self.lines(name);
        let labelled = lines.iter().filter(|(key, _)| key.contains(label));
        labelled.map(|(_, value)| value).sum::<f64>() as u64
    }

    fn line(&self, name: &str) -> Option<f64> {
        self.lines(name).get(name).copied()
    }

    fn lines(&self, name: &str) -> BTreeMap<String, f64> {
        let text = &self.0;
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(key, _)| key.split('{').next() == Some(name))
            .map(|(key, value)| (key.to_string(), value.parse().expect("a number")))
            .collect()
    }
}

/// Runs `test` in virtual time, with all figures of this thread in one recorder.
fn recorded<F, Fut>(test: F)
where
    F: FnOnce(Figures) -> Fut,
    Fut: Future<Output = ()>,
{
    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = Figures(recorder.handle());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(test(figures));
        drop(runtime);
    });
}

fn answering() -> impl Service<(), Response = (), Error = Infallible, Future: Send> + Clone + Send {
    service_fn(|()| async { Ok(()) })
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<(), PingError>> + Send>>;

#[derive(Clone)]
struct Random(Arc<Mutex<u64>>);

impl Random {
    fn seeded(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(seed)))
    }

    /// SplitMix64.
    fn below(&self, bound: usize) -> usize {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("small")
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
