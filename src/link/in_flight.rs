//! Who uses a connection: services, and requests in flight.
//!
//! A request in flight is one count of its shard's `Arc`, which its future and its body hold
//! anyway: the hot path pays nothing beside the clone. That count is exact because nothing else
//! keeps one: the link's side holds `Weak`s, and [`Users`] one count a shard, which
//! [`in_flight`] subtracts.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use super::{Link, lock};
use crate::{
    error::{Cause, Failure, HeartbeatError, Stage},
    spawn::Launch,
    wakers::{Key, WakerSet},
};

/// Two threads that work on one connection would fight for one counter and one lock; more shards
/// than this gain nothing (see "The hot path" in DESIGN.md).
const SHARDS: usize = 4;

/// What every clone of a [`Heartbeat`](crate::Heartbeat) holds. Its drop tells the driver.
pub(crate) struct Users {
    pub(crate) link: Arc<Link>,
    shards: [OnceLock<Arc<Shard>>; SHARDS],
    /// The driver, until somebody polls inside a runtime.
    launch: Mutex<Option<Launch>>,
}

/// The requests of a few threads. Padded, so that two shards never share a cache line.
#[repr(align(128))]
pub(crate) struct Shard {
    link: Arc<Link>,
    wakers: WakerSet,
}

/// Where the link finds the users, without keeping them.
pub(crate) enum Parties {
    /// Services are there; or, if it can't be upgraded, the last one is just being dropped.
    Users(Weak<Users>),
    /// No service is left, only requests in flight.
    Orphans(Vec<Weak<Shard>>),
}

impl Users {
    pub(crate) fn new(link: Arc<Link>) -> Arc<Users> {
        let users = Arc::new(Users {
            shards: Default::default(),
            launch: Mutex::new(None),
            link,
        });
        *lock(&users.link.parties) = Parties::Users(Arc::downgrade(&users));
        users
    }

    /// Has the driver run, now or when somebody polls inside a runtime.
    pub(crate) fn launch_or_keep(&self, launch: Launch) {
        if let Err(launch) = launch.try_now() {
            *lock(&self.launch) = Some(launch);
            self.link.set_launched(false);
        }
    }

    /// Has the driver run after all.
    pub(crate) fn launch(&self) {
        let launch = lock(&self.launch).take();
        self.link.set_launched(true);
        if let Some(Err(launch)) = launch.map(Launch::try_now) {
            // Without a runtime nobody can watch the connection; dropping the driver says so.
            self.link.end(Cause::new(Failure::MonitorGone));
            drop(launch);
        }
    }

    /// Counts one more request in flight.
    #[inline]
    pub(crate) fn enter(&self) -> InFlight {
        let shard = self.shards[shard_of_this_thread()].get_or_init(|| {
            Arc::new(Shard {
                link: Arc::clone(&self.link),
                wakers: WakerSet::new(),
            })
        });
        InFlight {
            shard: Arc::clone(shard),
            key: Key::NONE,
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        let orphans = self
            .shards
            .iter()
            .filter_map(|shard| shard.get().map(Arc::downgrade))
            .collect();
        *lock(&self.link.parties) = Parties::Orphans(orphans);
        // An end that came before the line above found nobody to wake; one after it finds the orphans.
        if self.link.ended().is_some() {
            for shard in self.shards.iter().filter_map(OnceLock::get) {
                shard.wake_all();
            }
        }
        // Where requests are still in flight, their shard's drop wakes it again.
        self.link.wake_driver();
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.link.wake_driver();
    }
}

impl Shard {
    pub(crate) fn wake_all(&self) {
        self.wakers.wake_all();
    }
}

/// How many requests are in flight; `None` in the instant in which the last service goes.
pub(crate) fn in_flight(link: &Link) -> Option<usize> {
    let users = match &*lock(&link.parties) {
        Parties::Orphans(shards) => return Some(shards.iter().map(Weak::strong_count).sum()),
        Parties::Users(users) => users.upgrade(),
    };
    // Counted outside the lock: this may turn out to be the last count of the users, whose drop
    // takes it.
    users.map(|users| {
        let shards = users.shards.iter().filter_map(OnceLock::get);
        shards.map(|shard| Arc::strong_count(shard) - 1).sum()
    })
}

/// Whether neither a service nor a request is left.
pub(crate) fn is_abandoned(link: &Link) -> bool {
    match &*lock(&link.parties) {
        Parties::Orphans(shards) => shards.iter().all(|shard| shard.strong_count() == 0),
        Parties::Users(_) => false,
    }
}

/// The shards that anybody may be waiting in.
pub(crate) fn shards(link: &Link) -> Vec<Arc<Shard>> {
    let users = match &*lock(&link.parties) {
        Parties::Orphans(shards) => return shards.iter().filter_map(Weak::upgrade).collect(),
        Parties::Users(users) => users.upgrade(),
    };
    match users {
        Some(users) => {
            let shards = users.shards.iter().filter_map(OnceLock::get);
            shards.map(Arc::clone).collect()
        }
        // The last service goes at this moment, and its drop wakes them.
        None => Vec::new(),
    }
}

/// A request in flight. While it is kept, the connection is busy, and alive.
///
/// The response future holds it until the response's head, then hands it to the layer's
/// [`TrackCompletion`](crate::TrackCompletion).
pub struct InFlight {
    shard: Arc<Shard>,
    key: Key,
}

impl InFlight {
    /// Reports a sign of life: something of this request's answer came in.
    #[inline]
    pub fn heard(&self) {
        self.shard.link.heard();
    }

    /// Returns why the connection has ended, if it has.
    #[must_use]
    pub fn ended(&self, stage: Stage) -> Option<HeartbeatError> {
        let cause = self.shard.link.ended()?;
        Some(HeartbeatError::shared(Arc::clone(cause), stage))
    }

    /// Waits for the end of the connection; wakes the task that polled last. To be polled after
    /// the work itself was found pending, so that an answer that is there wins.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>, stage: Stage) -> Poll<HeartbeatError> {
        match self.poll_cause(cx) {
            Poll::Ready(cause) => Poll::Ready(HeartbeatError::shared(cause, stage)),
            Poll::Pending => Poll::Pending,
        }
    }

    #[inline]
    fn poll_cause(&mut self, cx: &mut Context<'_>) -> Poll<Arc<Cause>> {
        let link = &self.shard.link;
        let waits = self
            .shard
            .wakers
            .register(&mut self.key, cx, || link.ended().is_some());
        if waits {
            return Poll::Pending;
        }
        match link.ended() {
            Some(cause) => Poll::Ready(Arc::clone(cause)),
            None => unreachable!("only an end turns a waiter away"),
        }
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        if !self.key.is_none() {
            self.shard.wakers.remove(&mut self.key);
        }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("link", &self.shard.link)
            .finish_non_exhaustive()
    }
}

/// By thread, not by clone: users clone a service for every request.
#[inline]
fn shard_of_this_thread() -> usize {
    thread_local! {
        // A constant and no destructor: reading it is one load, also while the thread ends.
        static SHARD: Cell<usize> = const { Cell::new(UNASSIGNED) };
    }
    SHARD.with(|shard| match shard.get() {
        UNASSIGNED => {
            shard.set(next_shard());
            shard.get()
        }
        assigned => assigned,
    }) % SHARDS
}

const UNASSIGNED: usize = usize::MAX;

#[cold]
fn next_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
}
