//! Random settings, crowds and traffic: no living peer dies, no dead one lives past the bound.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{Config, Evidence, Failure, HeartbeatLayer, PingWhen, ping};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn of(&mut self, values: &[u64]) -> u64 {
        values[self.below(values.len() as u64) as usize]
    }
}

struct Peer {
    frozen: AtomicBool,
    rtt: Duration,
    /// The last sign of life that counts.
    life: Mutex<Instant>,
    pong_only: bool,
}

#[derive(Clone)]
struct Connection(Arc<Peer>);

impl Service<bool> for Connection {
    type Response = ();
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, is_ping: bool) -> Self::Future {
        let peer = Arc::clone(&self.0);
        Box::pin(async move {
            if !peer.rtt.is_zero() {
                sleep(peer.rtt).await;
            }
            if peer.frozen.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if is_ping || !peer.pong_only {
                *peer.life.lock().unwrap() = Instant::now();
            }
            Ok(())
        })
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn round(seed: u64) -> Result<(), String> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async move {
        let mut r = Random(seed);
        let interval = r.of(&[20, 50, 300, 1_000, 8_000, 30_000]);
        let pong = r.of(&[20, 50, 200, 1_000, 5_000]);
        let mut config = Config::builder()
            .interval(ms(interval))
            .pong_timeout(ms(pong))
            .ready_timeout(ms(r.of(&[0, pong])))
            .max_missed(r.of(&[1, 2, 3]) as u32)
            .jitter(r.of(&[0, 25]) as u8)
            .local_fault_share(r.of(&[0, 0, 50, 100]) as u8);
        let when = match r.below(6) {
            0 => PingWhen::Always,
            1 => PingWhen::WhileBusy,
            2 => PingWhen::NotBusy,
            _ => PingWhen::Quiet,
        };
        config = config.ping_when(when);
        let pong_only = r.below(4) == 0;
        if pong_only {
            config = config.evidence(Evidence::PongOnly);
        }
        if r.below(3) == 0 {
            config = config.verify_after_idle(ms(interval / 2 + 1));
        }
        if r.below(3) == 0 {
            config = config.suspect_after(ms(interval + interval / 8 + 2 + pong / 2));
        }
        if r.below(4) == 0 {
            config = config.idle_timeout(ms(interval * 20));
        }
        let Ok(config) = config.build() else {
            return Ok(());
        };
        let count = r.of(&[1, 5, 64, 70, 120, 200]);
        let layer = HeartbeatLayer::new(config, ping::request(|| true));
        let bound = config.worst_case_detection();
        let start = Instant::now();
        let mut all = Vec::new();
        for _ in 0..count {
            let peer = Arc::new(Peer {
                frozen: AtomicBool::new(false),
                rtt: ms(r.below((pong / 4).max(1))),
                life: Mutex::new(Instant::now()),
                pong_only,
            });
            let service = layer.layer(Connection(Arc::clone(&peer)));
            let handle = service.handle();
            let died = Arc::new(Mutex::new(None));
            let hook = Arc::clone(&died);
            handle
                .on_end(move |error| *hook.lock().unwrap() = Some((Instant::now(), error.clone())));
            let gap = match (r.below(3), when) {
                (0, PingWhen::Always | PingWhen::Quiet) => None,
                (0 | 1, _) => Some(interval),
                _ => Some((interval / 12).max(2)),
            };
            let mut client = service.clone();
            let mut rr = Random(r.next());
            if let Some(gap) = gap {
                tokio::spawn(async move {
                    loop {
                        let Ok(ready) = client.ready().await else {
                            return;
                        };
                        if ready.call(false).await.is_err() {
                            return;
                        }
                        sleep(ms(rr.below(gap * 2))).await;
                    }
                });
            }
            let freezes_at = (r.below(3) > 0).then(|| r.below(interval * 6));
            if let Some(at) = freezes_at {
                let peer = Arc::clone(&peer);
                tokio::spawn(async move {
                    sleep(ms(at)).await;
                    peer.frozen.store(true, Ordering::Relaxed);
                });
            }
            // Else all come at once: see `hostile/crowding.rs`.
            if r.below(2) == 0 && std::env::var("ONE_BY_ONE").is_ok() {
                sleep(ms(r.below((interval / 16).max(1)))).await;
            }
            all.push((service, handle, peer, died, freezes_at));
        }
        sleep(ms(interval * 6 + 10) + bound * 2).await;
        let context = format!("seed {seed} count {count} {config:?} bound {bound:?}");
        for (n, (_, handle, peer, died, freezes_at)) in all.iter().enumerate() {
            let life = *peer.life.lock().unwrap();
            match died.lock().unwrap().take() {
                Some((_, error)) if error.failure() == Failure::IdleTimeout => {}
                Some((at, error)) => {
                    if freezes_at.is_none() {
                        return Err(format!("{n}: false death {error:?}, {context}"));
                    }
                    if error.failure() != Failure::PongTimeout {
                        return Err(format!("{n}: {error:?}, {context}"));
                    }
                    let took = at - life;
                    if took > bound + ms(6) && matches!(when, PingWhen::Quiet | PingWhen::Always) {
                        return Err(format!("{n}: took {took:?}, {context}"));
                    }
                }
                None => {
                    let sleeps = match when {
                        PingWhen::WhileBusy => handle.in_flight() == 0,
                        PingWhen::NotBusy => handle.in_flight() > 0,
                        _ => false,
                    };
                    if freezes_at.is_some() && !sleeps {
                        return Err(format!(
                            "{n}: missed death; life {:?} now {:?} {context}",
                            life - start,
                            start.elapsed()
                        ));
                    }
                }
            }
        }
        Ok(())
    })
}

#[test]
fn random_rounds() {
    let from: u64 = std::env::var("FROM").map_or(0, |v| v.parse().unwrap());
    let count: u64 = std::env::var("ROUNDS").map_or(60, |v| v.parse().unwrap());
    let mut failures = 0;
    for seed in from..from + count {
        if let Err(error) = round(seed) {
            println!("{error}");
            failures += 1;
        }
    }
    assert_eq!(failures, 0);
}
