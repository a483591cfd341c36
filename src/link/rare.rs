//! What most connections never need: made at the first call, wait, hook or end.

use std::sync::{
    Arc, Mutex, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tracing::Span;

use super::{Link, in_flight::Shard};
use crate::{
    error::{Cause, HeartbeatError},
    rtt::Rtt,
    wakers::WakerSet,
};

#[derive(Default)]
pub(super) struct Rare {
    pub(super) cause: OnceLock<Arc<Cause>>,
    /// Why it takes no more calls, where that came from outside the machine. Not yet its end.
    pub(super) departure: OnceLock<Arc<Cause>>,
    /// Whether the inner service said that it takes no more calls.
    pub(super) broken: AtomicBool,
    /// Whether it was closed on this side, before its end or after.
    pub(super) closed: AtomicBool,
    /// Whether the hooks have run, so that whoever waits is woken.
    pub(super) over: AtomicBool,
    /// Held `poll_ready` calls and whoever waits on a handle; futures in flight wait in shards.
    pub(super) waiters: WakerSet,
    pub(super) hooks: Mutex<Hooks>,
    /// All that were ever made, at most one a slot.
    pub(super) shards: Mutex<Vec<Weak<Shard>>>,
    /// The way to a driver, until somebody polls inside a runtime.
    pub(super) launch: Mutex<Option<Launch>>,
    pub(super) long_rtt: Mutex<Option<Box<Rtt>>>,
    span: OnceLock<Box<Span>>,
}

/// Hands the connection to a driver, once there is a runtime.
pub(crate) type Launch = Box<dyn FnOnce(Arc<Link>) + Send>;

pub(super) type Hook = Box<dyn FnOnce(&HeartbeatError) + Send>;

pub(super) enum Hooks {
    Waiting(Vec<Hook>),
    Ran,
}

impl Default for Hooks {
    fn default() -> Self {
        Hooks::Waiting(Vec::new())
    }
}

impl Rare {
    pub(super) fn enter(&self, span: Span) {
        let _first = self.span.set(Box::new(span));
    }

    pub(super) fn span(&self) -> Span {
        self.span
            .get()
            .map_or_else(Span::none, |span| Span::clone(span))
    }
}

/// Tells the connections of one process apart.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
