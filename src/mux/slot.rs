//! Where the one ping is: between the heartbeat's driver, which wants it, and the connection's task, which writes
//! it.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    task::Waker,
};

use futures_util::task::AtomicWaker;

#[derive(Debug, Default)]
pub(super) struct Slot {
    state: AtomicU8,
    driver: AtomicWaker,
}

const EMPTY: u8 = 0;
/// To be written.
const DUE: u8 = 1;
/// Written and flushed.
const SENT: u8 = 2;
/// Answered.
const ANSWERED: u8 = 3;

impl Slot {
    /// A ping is to go out. `false` if one is under way.
    pub(super) fn want(&self) -> bool {
        self.go(EMPTY, DUE)
    }

    pub(super) fn is_due(&self) -> bool {
        self.get() == DUE
    }

    pub(super) fn is_out(&self) -> bool {
        matches!(self.get(), SENT | ANSWERED)
    }

    /// The ping is out, if it is still wanted.
    pub(super) fn send(&self) {
        if self.go(DUE, SENT) {
            self.driver.wake();
        }
    }

    /// A pong is in, if one is still awaited.
    pub(super) fn answer(&self) {
        if self.go(SENT, ANSWERED) {
            self.driver.wake();
        }
    }

    pub(super) fn take_answer(&self) -> bool {
        self.go(ANSWERED, EMPTY)
    }

    pub(super) fn call_off(&self) {
        self.state.store(EMPTY, Ordering::Release);
    }

    /// To be followed by a look: what comes from here on wakes the driver.
    pub(super) fn register(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    pub(super) fn wake_driver(&self) {
        self.driver.wake();
    }

    fn get(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    /// The two ends run in two tasks: whoever finds another state than it expects leaves it alone.
    fn go(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}
