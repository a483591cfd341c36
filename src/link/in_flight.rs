//! Who uses a connection: services, and requests in flight.
//!
//! A request in flight is one count of its shard's `Arc`, which its future and its body hold
//! anyway: the hot path pays nothing beside the clone. Nothing else keeps one: the link's side holds
//! `Weak`s, and [`Users`] one count a shard, which [`in_flight`] subtracts. So the count is never too
//! low; a passing look at the shards, or the last service that is just going, may make it one too high.

use std::{
    cell::Cell,
    fmt, mem,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering, fence},
    },
    task::{Context, Poll},
};

use once_cell::race::OnceBox;

use super::{Launch, Link, lock, record::ORPHANED};
use crate::{
    error::{Cause, Failure, HeartbeatError, Stage},
    wakers::{Key, WakerSet},
};

/// Two threads that work on one connection would fight for one counter and one lock; more shards
/// than this gain nothing (see "The hot path" in DESIGN.md).
const SHARDS: usize = 4;

/// What every clone of a [`Heartbeat`](crate::Heartbeat) holds. Its drop tells the driver.
pub(crate) struct Users {
    pub(crate) link: Arc<Link>,
    /// Made at the first call.
    shards: OnceBox<[OnceLock<Arc<Shard>>; SHARDS]>,
}

/// The requests of a few threads. Padded, so that two shards never share a cache line.
#[repr(align(128))]
pub(crate) struct Shard {
    link: Arc<Link>,
    wakers: WakerSet,
}

impl Users {
    pub(crate) fn new(link: Arc<Link>) -> Arc<Users> {
        Arc::new(Users {
            link,
            shards: OnceBox::new(),
        })
    }

    /// Has `launch` called when somebody polls.
    pub(crate) fn launch_later(&self, launch: Launch) {
        *lock(&self.link.rare().launch) = Some(launch);
        self.link.set_launched(false);
    }

    pub(crate) fn launch(&self) {
        let launch = lock(&self.link.rare().launch).take();
        self.link.set_launched(true);
        if let Some(launch) = launch {
            launch(Arc::clone(&self.link));
        }
    }

    /// Counts one more request in flight.
    #[inline]
    pub(crate) fn enter(&self) -> InFlight {
        let shards = self.shards.get_or_init(Box::default);
        let shard = shards[shard_of_this_thread()].get_or_init(|| Shard::of(&self.link));
        let shard = Arc::clone(shard);
        // Before the status is read; see `meet_calls`. No instruction on x86.
        fence(Ordering::Acquire);
        InFlight {
            shard,
            key: Key::NONE,
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        // Before the shards lose their counts; see `in_flight`.
        self.link.bits.set(ORPHANED, true);
        // Where requests are still in flight, their shard's drop wakes the driver again.
        drop(mem::take(&mut self.shards));
        let unlaunched = self.link.rare_if_any().and_then(|rare| {
            // It holds what would be watched, so its drop runs foreign code: not under the lock.
            lock(&rare.launch).take()
        });
        if unlaunched.is_some() {
            self.link.end(Cause::new(Failure::Closed));
        }
        drop(unlaunched);
        self.link.wake_driver();
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.link.wake_driver();
    }
}

impl Shard {
    #[cold]
    fn of(link: &Arc<Link>) -> Arc<Shard> {
        let shard = Arc::new(Shard {
            link: Arc::clone(link),
            wakers: WakerSet::new(),
        });
        lock(&link.rare().shards).push(Arc::downgrade(&shard));
        shard
    }

    pub(crate) fn wake_all(&self) {
        self.wakers.wake_all();
    }
}

/// How many requests are in flight. Never too few.
pub(crate) fn in_flight(link: &Link) -> usize {
    let Some(rare) = link.rare_if_any() else {
        return 0;
    };
    let counts = lock(&rare.shards);
    if counts.is_empty() {
        return 0;
    }
    let (mut all, mut held) = (0, 0);
    for count in counts.iter().map(Weak::strong_count) {
        all += count;
        held += usize::from(count > 0);
    }
    // After the counts: if the services' own are missing there, this says so.
    fence(Ordering::Acquire);
    if link.bits.has(ORPHANED) {
        all
    } else {
        all - held
    }
}

/// To be called between a look at a status that turns calls away and the count of those in flight:
/// a call counts itself, then reads the status, and one of the two has to see the other.
///
/// Taking and giving back a count of each shard puts this into the order of its counts. A call that
/// counted itself before is seen from here on; one that does later finds the status.
pub(crate) fn meet_calls(link: &Link) {
    drop(shards(link));
}

/// Whether neither a service nor a request is left.
pub(crate) fn is_abandoned(link: &Link) -> bool {
    link.bits.has(ORPHANED) && in_flight(link) == 0
}

/// The shards that anybody may be waiting in.
pub(crate) fn shards(link: &Link) -> Vec<Arc<Shard>> {
    match link.rare_if_any() {
        Some(rare) => lock(&rare.shards)
            .iter()
            .filter_map(Weak::upgrade)
            .collect(),
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
        self.shard.link.answered();
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
