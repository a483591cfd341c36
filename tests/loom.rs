//! The small protocols between those who use connections and the driver that watches them, in
//! every order that the memory model allows: the crate's own files, on loom's lock and atomics.

mod sync {
    pub(crate) use loom::{
        model,
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicU8, AtomicUsize, Ordering},
        },
    };
}

#[path = "../src/driver/arrivals.rs"]
mod arrivals;
#[path = "../src/share/desk.rs"]
mod desk;
#[path = "../src/inbox.rs"]
mod inbox;
#[expect(dead_code, reason = "one bit goes the way of all others")]
#[path = "../src/signals.rs"]
mod signals;
#[path = "../src/wakers.rs"]
mod wakers;

#[path = "loom/calls.rs"]
mod calls;
#[path = "loom/evidence.rs"]
mod evidence;
#[path = "loom/facts.rs"]
mod facts;
#[path = "loom/newcomers.rs"]
mod newcomers;
#[path = "loom/turns.rs"]
mod turns;
#[path = "loom/waiters.rs"]
mod waiters;

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use loom::{
    model,
    model::Builder,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    thread::{self, JoinHandle},
};

use crate::{inbox::Inbox, signals::Signals};

/// For models whose orders are too many: those with up to this many preemptions beside the waits.
/// `LOOM_MAX_PREEMPTIONS` allows another number; all together take minutes.
fn bounded_model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(test);
}

/// A task, and whether it was woken since it was last asked.
struct Task {
    woken: AtomicBool,
}

/// A connection, as `Link` keeps it and signals for it.
struct Connection {
    id: AtomicU32,
    signals: Signals,
    inbox: Arc<Inbox>,
    /// What the byte doesn't say: requests in flight, the status, the last drop.
    fact: AtomicUsize,
}

/// A driver with one place; it looks, and sleeps, as `SharedDriver` and `Watch` do.
struct Driver {
    task: Arc<Task>,
    inbox: Arc<Inbox>,
    place: Option<Arc<Connection>>,
    /// What its looks came to.
    raised: u8,
    fact: usize,
    looks: usize,
    /// The longest inbox that it met.
    called: usize,
}

const ID: u32 = 7;
const NO_ID: u32 = u32::MAX;

impl Task {
    fn new() -> Arc<Task> {
        Arc::new(Task {
            woken: AtomicBool::new(false),
        })
    }

    fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    fn was_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.swap(true, Ordering::AcqRel);
    }
}

impl Connection {
    fn new(inbox: &Arc<Inbox>) -> Arc<Connection> {
        Arc::new(Connection {
            id: AtomicU32::new(NO_ID),
            signals: Signals::new(),
            inbox: Arc::clone(inbox),
            fact: AtomicUsize::new(0),
        })
    }

    fn set_id(&self, id: u32) {
        self.id.store(id, Ordering::Release);
    }

    fn signal(&self, bit: u8) {
        if self.signals.raise(bit) {
            self.push();
        }
    }

    fn want_ping(&self) {
        if self.signals.raise(signals::PING_WANTED) || self.signals.queue() {
            self.push();
        }
    }

    fn wake_driver(&self) {
        if self.signals.queue() {
            self.push();
        }
    }

    fn change_fact(&self) {
        self.fact.fetch_add(1, Ordering::Relaxed);
        self.wake_driver();
    }

    fn push(&self) {
        let id = self.id.load(Ordering::Relaxed);
        if id != NO_ID {
            self.inbox.push(id);
        }
    }
}

impl Driver {
    /// One that sleeps, with a connection that it has looked at.
    fn asleep() -> (Driver, Arc<Connection>) {
        let mut driver = Driver::new();
        let connection = Connection::new(&driver.inbox);
        driver.admit(&connection);
        driver.poll();
        assert!(!driver.task.was_woken());
        (driver, connection)
    }

    fn new() -> Driver {
        Driver {
            task: Task::new(),
            inbox: Arc::new(Inbox::new()),
            place: None,
            raised: 0,
            fact: 0,
            looks: 0,
            called: 0,
        }
    }

    fn admit(&mut self, connection: &Arc<Connection>) {
        connection.set_id(ID);
        self.place = Some(Arc::clone(connection));
        self.look();
    }

    fn poll(&mut self) {
        let mut ids = Vec::new();
        self.inbox.take(&self.task.waker(), &mut ids);
        self.called = self.called.max(ids.len());
        for id in ids {
            assert_eq!(id, ID);
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(connection) = &self.place else {
            return;
        };
        self.looks += 1;
        self.raised |= connection.signals.take();
        self.fact = connection.fact.load(Ordering::Relaxed);
        if !connection.signals.arm() {
            connection.wake_driver();
        }
    }

    fn poll_if_woken(&mut self) {
        if self.task.was_woken() {
            self.poll();
        }
    }

    /// Nobody else runs any more: whatever is not seen now has been lost.
    fn settle(&mut self) {
        while self.task.was_woken() {
            self.poll();
        }
    }

    fn has_seen(&self, bit: u8) -> bool {
        self.raised & bit != 0
    }
}

/// A thread that does `work` with its own handle to `shared`.
fn beside<T, R>(shared: &Arc<T>, work: impl FnOnce(&T) -> R + 'static) -> JoinHandle<R>
where
    T: 'static,
    R: 'static,
{
    let shared = Arc::clone(shared);
    thread::spawn(move || work(&shared))
}

fn join<R>(thread: JoinHandle<R>) -> R {
    thread.join().expect("it doesn't panic")
}
