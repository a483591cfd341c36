//! The end of a connection against calls that are just being made: two threads, real time.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::runtime::Builder;
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{Failure, Handle, Heartbeat};

use crate::support::{Connection, Mood, Outcome, Peer, Request, classic, layer, ms};

const ROUNDS: usize = 20_000;

#[test]
fn whoever_calls_while_the_connection_ends_is_told() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let peer = Peer::new();
    let layer = layer(classic().interval(Duration::from_secs(3_600)));
    let killer = Killer::start();
    for round in 0..ROUNDS {
        // Answered, unless the end comes first, or only ever ended.
        let (kill, mood) = match round % 4 {
            0 => (Kill::Close, Mood::Answers),
            1 => (Kill::Close, Mood::Frozen),
            2 => (Kill::Verdict, Mood::Fails),
            _ => (Kill::Verdict, Mood::FailsAndKeepsWork),
        };
        peer.be(mood);
        let mut service = layer.layer(Connection::to(&peer));
        let handle = service.handle();
        killer.sets_out(kill, &handle, round);
        let outcome = wait(async { service.ready().await?.call(Request::Work).await });
        let answers = matches!(mood, Mood::Answers | Mood::Fails);
        let served = assert_told(&outcome, kill);
        assert!(answers || !served, "by whom?");
        assert_over(&mut service, &handle, &peer, kill);
    }
    killer.stop();
    let by = Instant::now() + LIMIT;
    while Arc::strong_count(&peer) > 1 || runtime.metrics().num_alive_tasks() > 0 {
        assert!(Instant::now() < by, "something is left of them");
        thread::sleep(ms(1));
    }
}

#[test]
fn whoever_waits_for_the_end_while_it_comes_is_told() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let peer = Peer::new();
    peer.be(Mood::Fails);
    let layer = layer(classic().interval(Duration::from_secs(3_600)));
    let killer = Killer::start();
    for round in 0..ROUNDS / 4 {
        let kill = [Kill::Close, Kill::Verdict][round % 2];
        let service = layer.layer(Connection::to(&peer));
        let handle = service.handle();
        killer.sets_out(kill, &handle, round);
        assert_eq!(wait(handle.closed()), kill.failure());
        drop(service);
    }
    killer.stop();
}

#[derive(Clone, Copy, Debug)]
enum Kill {
    Close,
    /// By the driver, on the runtime's thread: a ping that fails.
    Verdict,
}

impl Kill {
    fn failure(self) -> Failure {
        match self {
            Kill::Close => Failure::Closed,
            Kill::Verdict => Failure::PingFailed,
        }
    }
}

/// Whether the call was served; if it was not, it was told why.
fn assert_told(outcome: &Outcome, kill: Kill) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) => {
            let error = error.heartbeat().expect("the heartbeat's");
            assert_eq!(error.failure(), kill.failure());
            false
        }
    }
}

/// Once the end is there, nothing goes to the peer any more, and everybody hears the same.
fn assert_over(service: &mut Heartbeat<Connection>, handle: &Handle, peer: &Peer, kill: Kill) {
    assert_eq!(wait(handle.closed()), kill.failure());
    let seen = peer.calls();
    let late = service.call(Request::Work);
    assert!(!assert_told(&wait(late), kill), "after the end");
    let ready = wait(service.ready().map(|ready| ready.map(drop)));
    assert!(!assert_told(&ready, kill), "after the end");
    assert_eq!(peer.calls(), seen);
    assert_eq!(handle.failure(), Some(kill.failure()));
}

/// The second thread.
struct Killer {
    orders: mpsc::Sender<(Kill, Handle, usize)>,
    /// How many orders it has set out for.
    seen: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Killer {
    fn start() -> Killer {
        let (orders, inbox) = mpsc::channel::<(Kill, Handle, usize)>();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        let kill = move || {
            for (kill, handle, round) in inbox {
                counter.fetch_add(1, Ordering::Release);
                spin(round * 11 % MOST_SPINS);
                match kill {
                    Kill::Close => handle.close(),
                    Kill::Verdict => ask_for_a_ping(&handle),
                }
            }
        };
        Killer {
            orders,
            seen,
            thread: thread::spawn(kill),
        }
    }

    /// Returns when it is on its way, and a little later: the two are to meet at many places.
    fn sets_out(&self, kill: Kill, handle: &Handle, round: usize) {
        let before = self.seen.load(Ordering::Acquire);
        self.orders.send((kill, handle.clone(), round)).unwrap();
        while self.seen.load(Ordering::Acquire) == before {
            thread::yield_now();
        }
        spin(round * 37 % MOST_SPINS);
    }

    fn stop(self) {
        drop(self.orders);
        self.thread.join().expect("the killer is well");
    }
}

const MOST_SPINS: usize = 512;

fn spin(times: usize) {
    for _ in 0..times {
        std::hint::spin_loop();
    }
}

/// The first poll asks for it; who asked may leave.
fn ask_for_a_ping(handle: &Handle) {
    let _left = pin!(handle.ping_now()).poll(&mut Context::from_waker(Waker::noop()));
}

/// Blocks this thread on `future`, and panics where it would hang.
fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let by = Instant::now() + LIMIT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        thread::park_timeout(LIMIT);
        assert!(Instant::now() < by, "it would hang");
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// For schedulers that are late; nobody is meant to wait as long.
const LIMIT: Duration = Duration::from_secs(30);
