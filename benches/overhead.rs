//! What a heartbeat costs a request, beside `tower::timeout` and `PeakEwma`, in one run.
//!
//! `cargo bench --bench overhead -- --ratios` prints the table of the README: rounds of all
//! services in turn, medians, each as a share of `Timeout`'s own overhead over the bare service.
//! `--only "pending once" heartbeat` sends 100,000 requests through one of them, for
//! `valgrind --tool=callgrind`, whose instruction counts no noise reaches.
//! Without either, criterion measures each by itself.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    sync::Barrier,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use tower::{Layer, Service, load::PeakEwma, timeout::Timeout};
use tower_heartbeat::{Config, HeartbeatLayer, ping};

/// Answers at once.
#[derive(Clone)]
struct AtOnce;

impl Service<u64> for AtOnce {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

/// Answers at the second poll.
#[derive(Clone)]
struct Later;

struct PendingOnce(u64, bool);

impl Service<u64> for Later {
    type Response = u64;
    type Error = Infallible;
    type Future = PendingOnce;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        PendingOnce(request, false)
    }
}

impl Future for PendingOnce {
    type Output = Result<u64, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.1, true) {
            Poll::Ready(Ok(self.0))
        } else {
            Poll::Pending
        }
    }
}

/// Time of `requests` requests, one after the other.
fn requests<S>(service: &mut S, requests: u64) -> Duration
where
    S: Service<u64, Response = u64>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let start = Instant::now();
    for request in 0..requests {
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut future = pin!(service.call(black_box(request)));
        loop {
            if let Poll::Ready(response) = future.as_mut().poll(&mut cx) {
                black_box(response.ok());
                break;
            }
        }
    }
    start.elapsed()
}

/// Time until each of two threads has sent `count` requests through its clone of one connection.
fn on_two_threads<S>(service: &S, count: u64) -> Duration
where
    S: Service<u64, Response = u64> + Clone + Send + Sync,
{
    let runtime = tokio::runtime::Handle::current();
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let _entered = runtime.enter();
                    let mut service = service.clone();
                    requests(&mut service, 1_000);
                    barrier.wait();
                    requests(&mut service, count)
                })
            })
            .collect();
        let times = threads.into_iter().map(|thread| thread.join());
        times.map(|time| time.expect("no panic")).sum::<Duration>() / 2
    })
}

fn heartbeat<S>(service: S) -> tower_heartbeat::Heartbeat<S>
where
    S: Service<u64> + Clone + Send + 'static,
    S::Error: Into<tower_heartbeat::BoxError>,
    S::Future: Send,
{
    HeartbeatLayer::new(Config::default(), ping::request(|| 0_u64)).layer(service)
}

fn timeout<S>(service: S) -> Timeout<S> {
    Timeout::new(service, Duration::from_secs(60))
}

fn peak_ewma<S>(service: S) -> PeakEwma<S> {
    PeakEwma::new(service, Duration::from_millis(30), 1e9, Default::default())
}

type Measure = Box<dyn Fn(u64) -> Duration>;

/// The measures of one kind of response: bare, timeout, PeakEwma, heartbeat.
fn measures<S>(service: S, threads: bool) -> Vec<(&'static str, Measure)>
where
    S: Service<u64, Response = u64> + Clone + Send + Sync + 'static,
    S::Error: Into<tower_heartbeat::BoxError>,
    S::Future: Send,
{
    fn measure<S>(service: S, threads: bool) -> Measure
    where
        S: Service<u64, Response = u64> + Clone + Send + Sync + 'static,
    {
        if threads {
            Box::new(move |count| on_two_threads(&service, count))
        } else {
            Box::new(move |count| requests(&mut service.clone(), count))
        }
    }
    let mut all = vec![
        ("bare", measure(service.clone(), threads)),
        ("timeout", measure(timeout(service.clone()), threads)),
    ];
    if !threads {
        let ewma = peak_ewma(service.clone());
        // Not `Clone`; one thread needs one.
        let ewma = std::cell::RefCell::new(ewma);
        all.push((
            "peak_ewma",
            Box::new(move |count| requests(&mut *ewma.borrow_mut(), count)),
        ));
    }
    all.push(("heartbeat", measure(heartbeat(service), threads)));
    all
}

fn scenarios() -> Vec<(&'static str, Vec<(&'static str, Measure)>)> {
    vec![
        ("ready at once", measures(AtOnce, false)),
        ("pending once", measures(Later, false)),
        ("pending once, two threads", measures(Later, true)),
    ]
}

/// Rounds of all measures in turn, so that a noisy moment meets them all; medians.
fn ratios() {
    const ROUNDS: usize = 41;
    const REQUESTS: u64 = 50_000;
    println!("overhead over the bare service, ns a request (share of timeout's)");
    for (scenario, measures) in scenarios() {
        let mut times = vec![Vec::new(); measures.len()];
        for _ in 0..ROUNDS {
            for (times, (_, measure)) in times.iter_mut().zip(&measures) {
                times.push(measure(REQUESTS).as_nanos() as f64 / REQUESTS as f64);
            }
        }
        let medians: Vec<f64> = times
            .iter_mut()
            .map(|times| {
                times.sort_by(f64::total_cmp);
                times[ROUNDS / 2]
            })
            .collect();
        let (bare, timeout) = (medians[0], medians[1] - medians[0]);
        print!("{scenario:26} bare {bare:6.1}");
        for ((name, _), median) in measures.iter().zip(&medians).skip(1) {
            let over = median - bare;
            print!("  {name} +{over:.1} ({:.2})", over / timeout);
        }
        println!();
    }
}

fn only(scenario: &str, service: &str) {
    let scenarios = scenarios()
        .into_iter()
        .filter(|(name, _)| *name == scenario);
    for (name, measure) in scenarios.flat_map(|(_, measures)| measures) {
        if name == service {
            println!("{:?}", measure(100_000));
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--ratios") => return ratios(),
        Some("--only") => return only(&arguments[2], &arguments[3]),
        _ => {}
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (scenario, measures) in scenarios() {
        let mut group = criterion.benchmark_group(scenario);
        for (name, measure) in measures {
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_custom(&measure);
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
