//! What others tell a driver about one connection, in one byte.
//!
//! # Protocol
//!
//! Whoever has something to tell changes the fact first, then raises a bit or queues. The driver
//! takes the byte first, then looks at the facts. So whatever a look misses raises or queues after
//! the take, and is seen by the next look; and a next look comes, because
//!
//! - `QUEUED` puts the connection into the driver's inbox, once until it is taken;
//! - a plain signal does the same if the driver had `ARMED`, which it does only on an empty byte;
//! - a driver that has not armed looks again by itself within a tick.
//!
//! Evidence that finds its bit set already is covered by the take that clears it: that take has
//! not happened before the evidence.

use crate::sync::{AtomicU8, Ordering};

/// Something came in from the peer.
pub(crate) const HEARD: u8 = 1;
/// A request began.
pub(crate) const USED: u8 = 2;
/// Somebody waits for a pong.
pub(crate) const PING_WANTED: u8 = 4;
/// What was heard is a response, or a part of one.
pub(crate) const ANSWERED: u8 = 32;
/// The driver sleeps past the next tick, so the first signal has to queue the connection.
const ARMED: u8 = 8;
/// The connection is in the inbox, or on its way there.
const QUEUED: u8 = 16;

#[derive(Debug)]
pub(crate) struct Signals(AtomicU8);

impl Signals {
    pub(crate) fn new() -> Signals {
        Signals(AtomicU8::new(0))
    }

    /// Raises all of `bit`. `true` if the caller has to put the connection into the inbox for it. A load
    /// in the common case, where the driver has not looked since the last signal.
    #[inline]
    pub(crate) fn raise(&self, bit: u8) -> bool {
        self.0.load(Ordering::Relaxed) & bit != bit && self.raise_first(bit)
    }

    #[cold]
    fn raise_first(&self, bit: u8) -> bool {
        self.0.fetch_or(bit, Ordering::AcqRel) & ARMED != 0 && self.queue()
    }

    /// `true` if the caller has to put the connection into the inbox; `false` if it is there.
    pub(crate) fn queue(&self) -> bool {
        self.0.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED == 0
    }

    /// The driver's look: what was raised since the last one.
    pub(crate) fn take(&self) -> u8 {
        self.0.swap(0, Ordering::AcqRel)
    }

    /// Asks for a place in the inbox at the first signal. `false` if there is one already.
    pub(crate) fn arm(&self) -> bool {
        self.0
            .compare_exchange(0, ARMED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// What was raised and not yet looked at.
    pub(crate) fn peek(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}
