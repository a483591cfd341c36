//! A connection's driver without a task: whoever polls the transport polls it.
//!
//! The transport's two directions may be driven by two tasks, either of which may never come back.
//! So whatever the driver waits for wakes both, and whichever polls next attends to it.

mod slot;

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

pub(crate) use slot::Slot;

use crate::{
    config::Config,
    driver::{Arrivals, SharedDriver},
    inbox::Inbox,
    lanes::{Lane, Lanes},
    link::{Hub, Link, Observer, Users},
};

const ROUNDS: u32 = 4;

pub(crate) struct Inline {
    /// Gone once the connection has ended.
    driver: Option<SharedDriver<Slot>>,
    slot: Slot,
    alarm: Arc<Alarm>,
    waker: Waker,
}

/// Tells whoever polls next that there is more to do than that poll itself, and has both lanes polled.
#[derive(Default)]
struct Alarm {
    rings: AtomicBool,
    lanes: Lanes,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rings.store(true, Ordering::Release);
        self.lanes.wake();
    }
}

impl Inline {
    /// Watches a new connection, whose only user the transport is.
    pub(crate) fn new(config: Arc<Config>, observer: Option<Observer>) -> (Inline, Arc<Users>) {
        let inbox = Arc::new(Inbox::new());
        let hub = Arc::new(Hub::new(Arc::clone(&config), &inbox).observed(observer));
        let clock = hub.clock();
        let link = Arc::new(Link::new(hub, true));
        let slot = Slot::new();
        let arrivals = Arc::new(Arrivals::new());
        let running = arrivals.join((Arc::clone(&link), slot.clone()));
        debug_assert!(!running);
        let alarm = Arc::new(Alarm {
            // The driver has yet to begin.
            rings: AtomicBool::new(true),
            lanes: Lanes::default(),
        });
        let inline = Inline {
            driver: Some(SharedDriver::new(config, clock, inbox, arrivals)),
            slot,
            waker: Waker::from(Arc::clone(&alarm)),
            alarm,
        };
        (inline, Users::new(link))
    }

    /// Where the transport finds the ping that is due, and tells what came of it.
    #[inline]
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// To poll the transport with for anything that the lane which polls did not ask for itself.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// The lane is about to wait. To be followed by a look at the alarm: one that rings from here on
    /// wakes the lane.
    pub(crate) fn register(&self, lane: Lane, waker: &Waker) {
        self.alarm.lanes.register(lane, waker);
    }

    /// Has both lanes polled: there is news that is not the driver's.
    pub(crate) fn wake_lanes(&self) {
        self.alarm.lanes.wake();
    }

    /// Whether the driver, or the transport that was polled for it, has something to do. Nearly always
    /// not, and a look is cheaper than [`hush`](Inline::hush).
    #[inline]
    pub(crate) fn rings(&self) -> bool {
        self.alarm.rings.load(Ordering::Acquire)
    }

    /// Has whoever polls next attend to the alarm, and wakes nobody for it.
    #[cfg(feature = "transport")]
    pub(crate) fn ring_softly(&self) {
        self.alarm.rings.store(true, Ordering::Release);
    }

    /// Whether to attend to the alarm in this poll, once more after so many `rounds`; turns it off.
    ///
    /// A poll goes on with what it set off itself, such as a ping that is out at once. Whatever still rings
    /// after a few rounds gets nowhere without the runtime: a transport whose budget is spent rings at once.
    pub(crate) fn hush(&self, rounds: &mut u32) -> bool {
        if *rounds == ROUNDS {
            if self.rings() {
                self.alarm.lanes.wake();
            }
            return false;
        }
        *rounds += 1;
        self.alarm.rings.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn poll_driver(&mut self) {
        let mut cx = Context::from_waker(&self.waker);
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(&mut cx).is_ready()
        {
            self.driver = None;
            // The other lane has a verdict to hear.
            self.alarm.lanes.wake();
        }
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
