//! What many connections under one layer cost, beside the recipe that people write by hand, in
//! one run: a task for each connection, with `interval` and a `timeout` around the ping.
//!
//! `cargo bench --bench scale -- bytes`, `-- cpu` or `-- deaths`; without an argument, all three,
//! in about three minutes. A number after it is how many connections, one more after `cpu` is
//! the seconds measured. All of it is on the current-thread runtime, where the recipe is at its
//! best: no second thread contends for tokio's timers.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use nix::time::ClockId;
use tokio::{
    runtime::Runtime,
    sync::watch,
    task::{JoinHandle, yield_now},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{Config, Heartbeat, HeartbeatLayer, ping};

const PONG_TIMEOUT: Duration = Duration::from_secs(2);
/// For those that are to die.
const SHORT: Duration = Duration::from_millis(200);
const ROUNDS: usize = 31;

static PINGS: AtomicU64 = AtomicU64::new(0);

fn main() {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let number = |at: usize, default: u32| {
        let argument = arguments.get(at);
        argument.map_or(default, |number| number.parse().expect("a number"))
    };
    match arguments.first().map(String::as_str) {
        None => {
            bytes(1_000_000);
            cpu(100_000, 30);
            deaths(1_000);
        }
        Some("bytes") => bytes(number(1, 1_000_000)),
        Some("cpu") => cpu(number(1, 100_000), number(2, 30)),
        Some("deaths") => deaths(number(1, 1_000)),
        Some(other) => panic!("`{other}` is none of bytes, cpu, deaths"),
    }
}

/// A peer in memory, and when it answers: one of the constants below.
#[derive(Clone)]
struct Peer<const WHEN: u8>;

const AT_ONCE: u8 = 0;
/// When the task that asked has been woken once.
const LATER: u8 = 1;
const NEVER: u8 = 2;

impl<const WHEN: u8> Service<()> for Peer<WHEN> {
    type Response = ();
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Answer {
        PINGS.fetch_add(1, Ordering::Relaxed);
        Answer(WHEN)
    }
}

struct Answer(u8);

impl Future for Answer {
    type Output = Result<(), Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0 {
            AT_ONCE => return Poll::Ready(Ok(())),
            LATER => {
                self.0 = AT_ONCE;
                cx.waker().wake_by_ref();
            }
            _ => {}
        }
        Poll::Pending
    }
}

/// The recipe. It returns when the peer is dead.
async fn naive<S>(mut service: S, first: Instant, every: Duration, pong_timeout: Duration)
where
    S: Service<()>,
{
    let mut ticks = interval_at(first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ping = async { service.ready().await?.call(()).await };
        match timeout(pong_timeout, ping).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn naive_tasks<const WHEN: u8>(count: u32, every: Duration) -> Vec<JoinHandle<()>> {
    let now = Instant::now();
    // Spread over the interval, as the layer's are.
    let first = |i: u32| now + every.mul_f64(f64::from(i + 1) / f64::from(count));
    let task = |i| tokio::spawn(naive(Peer::<WHEN>, first(i), every, PONG_TIMEOUT));
    one_by_one(count, task).await
}

async fn connections<const WHEN: u8>(count: u32, every: Duration) -> Vec<Heartbeat<Peer<WHEN>>> {
    let layer = HeartbeatLayer::new(config(every, PONG_TIMEOUT), ping::request(|| ()));
    one_by_one(count, |_| layer.layer(Peer)).await
}

async fn one_by_one<T>(count: u32, mut make: impl FnMut(u32) -> T) -> Vec<T> {
    let mut all = Vec::with_capacity(count as usize);
    for i in 0..count {
        all.push(make(i));
        // Fewer than tokio polls in a row, or its queue of new tasks would grow and be counted.
        if i.is_multiple_of(50) {
            yield_now().await;
        }
    }
    all
}

fn config(interval: Duration, pong_timeout: Duration) -> Config {
    Config::builder()
        .interval(interval)
        .pong_timeout(pong_timeout)
        .max_missed(1)
        .build()
        .expect("legal settings")
}

fn runtime(paused: bool) -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .expect("a runtime")
}

/// What is requested from the allocator and not given back: by the layer, its driver and tasks,
/// tokio's tasks and timers, and the ping handles: a pointer to a box of two words for a request
/// through a service of no size, so 32 bytes each. Not counted: the users' service values, which are printed by themselves.
fn bytes(count: u32) {
    let every = Duration::from_secs(10);
    println!("bytes: requested each, {count} idle connections, service and ping of no size");
    println!(
        "{:12}{:>12}{:>12}{:>12}",
        "", "never used", "pinged", "called"
    );

    let clock = runtime(true);
    let mut services = Vec::new();
    let mut idle = requested(&clock, async {
        services = connections::<AT_ONCE>(count, every).await;
    });
    // A `Heartbeat` is the user's, and stands where the user puts it.
    idle -= (services.capacity() * size_of::<Heartbeat<Peer<AT_ONCE>>>()) as i64;
    let pinged = idle + requested(&clock, ping_all(count, every));
    let calls = async {
        services.iter_mut().for_each(call);
        // Two ticks later they are idle again, for the driver too.
        sleep(every / 4).await;
    };
    let called = pinged + requested(&clock, calls);
    row("heartbeat", count, [idle, pinged, called]);
    println!(
        "{:12}{:>12}",
        "its service",
        size_of::<Heartbeat<Peer<AT_ONCE>>>()
    );
    clock.block_on(async { drop(services) });

    let clock = runtime(true);
    let mut tasks = Vec::new();
    let mut idle = requested(&clock, async {
        tasks = naive_tasks::<AT_ONCE>(count, every).await;
    });
    idle -= (tasks.capacity() * size_of::<JoinHandle<()>>()) as i64;
    let pinged = idle + requested(&clock, ping_all(count, every));
    // A call knows nothing of the task, so it changes nothing.
    row("naive", count, [idle, pinged, pinged]);
}

fn requested(runtime: &Runtime, work: impl Future<Output = ()>) -> i64 {
    let work = async {
        work.await;
        // The paused clock moves on only when no task has anything left to do.
        sleep(Duration::from_millis(1)).await;
    };
    allocation_counter::measure(|| runtime.block_on(work)).bytes_current
}

async fn ping_all(count: u32, every: Duration) {
    let before = PINGS.load(Ordering::Relaxed);
    // The tick of an eighth and the first spread fit into it as well.
    sleep(every * 3 / 2).await;
    let pings = PINGS.load(Ordering::Relaxed) - before;
    assert!(pings >= u64::from(count), "{pings} pings");
}

fn call(service: &mut Heartbeat<Peer<AT_ONCE>>) {
    let call = async { service.ready().await?.call(()).await };
    assert!(matches!(call.now_or_never(), Some(Ok(()))));
}

fn row(name: &str, count: u32, columns: [i64; 3]) {
    print!("{name:12}");
    for bytes in columns {
        print!("{:12.1}", bytes as f64 / f64::from(count));
    }
    println!();
}

/// The figure is that of answers that are pending once, as every real answer is. The other one is
/// the least that a ping can cost. The allocator counts all the while, which burdens whoever allocates.
fn cpu(count: u32, seconds: u32) {
    let window = Duration::from_secs(seconds.into());
    let every = window / 3;
    println!("cpu: of the process, per ping, {count} connections, {every:?}, over {window:?}");
    compare(
        "pending once",
        per_ping(window, connections::<LATER>(count, every)),
        per_ping(window, naive_tasks::<LATER>(count, every)),
    );
    compare(
        "ready at once",
        per_ping(window, connections::<AT_ONCE>(count, every)),
        per_ping(window, naive_tasks::<AT_ONCE>(count, every)),
    );
}

fn compare(answer: &str, (ours, our_pings): (f64, u64), (naive, naive_pings): (f64, u64)) {
    println!(
        "{answer:14} heartbeat {ours:6.3} µs ({our_pings} pings)  naive {naive:6.3} µs \
         ({naive_pings} pings)  ratio {:.3}",
        ours / naive
    );
}

/// Microseconds of CPU for each ping, and how many there were.
fn per_ping<T>(window: Duration, set_up: impl Future<Output = Vec<T>>) -> (f64, u64) {
    runtime(false).block_on(async {
        let connections = set_up.await;
        // The first poll of each task is part of the set-up.
        sleep(window / 30).await;
        let (cpu, pings) = (process_cpu(), PINGS.load(Ordering::Relaxed));
        sleep(window).await;
        let cpu = process_cpu() - cpu;
        let pings = PINGS.load(Ordering::Relaxed) - pings;
        drop(connections);
        (cpu.as_secs_f64() * 1e6 / pings as f64, pings)
    })
}

fn process_cpu() -> Duration {
    let now = ClockId::CLOCK_PROCESS_CPUTIME_ID.now();
    now.expect("every Unix has it").into()
}

/// Verdict on a connection, and when its call in flight had failed.
type Death = (Instant, Instant);

/// All are pinged in the same moment, so that their verdicts fall together.
fn deaths(count: u32) {
    println!("deaths: {count} connections at once, a call in flight on each; {ROUNDS} rounds");
    // In turns, so that a noisy moment meets both.
    let (mut ours, mut recipe) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(runtime(false).block_on(async { spans(layer_dies(count)).await }));
        recipe.push(runtime(false).block_on(async { spans(naive_dies(count)).await }));
    }
    println!(
        "{:44}{:>18}{:>18}",
        "ms, median (most)", "heartbeat", "naive"
    );
    let names = [
        "first verdict to last call failed",
        "first verdict to last verdict",
        "verdict to its own call failed, the longest",
    ];
    for (i, name) in names.into_iter().enumerate() {
        let [ours, naive] = [&ours, &recipe].map(|rounds| {
            let mut times: Vec<f64> = rounds.iter().map(|spans| spans[i]).collect();
            times.sort_unstable_by(f64::total_cmp);
            format!("{:.3} ({:.3})", times[ROUNDS / 2], times[ROUNDS - 1])
        });
        println!("{name:44}{ours:>18}{naive:>18}");
    }
}

/// The three spans that are printed, in milliseconds.
async fn spans(calls: Vec<JoinHandle<Death>>) -> [f64; 3] {
    let (mut judged, mut failed, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for call in calls {
        let (judged_at, failed_at) = call.await.expect("no panic");
        judged.push(judged_at);
        failed.push(failed_at);
        own.push(failed_at - judged_at);
    }
    let first = judged.iter().min().copied();
    let since_first = |last: Option<Instant>| Some(last? - first?);
    let spans = [
        since_first(failed.into_iter().max()),
        since_first(judged.into_iter().max()),
        own.into_iter().max(),
    ];
    spans.map(|span| span.expect("some died").as_secs_f64() * 1e3)
}

fn layer_dies(count: u32) -> Vec<JoinHandle<Death>> {
    let layer = HeartbeatLayer::new(config(Duration::from_secs(60), SHORT), ping::request(|| ()));
    let mut handles = Vec::new();
    let calls = (0..count)
        .map(|_| {
            let mut service = layer.layer(Peer::<NEVER>);
            let judged_at = Arc::new(OnceLock::new());
            let verdict = Arc::clone(&judged_at);
            let handle = service.handle();
            handle.on_end(move |_| verdict.set(Instant::now()).expect("it ends once"));
            handles.push(handle);
            tokio::spawn(async move {
                let answer = service.call(()).await;
                let failed_at = Instant::now();
                assert!(answer.is_err(), "a frozen peer doesn't answer");
                (
                    *judged_at.get().expect("hooks run before wakers"),
                    failed_at,
                )
            })
        })
        .collect();
    for handle in handles {
        // It asks for the ping at its first poll; dropped, it doesn't call it off.
        assert!(handle.ping_now().now_or_never().is_none());
    }
    calls
}

fn naive_dies(count: u32) -> Vec<JoinHandle<Death>> {
    let first = Instant::now() + Duration::from_millis(20);
    (0..count)
        .map(|_| {
            let (alive, mut dead) = watch::channel(Instant::now());
            tokio::spawn(async move {
                naive(Peer::<NEVER>, first, Duration::from_secs(60), SHORT).await;
                alive.send_replace(Instant::now());
            });
            tokio::spawn(async move {
                tokio::select! {
                    _ = Peer::<NEVER>.call(()) => {}
                    _ = dead.changed() => {}
                }
                let failed_at = Instant::now();
                (*dead.borrow(), failed_at)
            })
        })
        .collect()
}
