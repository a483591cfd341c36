//! Many pings due at once leave the runtime to others: one thread, in the time that it ran.
//!
//! # How the limits were chosen
//!
//! A task that comes back at once, turn after turn, measures the others: each of its gaps is time
//! in which nobody else got to run. The limit is a millisecond; a build without optimization is
//! five times as slow, and its limit five times as long. All pings in one turn take longer than that
//! in either build (27 ms without optimization). The gaps are of the thread's own time, in which a busy machine that takes
//! the thread away plays no part; what it does to the caches is left to the best of some bursts: a driver that holds
//! the runtime does so in each. The turns themselves are counted too, whatever time they take.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tower::{Layer, Service};
use tower_heartbeat::{Config, ConfigBuilder, Handle, Heartbeat, HeartbeatLayer, ping};

const COUNT: usize = 10_000;
/// At most so many pings in a row before others get a turn.
const IN_A_ROW: usize = 128;
const BURSTS: usize = 5;
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5 } else { 1 });

#[test]
fn ten_thousand_pings_that_are_asked_for_at_once_leave_others_their_turns() {
    let line = Line::default();
    // None falls due by itself.
    let config = Config::builder().interval(Duration::from_secs(3_600));
    let bursts = measure(config, &line, |handles| {
        for handle in handles {
            ask_for_a_ping(handle);
        }
    });
    assert_others_had_their_turns(&bursts);
}

#[test]
fn ten_thousand_pings_that_fall_due_at_once_leave_others_their_turns() {
    let line = Line::default();
    let interval = Duration::from_millis(600);
    // Late by more than an interval, everybody is due; no pong wait is ever over.
    let config = Config::builder()
        .interval(interval)
        .pong_timeout(Duration::from_secs(3_600));
    let bursts = measure(config, &line, move |_| thread::sleep(interval * 5 / 4));
    assert_others_had_their_turns(&bursts);
}

/// What another task saw while all connections were pinged once: its turns between the first ping
/// and the last, and its longest gap.
#[derive(Clone, Copy, Debug)]
struct Burst {
    turns: usize,
    longest_gap: Duration,
}

fn assert_others_had_their_turns(bursts: &[Burst]) {
    for burst in bursts {
        assert!(burst.turns >= COUNT / IN_A_ROW, "{bursts:?}");
    }
    let best = bursts.iter().map(|burst| burst.longest_gap).min();
    assert!(best.is_some_and(|gap| gap <= LIMIT), "{bursts:?}");
}

/// Has all pings due by `make_due`, again and again.
fn measure<F>(config: ConfigBuilder, line: &Line, make_due: F) -> Vec<Burst>
where
    F: Fn(&[Handle]) + Send + Sync + 'static,
{
    // Beside each other they would measure each other.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let entered = runtime.enter();
    let layer = HeartbeatLayer::new(config.build().unwrap(), ping::request(|| ()));
    let connect = |_| layer.layer(line.clone());
    let services: Vec<Heartbeat<Line>> = (0..COUNT).map(connect).collect();
    drop(entered);
    let handles: Arc<[Handle]> = services.iter().map(Heartbeat::handle).collect();
    let make_due = Arc::new(make_due);
    runtime.block_on(async {
        let mut bursts = Vec::new();
        for _ in 0..=BURSTS {
            let (handles, make_due) = (Arc::clone(&handles), Arc::clone(&make_due));
            let burst = watch(line.clone(), move || make_due(&handles));
            bursts.push(tokio::spawn(burst).await.unwrap());
        }
        assert!(handles.iter().all(|handle| handle.failure().is_none()));
        // In the first, connections were still new to their driver.
        bursts.split_off(1)
    })
}

/// Has the pings due in its first turn, and then takes every turn it gets until they went out.
async fn watch(line: Line, make_due: impl FnOnce()) -> Burst {
    let mut burst = Burst {
        turns: 0,
        longest_gap: Duration::ZERO,
    };
    let until = line.pings() + COUNT;
    make_due();
    let mut last_turn = time_of_this_thread();
    let by = Instant::now() + Duration::from_secs(60);
    yield_now().await;
    loop {
        let now = time_of_this_thread();
        burst.longest_gap = burst.longest_gap.max(now - last_turn);
        last_turn = now;
        if line.pings() >= until {
            return burst;
        }
        // Before the first ping the runtime hasn't looked at its timers.
        burst.turns += usize::from(line.pings() > until - COUNT);
        assert!(
            Instant::now() < by,
            "{} pings are missing",
            until - line.pings()
        );
        yield_now().await;
    }
}

fn time_of_this_thread() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).expect("a clock").into()
}

/// Back to the end of the queue at once; tokio's own lets the runtime look at its timers first.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The first poll asks for it; who asked may leave.
fn ask_for_a_ping(handle: &Handle) {
    let polled = pin!(handle.ping_now()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
}

/// A connection that answers at once, and counts for all.
#[derive(Clone, Debug, Default)]
struct Line {
    pings: Arc<AtomicUsize>,
}

impl Line {
    fn pings(&self) -> usize {
        self.pings.load(Ordering::Relaxed)
    }
}

impl Service<()> for Line {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.pings.fetch_add(1, Ordering::Relaxed);
        ready(Ok(()))
    }
}
