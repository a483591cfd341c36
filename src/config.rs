//! The settings of a heartbeat, validated once.

mod builder;
mod detector;
mod error;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use builder::ConfigBuilder;
pub(crate) use builder::LONGEST;
pub use detector::Detector;
pub(crate) use detector::GRANULARITY;
pub use error::{ConfigError, Setting};

use crate::moment::nanos;

/// The validated settings of a heartbeat.
///
/// ```
/// use std::time::Duration;
/// use tower_heartbeat::Config;
///
/// // One line: notice a vanished peer within ten seconds.
/// let quick = Config::detect_within(Duration::from_secs(10))?;
/// assert!(quick.worst_case_detection() <= Duration::from_secs(10));
///
/// // Or setting by setting; `build` is `const`.
/// const CLASSIC: Config = match Config::builder()
///     .interval(Duration::from_secs(30))
///     .pong_timeout(Duration::from_secs(10))
///     .max_missed(3)
///     .build()
/// {
///     Ok(config) => config,
///     Err(_) => panic!("illegal settings"),
/// };
/// # let _ = CLASSIC;
/// # Ok::<(), tower_heartbeat::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) interval: Duration,
    pub(crate) pong_timeout: Duration,
    pub(crate) max_missed: u32,
    pub(crate) ready_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) quiet_timeout: Option<Duration>,
    pub(crate) verify_after_idle: Option<Duration>,
    pub(crate) suspect_after: Option<Duration>,
    pub(crate) max_local_pause: Duration,
    pub(crate) jitter: u8,
    /// In percent; zero turns it off.
    pub(crate) local_fault_share: u8,
    pub(crate) local_fault_connections: u32,
    pub(crate) ping_when: PingWhen,
    pub(crate) evidence: Evidence,
    pub(crate) detector: Detector,
    /// `pong_timeout` itself, where the wait is fixed.
    pub(crate) pong_floor: Duration,
    pub(crate) phi_threshold: u8,
}

impl Config {
    /// Starts from the defaults, which [`ConfigBuilder`] names setting by setting.
    pub const fn builder() -> ConfigBuilder {
        ConfigBuilder::new()
    }

    /// Picks the settings with which a vanished peer is noticed within `bound` of its last sign of life.
    ///
    /// `interval` becomes 4/9 of it, `pong_timeout` and `ready_timeout` an eighth each, with three
    /// misses; the rest keeps its default. [`ConfigBuilder::detect_within`] does the same where
    /// more settings follow.
    ///
    /// # Errors
    ///
    /// If `bound` is under 20 ms, which timers of a millisecond can't keep, or over 365 days.
    pub const fn detect_within(bound: Duration) -> Result<Config, ConfigError> {
        Config::builder().detect_within(bound).build()
    }

    /// Returns the longest time from the last sign of life to the verdict on a peer that vanished.
    ///
    /// ```text
    /// interval + tick + ready_timeout + max_missed × pong_timeout
    /// ```
    ///
    /// With [`local_fault_share`](ConfigBuilder::local_fault_share) it is one more `pong_timeout`.
    /// The *tick* is an eighth of `interval` or less (but at least 1 ms): signs of life in dense traffic are dated to
    /// it. `ready_timeout` counts in full although most pings go out at once; where they always
    /// do, set it to zero, and the bound is tight.
    ///
    /// With [`PingWhen::WhileBusy`] and [`PingWhen::NotBusy`] it speaks of the times in which they
    /// ping only: a request on a connection that pings only when it is not busy is bounded by
    /// `quiet_timeout` alone, and so are those of a peer that is at its
    /// [limit](crate::ping#a-peer-that-works-on-few-requests-at-a-time).
    ///
    /// An adaptive [`detector`](ConfigBuilder::detector) finds most deaths earlier; this remains the longest time.
    ///
    /// It says nothing of a peer that cannot be pinged ([`Handle::can_ping`](crate::Handle::can_ping)).
    ///
    /// The bound holds while this process runs (a pause of its own comes on top, and so does the
    /// fresh chance of one pong wait that follows a pause over `max_local_pause`), and to the
    /// resolution of the runtime's timer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_heartbeat::Config;
    ///
    /// let config = Config::builder()
    ///     .interval(Duration::from_millis(80))
    ///     .ready_timeout(Duration::ZERO)
    ///     .pong_timeout(Duration::from_millis(50))
    ///     .max_missed(2)
    ///     .build()?;
    /// assert_eq!(config.worst_case_detection(), Duration::from_millis(80 + 10 + 2 * 50));
    /// # Ok::<(), tower_heartbeat::ConfigError>(())
    /// ```
    #[must_use]
    pub const fn worst_case_detection(&self) -> Duration {
        self.interval
            .saturating_add(self.tick())
            .saturating_add(self.ready_timeout)
            .saturating_add(self.pong_timeout.saturating_mul(self.most_windows()))
    }

    const fn most_windows(&self) -> u32 {
        if self.local_fault_share == 0 {
            self.max_missed
        } else {
            self.max_missed.saturating_add(1)
        }
    }

    /// Returns how precisely a connection with traffic is watched: signs of life and the ends of
    /// requests are dated to this precision, and what is due for many connections at about the same
    /// time is done together within it.
    ///
    /// An eighth of the shortest of `interval`, `idle_timeout`, `quiet_timeout` and
    /// `verify_after_idle`, at least a millisecond. A connection without traffic isn't looked at
    /// between its pings.
    #[must_use]
    pub const fn tick(&self) -> Duration {
        let mut shortest = nanos(self.interval);
        let others = [
            self.idle_timeout,
            self.quiet_timeout,
            self.verify_after_idle,
        ];
        let mut i = 0;
        while i < others.len() {
            if let Some(other) = others[i]
                && nanos(other) < shortest
            {
                shortest = nanos(other);
            }
            i += 1;
        }
        let tick = shortest / 8;
        if tick < nanos(MILLISECOND) {
            MILLISECOND
        } else {
            Duration::from_nanos(tick)
        }
    }

    /// Returns the quiet time until a ping; see [`ConfigBuilder::interval`].
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns the wait for a sign of life; see [`ConfigBuilder::pong_timeout`].
    #[must_use]
    pub const fn pong_timeout(&self) -> Duration {
        self.pong_timeout
    }

    /// Returns the misses that make a peer dead; see [`ConfigBuilder::max_missed`].
    #[must_use]
    pub const fn max_missed(&self) -> u32 {
        self.max_missed
    }

    /// Returns how long a ping may take to get out; see [`ConfigBuilder::ready_timeout`].
    #[must_use]
    pub const fn ready_timeout(&self) -> Duration {
        self.ready_timeout
    }

    /// Returns the idle limit, if it is on; see [`ConfigBuilder::idle_timeout`].
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Returns the quiet limit of a busy connection, if it is on; see
    /// [`ConfigBuilder::quiet_timeout`].
    #[must_use]
    pub const fn quiet_timeout(&self) -> Option<Duration> {
        self.quiet_timeout
    }

    /// Returns after how much quiet a call waits for a pong, if it does; see
    /// [`ConfigBuilder::verify_after_idle`].
    #[must_use]
    pub const fn verify_after_idle(&self) -> Option<Duration> {
        self.verify_after_idle
    }

    /// Returns the soft limit, if it is on; see [`ConfigBuilder::suspect_after`].
    #[must_use]
    pub const fn suspect_after(&self) -> Option<Duration> {
        self.suspect_after
    }

    /// Returns the own lateness that is forgiven; see [`ConfigBuilder::max_local_pause`].
    #[must_use]
    pub const fn max_local_pause(&self) -> Duration {
        self.max_local_pause
    }

    /// Returns the jitter in percent; see [`ConfigBuilder::jitter`].
    #[must_use]
    pub const fn jitter(&self) -> u8 {
        self.jitter
    }

    /// Returns the share of connections, in percent, whose misses together speak of a local fault;
    /// see [`ConfigBuilder::local_fault_share`]. Zero if that is off.
    #[must_use]
    pub const fn local_fault_share(&self) -> u8 {
        self.local_fault_share
    }

    /// Returns how many connections it takes for that; see
    /// [`ConfigBuilder::local_fault_connections`].
    #[must_use]
    pub const fn local_fault_connections(&self) -> u32 {
        self.local_fault_connections
    }

    /// Returns when pings are made; see [`ConfigBuilder::ping_when`].
    #[must_use]
    pub const fn ping_when(&self) -> PingWhen {
        self.ping_when
    }

    /// Returns what counts as a sign of life; see [`ConfigBuilder::evidence`].
    #[must_use]
    pub const fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// Returns how the pong wait is found; see [`ConfigBuilder::detector`].
    #[must_use]
    pub const fn detector(&self) -> Detector {
        self.detector
    }

    /// Returns the least pong wait: `pong_timeout` itself with [`Detector::Fixed`]; see
    /// [`ConfigBuilder::pong_floor`].
    #[must_use]
    pub const fn pong_floor(&self) -> Duration {
        self.pong_floor
    }

    /// Returns the suspicion that makes a miss; see [`ConfigBuilder::phi_threshold`].
    #[must_use]
    pub const fn phi_threshold(&self) -> u8 {
        self.phi_threshold
    }
}

impl Default for Config {
    fn default() -> Self {
        match Config::builder().build() {
            Ok(config) => config,
            Err(_) => unreachable!("the defaults are legal, as a test asserts"),
        }
    }
}

/// When pings are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PingWhen {
    /// Every `interval`, whatever is heard. For middleboxes that want to see traffic.
    Always,
    /// After `interval` with nothing heard, with or without requests in flight. The default.
    #[default]
    #[doc(alias = "keep_alive_while_idle")]
    Quiet,
    /// As [`Quiet`](PingWhen::Quiet), but only while a request is in flight; a connection that
    /// wakes after more than `interval` of quiet is pinged at once. For peers that punish pings
    /// without a request (gRPC's `permit_without_stream = false`).
    #[doc(alias = "permit_without_stream")]
    WhileBusy,
    /// As [`Quiet`](PingWhen::Quiet), but only while no request is in flight. For serial
    /// transports, on which a ping would wait behind the request (HTTP/1; `hyper::http1::Connect`
    /// sets it by itself). While a request is in flight
    /// only `quiet_timeout` watches the peer: without it, a request to a peer that vanished waits
    /// for ever. For a peer that takes more than one at a time, but few, tell the
    /// [ping source](crate::ping#a-peer-that-works-on-few-requests-at-a-time).
    NotBusy,
}

/// What counts as a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Evidence {
    /// Anything that came in: a response, a part of a body, a pong. The default.
    #[default]
    AnyTraffic,
    /// Nothing but a pong. Stricter, and wrong about peers that are busy sending.
    PongOnly,
}

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
