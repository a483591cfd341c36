//! Moments of a connection's own time line, and the one place that reads a clock.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// Nanoseconds since the [`Clock`]'s origin. All arithmetic saturates, so no
/// setting and no clock can make it panic; the largest value means "never".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) const NEVER: Moment = Moment(u64::MAX);

    pub(crate) const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    pub(crate) fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(nanos(duration)))
    }

    pub(crate) fn before(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(nanos(duration)))
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Moment::NEVER => f.write_str("never"),
            Moment(nanos) => write!(f, "+{:?}", Duration::from_nanos(nanos)),
        }
    }
}

pub(crate) const fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos() as u64)
}

/// Tells the time to drivers and handles. Nothing else in the crate asks a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        #[expect(
            clippy::disallowed_methods,
            reason = "the crate's one clock, with `now` below"
        )]
        let origin = Instant::now();
        Clock { origin }
    }

    pub(crate) fn now(&self) -> Moment {
        #[expect(
            clippy::disallowed_methods,
            reason = "the crate's one clock, with `start` above"
        )]
        let now = Instant::now();
        Moment(nanos(now.saturating_duration_since(self.origin)))
    }

    /// The instant of a moment that has been.
    pub(crate) fn instant_or_origin(&self, moment: Moment) -> Instant {
        self.instant(moment).unwrap_or(self.origin)
    }

    /// The instant of `moment`, or `None` if it lies beyond what an instant can hold.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        if moment == Moment::NEVER {
            return None;
        }
        self.origin.checked_add(Duration::from_nanos(moment.0))
    }
}
