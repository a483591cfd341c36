//! The settings of a back-off, validated once.

use std::time::Duration;

use crate::{
    config::{ConfigError, LONGEST, MILLISECOND, Setting},
    dice::roll,
    moment::nanos,
};

/// How long connections wait for each other.
///
/// ```
/// use std::time::Duration;
/// use tower_heartbeat::reconnect::Delays;
///
/// const DELAYS: Delays = match Delays::builder()
///     .first_delay(Duration::from_millis(250))
///     .max_delay(Duration::from_secs(60))
///     .build()
/// {
///     Ok(delays) => delays,
///     Err(_) => panic!("illegal settings"),
/// };
/// assert_eq!(DELAYS.max_delay(), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    first: Duration,
    max: Duration,
}

impl Delays {
    /// Starts from the defaults.
    pub const fn builder() -> DelaysBuilder {
        DelaysBuilder {
            delays: Delays {
                first: Duration::from_millis(100),
                max: Duration::from_secs(30),
            },
        }
    }

    /// Returns what [`DelaysBuilder::first_delay`] set.
    #[must_use]
    pub const fn first_delay(&self) -> Duration {
        self.first
    }

    /// Returns what [`DelaysBuilder::max_delay`] set.
    #[must_use]
    pub const fn max_delay(&self) -> Duration {
        self.max
    }

    /// A random wait after so many failures in a row.
    pub(super) fn after(&self, failures: u32) -> Duration {
        let bound = nanos(self.bound(failures));
        // The high half of the product is spread as evenly as the roll.
        let wait = (u128::from(roll()) * (u128::from(bound) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(wait).unwrap_or(bound))
    }

    fn bound(&self, failures: u32) -> Duration {
        let times = 1_u32.checked_shl(failures.saturating_sub(1));
        self.first
            .saturating_mul(times.unwrap_or(u32::MAX))
            .min(self.max)
    }
}

impl Default for Delays {
    fn default() -> Self {
        match Delays::builder().build() {
            Ok(delays) => delays,
            Err(_) => unreachable!("the defaults are legal, as a test asserts"),
        }
    }
}

/// Builds [`Delays`]. All methods are `const`; [`build`](DelaysBuilder::build) checks the values.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct DelaysBuilder {
    delays: Delays,
}

impl DelaysBuilder {
    /// Sets the longest wait after the first failure, and after the end of a connection that had proved itself. It
    /// doubles with each further failure in a row. The wait is random between zero and this.
    ///
    /// Default: 100 ms.
    pub const fn first_delay(mut self, first_delay: Duration) -> Self {
        self.delays.first = first_delay;
        self
    }

    /// Sets the longest wait of all. It must not be shorter than `first_delay`.
    ///
    /// Default: 30 s.
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        self.delays.max = max_delay;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// - [`ConfigError::TooShort`]: a delay under 1 ms.
    /// - [`ConfigError::TooLong`]: a delay over 365 days.
    /// - [`ConfigError::MustStayBelow`]: a `first_delay` over `max_delay`.
    pub const fn build(self) -> Result<Delays, ConfigError> {
        let delays = self.delays;
        let durations = [
            (Setting::FirstDelay, delays.first),
            (Setting::MaxDelay, delays.max),
        ];
        let mut i = 0;
        while i < durations.len() {
            let (setting, value) = durations[i];
            if nanos(value) < nanos(MILLISECOND) {
                return Err(ConfigError::TooShort {
                    setting,
                    least: MILLISECOND,
                });
            }
            if nanos(value) > nanos(LONGEST) {
                return Err(ConfigError::TooLong {
                    setting,
                    most: LONGEST,
                });
            }
            i += 1;
        }
        if nanos(delays.first) > nanos(delays.max) {
            return Err(ConfigError::MustStayBelow {
                setting: Setting::FirstDelay,
                other: Setting::MaxDelay,
                limit: delays.max,
            });
        }
        Ok(delays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_from_the_second_failure_on_up_to_the_longest() {
        let seconds = |failures| Delays::default().bound(failures).as_millis();
        let bounds: Vec<_> = (0..12).map(seconds).collect();
        let doubled = [100, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600];
        assert_eq!(bounds[..10], doubled);
        assert_eq!(bounds[10..], [30_000, 30_000]);
        for failures in [31, 32, 33, 34, u32::MAX] {
            assert_eq!(seconds(failures), 30_000);
        }
    }

    #[test]
    fn waits_fill_all_of_their_bound_and_stay_within_it() {
        let delays = Delays::default();
        let waits: Vec<_> = (0..1_000).map(|_| delays.after(1).as_millis()).collect();
        assert!(waits.iter().all(|wait| *wait <= 100));
        for tenth in 0..10 {
            let within = |wait: &&u128| **wait / 10 == tenth;
            let share = waits.iter().filter(within).count();
            // 100 are to be expected; this is seven standard deviations.
            assert!((34..=166).contains(&share), "{share} in tenth {tenth}");
        }
    }
}
