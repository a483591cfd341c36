//! A million connections under one layer, some of which freeze, in real time on one thread.
//!
//! `cargo run --release --example million [connections [seconds]]`, by default 1,000,000 and 10:
//! the interval in seconds, of which the run takes about four.
//!
//! Each peer is in memory and answers the pings that come through its service, until it is frozen:
//! then it never answers again. It prints what a connection takes, in bytes and in CPU per ping,
//! and how soon each freeze was found, beside the bound that the settings promise. The exit code
//! says whether every freeze was found and nobody else was declared dead.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    convert::Infallible,
    pin::Pin,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use nix::time::ClockId;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, Service};
use tower_heartbeat::{BoxError, Config, Failure, Heartbeat, HeartbeatLayer, ping};

const FREEZES: usize = 1_000;

static PINGS: AtomicU64 = AtomicU64::new(0);
static LONGEST_DELAY_MICROS: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<ExitCode, BoxError> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let interval: f64 = arguments.next().map_or(Ok(10.0), |n| n.parse())?;
    let config = config(Duration::try_from_secs_f64(interval)?)?;
    // One thread, so that the allocation counter, which counts by thread, sees everything.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!(
        "{count} connections, pinged after {:?} of quiet; promise: a frozen peer is found within {:?}",
        config.interval(),
        config.worst_case_detection()
    );

    let peers: &'static [AtomicBool] = (0..count)
        .map(|_| AtomicBool::new(false))
        .collect::<Vec<_>>()
        .leak();
    let mut connections = Vec::with_capacity(count);
    let started_at = Instant::now();
    let connected = allocation_counter::measure(|| {
        runtime.block_on(connect(peers, &config, &mut connections));
    });
    println!("connected in {:.1?}", started_at.elapsed());

    let mut found = Found::default();
    let (cpu, pings) = (process_cpu(), PINGS.load(Ordering::Relaxed));
    let run = allocation_counter::measure(|| {
        runtime.block_on(freeze_some(&connections, &config, &mut found));
    });
    let cpu = process_cpu() - cpu;
    let pings = PINGS.load(Ordering::Relaxed) - pings;

    let each = |bytes: i64| bytes as f64 / count as f64;
    println!(
        "bytes requested each: {:.1} when connected, {:.1} after the run; and {} in place, the service's {} among them",
        each(connected.bytes_current),
        each(connected.bytes_current + run.bytes_current),
        size_of::<Heartbeat<Peer>>(),
        size_of::<Peer>(),
    );
    println!(
        "CPU: {cpu:.2?} for {pings} pings, {:.3} µs each; another task waited {} ms at most",
        cpu.as_secs_f64() * 1e6 / pings as f64,
        LONGEST_DELAY_MICROS.load(Ordering::Relaxed) / 1_000,
    );
    let false_deaths = false_deaths(&connections);
    found.print(config.worst_case_detection());
    println!(
        "missed freezes: {}, false deaths: {false_deaths}",
        found.missed
    );
    let kept = found.missed == 0 && false_deaths == 0;
    runtime.block_on(async { drop(connections) });
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn config(interval: Duration) -> Result<Config, BoxError> {
    // The peers are always ready, so the bound need not count the wait for that.
    Ok(Config::builder()
        .interval(interval)
        .pong_timeout(interval / 5)
        .max_missed(2)
        .ready_timeout(Duration::ZERO)
        .build()?)
}

async fn connect(
    peers: &'static [AtomicBool],
    config: &Config,
    connections: &mut Vec<Heartbeat<Peer>>,
) {
    let layer = HeartbeatLayer::new(*config, ping::request(|| ()));
    for frozen in peers {
        connections.push(layer.layer(Peer { frozen }));
        // Fewer than tokio polls in a row, so that what they start keeps up.
        if connections.len().is_multiple_of(50) {
            tokio::task::yield_now().await;
        }
    }
    sleep(Duration::from_millis(10)).await;
}

/// A peer in memory.
#[derive(Clone)]
struct Peer {
    frozen: &'static AtomicBool,
}

impl Service<()> for Peer {
    type Response = ();
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Answer {
        PINGS.fetch_add(1, Ordering::Relaxed);
        Answer {
            frozen: self.frozen,
            on_its_way: true,
        }
    }
}

/// Comes when its task has been woken once, as an answer from a socket does.
struct Answer {
    frozen: &'static AtomicBool,
    on_its_way: bool,
}

impl Future for Answer {
    type Output = Result<(), Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.frozen.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.on_its_way) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// Freezes peers at random moments of the first two intervals, and waits until all should be found.
async fn freeze_some(connections: &[Heartbeat<Peer>], config: &Config, found: &mut Found) {
    let delays = tokio::spawn(watch_delays());
    let (start, mut random) = (Instant::now(), Random(0x5eed));
    let mut freezes: Vec<(Instant, usize)> = (0..FREEZES.min(connections.len()))
        .map(|_| {
            let moment = (2 * config.interval()).mul_f64(random.fraction());
            let which = random.fraction() * connections.len() as f64;
            (start + moment, which as usize)
        })
        .collect();
    freezes.sort_unstable();
    let verdicts = Arc::new(Mutex::new(Vec::with_capacity(FREEZES)));
    for (moment, which) in freezes {
        sleep_until(moment).await;
        let peer = connections[which].get_ref();
        let handle = connections[which].handle();
        // Drawn twice, or already dead, which is counted at the end.
        if peer.frozen.load(Ordering::Relaxed) || handle.failure().is_some() {
            continue;
        }
        found.frozen += 1;
        let (frozen_at, verdicts) = (Instant::now(), Arc::clone(&verdicts));
        peer.frozen.store(true, Ordering::Relaxed);
        handle.on_end(move |error| {
            if error.failure() == Failure::PongTimeout {
                let found_after = frozen_at.elapsed();
                verdicts
                    .lock()
                    .expect("no panic under it")
                    .push(found_after);
            }
        });
    }
    sleep(config.worst_case_detection() + config.interval() / 5).await;
    found.after = std::mem::take(&mut verdicts.lock().expect("no panic under it"));
    found.after.sort_unstable();
    found.missed = found.frozen - found.after.len();
    delays.abort();
}

/// How long a task that is due has to wait because others hold the thread.
async fn watch_delays() {
    let step = Duration::from_millis(20);
    loop {
        let due = Instant::now() + step;
        sleep_until(due).await;
        let delay = due.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        LONGEST_DELAY_MICROS.fetch_max(delay, Ordering::Relaxed);
    }
}

/// When the freezes were found.
#[derive(Default)]
struct Found {
    frozen: usize,
    after: Vec<Duration>,
    missed: usize,
}

impl Found {
    fn print(&self, bound: Duration) {
        const ROWS: u32 = 12;
        println!("{} freezes, found after", self.frozen);
        let rows = (0..ROWS).map(|row| {
            let (from, to) = (bound * row / ROWS, bound * (row + 1) / ROWS);
            // What is found at the bound is in time.
            let within = |after: &&Duration| (from < **after || row == 0) && **after <= to;
            (from, to, self.after.iter().filter(within).count())
        });
        let most = rows.clone().map(|(_, _, n)| n).max().unwrap_or_default();
        for (from, to, n) in rows {
            let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
            let bar = "#".repeat((n * 50).div_ceil(most.max(1)));
            println!("{from:8.2} s to {to:6.2} s {n:6}  {bar}");
        }
        let late = self.after.iter().filter(|after| **after > bound).count();
        let latest = self.after.last().copied().unwrap_or_default();
        println!("later than the bound: {late}; the last after {latest:.3?} of {bound:.3?}");
    }
}

fn false_deaths(connections: &[Heartbeat<Peer>]) -> usize {
    let dead = connections.iter().filter(|connection| {
        !connection.get_ref().frozen.load(Ordering::Relaxed)
            && connection.handle().failure().is_some()
    });
    dead.count()
}

fn process_cpu() -> Duration {
    let now = ClockId::CLOCK_PROCESS_CPUTIME_ID.now();
    now.expect("every Unix has it").into()
}

/// SplitMix64: the same moments in every run.
struct Random(u64);

impl Random {
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // As many bits as an `f64` holds, or it could round up to one.
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / 2_f64.powi(53)
    }
}
