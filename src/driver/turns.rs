//! The runtime's turns: between two of them everybody else gets to run, and the sockets are read.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

use crate::inbox::Inbox;

/// Counts the turns that a driver asked for.
pub(super) struct Turns {
    inbox: Arc<Inbox>,
    count: AtomicU64,
    asked: AtomicBool,
}

impl Turns {
    pub(super) fn new(inbox: &Arc<Inbox>) -> Arc<Turns> {
        Arc::new(Turns {
            inbox: Arc::clone(inbox),
            count: AtomicU64::new(0),
            asked: AtomicBool::new(false),
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Has the driver polled after the next turn. A plain wake-up would come back before the
    /// runtime has looked at its sockets; this one comes after.
    pub(super) fn ask(self: &Arc<Self>) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            let waker = Waker::from(Arc::new(Turn(Arc::clone(self))));
            let polled = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
            debug_assert!(polled.is_pending());
        }
    }
}

/// Counts once the runtime lets go of it: woken, or dropped with whatever else it had put off.
struct Turn(Arc<Turns>);

impl Wake for Turn {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.asked.store(false, Ordering::Release);
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.inbox.wake();
    }
}
