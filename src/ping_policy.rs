//! How often a peer may ping.

mod police;
mod rule;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use police::Police;

use crate::{
    config::{ConfigError, LONGEST, MILLISECOND, Setting},
    moment::nanos,
};

/// How often a peer may ping before it is sent off, as gRPC's servers have it. For
/// `h2_io::PingIo::police_pings` and `transport::HeartbeatStream::police_pings`; without them nobody counts.
///
/// A ping that comes sooner after the one before it than permitted is a *strike*; with one strike more than
/// [`strikes`](PingPolicy::strikes) the peer is sent off. Whatever this side sends beside heartbeats (a message; in HTTP/2 the
/// frames HEADERS and DATA) forgives all strikes, and the next ping may come at once: it may be there to
/// measure what was sent.
///
/// Pings that are found together, because nobody read for a while, may have come one interval apart, and are judged
/// so: as many pass as the time since the look before has room for.
///
/// ```
/// use std::time::Duration;
/// use tower_heartbeat::PingPolicy;
///
/// // For clients that ping every 30 s, with a call or without.
/// let policy = PingPolicy::grpc()
///     .min_interval(Duration::from_secs(20))?
///     .while_idle(true);
/// assert_eq!(PingPolicy::default(), PingPolicy::grpc());
/// # let _ = policy;
/// # Ok::<(), tower_heartbeat::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a policy does nothing by itself"]
pub struct PingPolicy {
    min_interval: Duration,
    while_idle: bool,
    strikes: u32,
}

impl PingPolicy {
    /// The default of gRPC's servers: a ping in five minutes, in two hours while idle, and two strikes.
    pub const fn grpc() -> Self {
        PingPolicy {
            min_interval: Duration::from_secs(5 * 60),
            while_idle: false,
            strikes: 2,
        }
    }

    /// Sets the shortest time from one ping to the next. Let it be shorter than what peers are told to
    /// keep. Default: five minutes.
    ///
    /// # Errors
    ///
    /// If it is under a millisecond ([`TooShort`](ConfigError::TooShort)) or over 365 days
    /// ([`TooLong`](ConfigError::TooLong)).
    #[doc(alias = "permit_keepalive_time")]
    #[doc(alias = "min_recv_ping_interval_without_data")]
    pub const fn min_interval(self, min_interval: Duration) -> Result<Self, ConfigError> {
        let setting = Setting::MinInterval;
        if nanos(min_interval) < nanos(MILLISECOND) {
            return Err(ConfigError::TooShort {
                setting,
                least: MILLISECOND,
            });
        }
        if nanos(min_interval) > nanos(LONGEST) {
            return Err(ConfigError::TooLong {
                setting,
                most: LONGEST,
            });
        }
        Ok(PingPolicy {
            min_interval,
            ..self
        })
    }

    /// Sets whether `min_interval` is enough while no request is in flight. If not, two hours have to pass then, or
    /// `min_interval` if that is longer. Default: `false`.
    ///
    /// Messages are no requests: on a message transport without
    /// `transport::HeartbeatStream::busy` set it to `true`.
    #[doc(alias = "permit_without_stream")]
    #[doc(alias = "permit_keepalive_without_calls")]
    pub const fn while_idle(self, while_idle: bool) -> Self {
        PingPolicy { while_idle, ..self }
    }

    /// Sets how many pings that come too early are let pass; the next one is the last. Zero: none is.
    /// Default: 2.
    #[doc(alias = "max_ping_strikes")]
    pub const fn strikes(self, strikes: u32) -> Self {
        PingPolicy { strikes, ..self }
    }

    fn interval(&self, is_idle: bool) -> Duration {
        if is_idle && !self.while_idle {
            self.min_interval.max(IDLE_INTERVAL)
        } else {
            self.min_interval
        }
    }
}

/// RFC 1122's interval of TCP's keep-alive, which gRPC grants connections without a call.
const IDLE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

impl Default for PingPolicy {
    fn default() -> Self {
        PingPolicy::grpc()
    }
}
