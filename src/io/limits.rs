//! The settings of a limited IO, validated once.

use std::time::Duration;

use crate::{
    config::{ConfigError, LONGEST, MILLISECOND, Setting},
    moment::nanos,
};

/// How long the bytes of a connection may stand still. Every limit is off by default.
///
/// A limit runs only while somebody waits: while a read or a write is pending. A consumer that
/// pauses, so that nobody reads, is not held against the peer.
///
/// | limit | runs while | from the last of |
/// |---|---|---|
/// | [`read_timeout`](LimitsBuilder::read_timeout) | a read is pending | byte read, byte written, begin of the wait |
/// | [`write_timeout`](LimitsBuilder::write_timeout) | a write, flush or shutdown is pending | begin of its wait; each part that gets through begins a new one |
/// | [`idle_timeout`](LimitsBuilder::idle_timeout) | either is pending | byte read, byte written, begin of the wait |
///
/// # Ties
///
/// Traffic wins: the IO is always tried first, and a limit fails it only when the IO is still
/// pending.
///
/// ```
/// use std::time::Duration;
/// use tower_heartbeat::io::Limits;
///
/// const LIMITS: Limits = match Limits::builder()
///     .read_timeout(Duration::from_secs(30))
///     .write_timeout(Duration::from_secs(10))
///     .idle_timeout(Duration::from_secs(90))
///     .build()
/// {
///     Ok(limits) => limits,
///     Err(_) => panic!("illegal settings"),
/// };
/// assert_eq!(LIMITS.write_timeout(), Some(Duration::from_secs(10)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) read_when: ReadWhen,
}

impl Limits {
    /// Starts with every limit off.
    pub const fn builder() -> LimitsBuilder {
        LimitsBuilder {
            limits: Limits {
                read_timeout: None,
                write_timeout: None,
                idle_timeout: None,
                read_when: ReadWhen::Pending,
            },
        }
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

    /// Returns what [`LimitsBuilder::idle_timeout`] set.
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Returns what [`LimitsBuilder::read_when`] set.
    #[must_use]
    pub const fn read_when(&self) -> ReadWhen {
        self.read_when
    }

    pub(super) fn are_off(&self) -> bool {
        self.read_timeout.is_none() && self.write_timeout.is_none() && self.idle_timeout.is_none()
    }
}

/// Which reads [`LimitsBuilder::read_timeout`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ReadWhen {
    /// Every read that is pending. The default. A client reads its pooled connections as well, so
    /// these close after the limit.
    #[default]
    Pending,
    /// A pending read while the last byte that moved was a written one: an answer is waited for.
    /// Pooled connections are left alone. A response that stops halfway is not noticed (add an
    /// `idle_timeout`); an HTTP/2 connection whose last frame needs no answer (RST_STREAM, an ACK)
    /// closes after the limit, in use or not.
    AfterWrite,
}

/// Builds [`Limits`]. All methods are `const`; [`build`](LimitsBuilder::build) checks the values.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct LimitsBuilder {
    limits: Limits,
}

impl LimitsBuilder {
    /// Sets how long a read may be pending with nothing read. The time runs from the begin of the
    /// wait; every byte read or written restarts it, so an upload in progress is not limited. A
    /// handler that takes longer than this to answer is cut off: it is no heartbeat.
    ///
    /// [`read_when`](LimitsBuilder::read_when) narrows it to reads after a write. It must be
    /// shorter than `idle_timeout`, which would always act first. The failure is
    /// [`Failure::ReadTimeout`](crate::Failure::ReadTimeout).
    ///
    /// Default: off.
    pub const fn read_timeout(mut self, read_timeout: Duration) -> Self {
        self.limits.read_timeout = Some(read_timeout);
        self
    }

    /// Sets how long a write, flush or shutdown may be pending without progress. The time runs from
    /// the poll that found it pending; a part that gets through ends it, however small: one byte a
    /// second is slow, not stalled.
    ///
    /// A system's send buffer takes bytes for a vanished peer until it is full; only then a write
    /// pends. Around a TLS stream, progress is what that stream tells of it. A write that was
    /// given up (its future dropped) fails nothing by itself. The failure is
    /// [`Failure::WriteTimeout`](crate::Failure::WriteTimeout).
    ///
    /// Default: off.
    pub const fn write_timeout(mut self, write_timeout: Duration) -> Self {
        self.limits.write_timeout = Some(write_timeout);
        self
    }

    /// Sets how long no byte may move in either direction while a read or a write is pending. The
    /// time runs from the begin of the wait; every byte read or written restarts it.
    ///
    /// *Idle* means bytes here, not requests: this layer knows of none, so a slow handler under a
    /// request is cut off as well. The failure is
    /// [`Failure::IdleTimeout`](crate::Failure::IdleTimeout).
    ///
    /// Default: off.
    pub const fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.limits.idle_timeout = Some(idle_timeout);
        self
    }

    /// Sets which reads `read_timeout` limits; does nothing without it.
    ///
    /// Default: [`ReadWhen::Pending`].
    pub const fn read_when(mut self, read_when: ReadWhen) -> Self {
        self.limits.read_when = read_when;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// - [`ConfigError::TooShort`]: a limit under 1 ms.
    /// - [`ConfigError::TooLong`]: a limit over 365 days.
    /// - [`ConfigError::MustStayBelow`]: a `read_timeout` that `idle_timeout` always forestalls.
    pub const fn build(self) -> Result<Limits, ConfigError> {
        let limits = self.limits;
        let durations = [
            (Setting::ReadTimeout, limits.read_timeout),
            (Setting::WriteTimeout, limits.write_timeout),
            (Setting::IdleTimeout, limits.idle_timeout),
        ];
        let mut i = 0;
        while i < durations.len() {
            if let (setting, Some(value)) = durations[i] {
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
            }
            i += 1;
        }
        if let (Some(read), Some(idle)) = (limits.read_timeout, limits.idle_timeout)
            && nanos(read) >= nanos(idle)
        {
            return Err(ConfigError::MustStayBelow {
                setting: Setting::ReadTimeout,
                other: Setting::IdleTimeout,
                limit: idle,
            });
        }
        Ok(limits)
    }
}
