//! The round-trip times of a connection's pings.

use std::time::Duration;

use crate::moment::nanos;

/// The round-trip times of a connection's pings, from the moment a ping was out to its pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    /// In nanoseconds, as all of them.
    last: u64,
    min: u64,
    smoothed: u64,
    variation: u64,
}

impl Rtt {
    pub(crate) fn first(sample: Duration) -> Rtt {
        let sample = nanos(sample);
        Rtt {
            last: sample,
            min: sample,
            smoothed: sample,
            variation: sample / 2,
        }
    }

    /// RFC 6298 section 2.3: the variation moves first, by the smoothed value of before.
    pub(crate) fn next(self, sample: Duration) -> Rtt {
        let sample = nanos(sample);
        let distance = self.smoothed.abs_diff(sample);
        Rtt {
            last: sample,
            min: self.min.min(sample),
            smoothed: self.smoothed.saturating_mul(7).saturating_add(sample) / 8,
            variation: self.variation.saturating_mul(3).saturating_add(distance) / 4,
        }
    }

    /// With a sample that says more of this process than of the path.
    pub(crate) fn late(self, sample: Duration) -> Rtt {
        let sample = nanos(sample);
        Rtt {
            last: sample,
            min: self.min.min(sample),
            ..self
        }
    }

    /// The opposite of [`figures`](Rtt::figures).
    pub(crate) fn of([last, min, smoothed, variation]: [u64; 4]) -> Rtt {
        Rtt {
            last,
            min,
            smoothed,
            variation,
        }
    }

    /// Last, least, smoothed, variation, in nanoseconds.
    pub(crate) fn figures(self) -> [u64; 4] {
        [self.last, self.min, self.smoothed, self.variation]
    }

    /// Returns the newest sample.
    #[must_use]
    pub fn last(&self) -> Duration {
        Duration::from_nanos(self.last)
    }

    /// Returns the least sample of the connection's life.
    #[must_use]
    pub fn min(&self) -> Duration {
        Duration::from_nanos(self.min)
    }

    /// Returns the smoothed value (RFC 6298's SRTT: 7/8 of the one before and 1/8 of the sample). A sample that was
    /// taken while this process was late (`max_local_pause`) counts as the first or not at all.
    #[must_use]
    pub fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed)
    }

    /// Returns the mean deviation (RFC 6298's RTTVAR).
    #[must_use]
    pub fn variation(&self) -> Duration {
        Duration::from_nanos(self.variation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_6298() {
        let rtt = Rtt::first(Duration::from_millis(100));
        assert_eq!(rtt.variation(), Duration::from_millis(50));

        let rtt = rtt.next(Duration::from_millis(180));
        assert_eq!(rtt.last(), Duration::from_millis(180));
        assert_eq!(rtt.min(), Duration::from_millis(100));
        assert_eq!(rtt.smoothed(), Duration::from_millis(110));
        // 3/4 of 50 and 1/4 of |100 - 180|
        assert_eq!(rtt.variation(), Duration::from_micros(57_500));
    }

    #[test]
    fn the_largest_sample_does_not_overflow() {
        let rtt = Rtt::first(Duration::MAX).next(Duration::MAX);
        assert_eq!(rtt.last(), Duration::from_nanos(u64::MAX));
    }
}
