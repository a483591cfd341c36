//! How long a pong may take.

use std::time::Duration;

use super::{Config, MILLISECOND};
use crate::moment::nanos;

/// How the wait for a pong is found; see [`ConfigBuilder::detector`](crate::ConfigBuilder::detector).
///
/// The two adaptive ones follow the round trips of the connection's own pings. Before the first pong both wait
/// for `pong_timeout`, and never longer than that; after a miss the next wait is twice as long, up to
/// four times the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Detector {
    /// Each wait is `pong_timeout`. The default.
    #[default]
    Fixed,
    /// The smoothed round trip and four times its mean deviation, as TCP finds its retransmission
    /// time-out (RFC 6298).
    #[doc(alias = "rto")]
    RoundTrips,
    /// Until it is as improbable as [`phi_threshold`](crate::ConfigBuilder::phi_threshold) says that the pong
    /// is still to come (Hayashibara and others 2004).
    #[doc(alias = "phi")]
    PhiAccrual,
}

impl Config {
    /// The least pong wait where nobody set one: such that the waits for a verdict are a second or more in
    /// all, which is RFC 6298's least time-out, and none is shorter than Linux's.
    pub(super) const fn default_pong_floor(&self) -> Duration {
        let share = nanos(SECOND) / self.misses_at_least_one();
        let floor = if share < nanos(LEAST_SHARE) {
            nanos(LEAST_SHARE)
        } else {
            share
        };
        if floor < nanos(self.pong_timeout) {
            Duration::from_nanos(floor)
        } else {
            self.pong_timeout
        }
    }

    /// Zero is illegal, and refused after this.
    const fn misses_at_least_one(&self) -> u64 {
        if self.max_missed == 0 {
            1
        } else {
            self.max_missed as u64
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const LEAST_SHARE: Duration = Duration::from_millis(200);

/// RFC 6298's G: what timers resolve.
pub(crate) const GRANULARITY: Duration = MILLISECOND;
