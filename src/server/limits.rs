//! The settings of a server's connections, validated once.

mod builder;

use std::time::Duration;

pub use builder::LimitsBuilder;

/// How long the connections of a server may be silent, idle, or there at all.
///
/// Every limit is off by default but [`grace`](LimitsBuilder::grace), which bounds what the others begin.
///
/// | limit | runs | then |
/// |---|---|---|
/// | [`handshake_timeout`](LimitsBuilder::handshake_timeout) | from the beginning to the first whole request head, or HTTP/2's preface and SETTINGS | closed |
/// | [`idle_timeout`](LimitsBuilder::idle_timeout) | while no request and no body is in flight, also before the first | drained |
/// | [`max_age`](LimitsBuilder::max_age) | from the beginning, whatever happens | drained |
/// | [`read_timeout`](LimitsBuilder::read_timeout) | while a handler waits for a request's body | closed |
/// | [`write_timeout`](LimitsBuilder::write_timeout) | while there is something of a response to be written | closed |
/// | [`grace`](LimitsBuilder::grace) | while it drains | closed |
///
/// # Ties
///
/// Traffic wins: the connection is polled first, and what it still waits for then is judged.
///
/// ```
/// use std::time::Duration;
/// use tower_heartbeat::server::Limits;
///
/// const LIMITS: Limits = match Limits::builder()
///     .handshake_timeout(Duration::from_secs(10))
///     .idle_timeout(Duration::from_secs(300))
///     .max_age(Duration::from_secs(1800))
///     .grace(Duration::from_secs(20))
///     .build()
/// {
///     Ok(limits) => limits,
///     Err(_) => panic!("illegal settings"),
/// };
/// assert_eq!(LIMITS.grace(), Duration::from_secs(20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_age: Option<Duration>,
    /// In percent, either way.
    pub(super) age_jitter: u8,
    pub(super) grace: Duration,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) max_local_pause: Duration,
}

impl Limits {
    /// Starts with every limit off but `grace`.
    pub const fn builder() -> LimitsBuilder {
        LimitsBuilder::new()
    }

    /// Returns what [`LimitsBuilder::handshake_timeout`] set.
    #[must_use]
    pub const fn handshake_timeout(&self) -> Option<Duration> {
        self.handshake_timeout
    }

    /// Returns what [`LimitsBuilder::idle_timeout`] set.
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Returns what [`LimitsBuilder::max_age`] set.
    #[must_use]
    pub const fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Returns what [`LimitsBuilder::age_jitter`] set, in percent.
    #[must_use]
    pub const fn age_jitter(&self) -> u8 {
        self.age_jitter
    }

    /// Returns what [`LimitsBuilder::grace`] set.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        self.grace
    }

    /// Returns what [`LimitsBuilder::read_timeout`] set.
    #[must_use]
    pub const fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    /// Returns what [`LimitsBuilder::write_timeout`] set.
    #[must_use]
    pub const fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    /// Returns what [`LimitsBuilder::max_local_pause`] set.
    #[must_use]
    pub const fn max_local_pause(&self) -> Duration {
        self.max_local_pause
    }

    /// The greatest age of one connection, for a random number.
    pub(super) fn age(&self, random: u64) -> Option<Duration> {
        let age = self.max_age?;
        let width = age * 2 * u32::from(self.age_jitter) / 100;
        let least = age - width / 2;
        // The upper half of the number, as a share of the width.
        let part = (width.as_nanos() * u128::from(random >> 32)) >> 32;
        Some(least + Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX)))
    }
}
