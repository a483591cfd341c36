//! The figures of a connection: what handles read, and all that is kept of it while it rests.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::{moment::Moment, rtt::Rtt};

/// Written by the driver alone, read by everybody. Each figure is whole; two of them may be of two
/// looks.
pub(super) struct Record {
    heard_at: AtomicU64,
    /// `NEVER` while a request is in flight.
    idle_since: AtomicU64,
    /// In nanoseconds, two a word: last and least, smoothed and variation.
    samples: [AtomicU64; 2],
    /// Both wrap.
    pings: AtomicU32,
    pongs: AtomicU32,
}

/// The misses, and the flags. Only `ORPHANED` is written by anybody but the driver.
pub(super) struct Bits(AtomicU16);

pub(super) const CAN_PING: u16 = 1 << 15;
pub(super) const SUSPECT: u16 = 1 << 14;
/// The last service is gone; set before it lets go of the shards.
pub(super) const ORPHANED: u16 = 1 << 13;
/// A response came in, or a part of one.
pub(super) const ANSWERED: u16 = 1 << 12;
/// The round-trip times don't fit here.
pub(super) const LONG_RTT: u16 = 1 << 11;
/// A ping whose outcome is not counted yet.
pub(super) const PING_OUT: u16 = 1 << 10;
/// `max_missed` is 1,000 at most.
const MISSED: u16 = PING_OUT - 1;

/// Longer than any that has its place here.
const NO_SAMPLE: u64 = u64::MAX;

impl Record {
    pub(super) fn new(now: Moment) -> Record {
        Record {
            heard_at: AtomicU64::new(now.as_nanos()),
            idle_since: AtomicU64::new(now.as_nanos()),
            samples: [AtomicU64::new(NO_SAMPLE), AtomicU64::new(NO_SAMPLE)],
            pings: AtomicU32::new(0),
            pongs: AtomicU32::new(0),
        }
    }

    pub(super) fn heard_at(&self) -> Moment {
        Moment::from_nanos(self.heard_at.load(Ordering::Relaxed))
    }

    pub(super) fn set_heard_at(&self, at: Moment) {
        self.heard_at.store(at.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn idle_since(&self) -> Option<Moment> {
        let since = Moment::from_nanos(self.idle_since.load(Ordering::Relaxed));
        (since != Moment::NEVER).then_some(since)
    }

    pub(super) fn set_idle_since(&self, since: Option<Moment>) {
        let since = since.unwrap_or(Moment::NEVER);
        self.idle_since.store(since.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn rtt(&self) -> Option<Rtt> {
        let [first, second] = &self.samples;
        // In this order: the first is written last.
        let first = first.load(Ordering::Acquire);
        let second = second.load(Ordering::Acquire);
        let samples = [first >> 32, first & LOW, second >> 32, second & LOW];
        (first != NO_SAMPLE).then(|| Rtt::of(samples))
    }

    /// `false` if they are too long for this place.
    pub(super) fn set_rtt(&self, rtt: Rtt) -> bool {
        let samples = rtt.figures();
        if samples.iter().any(|nanos| *nanos >= LOW) {
            return false;
        }
        let [last, min, smoothed, variation] = samples;
        self.samples[1].store(smoothed << 32 | variation, Ordering::Release);
        self.samples[0].store(last << 32 | min, Ordering::Release);
        true
    }

    pub(super) fn pings(&self) -> u32 {
        self.pings.load(Ordering::Relaxed)
    }

    pub(super) fn pongs(&self) -> u32 {
        self.pongs.load(Ordering::Acquire)
    }

    pub(super) fn count_ping(&self) {
        let pings = self.pings.load(Ordering::Relaxed);
        self.pings.store(pings.wrapping_add(1), Ordering::Relaxed);
    }

    /// After the pong's figures: whoever sees the count sees them.
    pub(super) fn count_pong(&self) {
        let pongs = self.pongs.load(Ordering::Relaxed);
        self.pongs.store(pongs.wrapping_add(1), Ordering::Release);
    }
}

impl Bits {
    pub(super) fn new(bits: u16) -> Bits {
        Bits(AtomicU16::new(bits))
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.0.load(Ordering::Acquire) & flag != 0
    }

    pub(super) fn set(&self, flag: u16, on: bool) {
        self.replace(flag, if on { flag } else { 0 });
    }

    /// Whether it was there, and is gone now.
    #[cfg(feature = "metrics")]
    pub(super) fn take(&self, flag: u16) -> bool {
        self.0.fetch_and(!flag, Ordering::AcqRel) & flag != 0
    }

    pub(super) fn missed(&self) -> u32 {
        u32::from(self.0.load(Ordering::Relaxed) & MISSED)
    }

    pub(super) fn set_missed(&self, missed: u32) {
        let missed = u16::try_from(missed).unwrap_or(MISSED).min(MISSED);
        self.replace(MISSED, missed);
    }

    fn replace(&self, mask: u16, bits: u16) {
        let replaced = |old: u16| (old & mask != bits).then_some(old & !mask | bits);
        // An error says that they are so already.
        let _unchanged = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, replaced);
    }
}

const LOW: u64 = u32::MAX as u64;
