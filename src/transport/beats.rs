//! Heartbeats that go one way, and are not answered.

use std::{num::NonZeroU64, time::Duration};

use super::{Kind, Protocol};
use crate::config::{ConfigError, LONGEST, MILLISECOND, Setting};

/// Beats that each side sends by itself, as AMQP and STOMP have them: they ask for nothing, and whatever comes in
/// shows that the peer lives.
///
/// A beat goes out every `beat_interval`, whatever else is sent. The peer is judged by what comes in: when it was quiet
/// for the [`Config`](crate::Config)'s `interval`, it has `pong_timeout`, `max_missed` times, to be heard. So `interval` has to exceed
/// the time from one of *its* beats to the next. The round-trip times of the [`Handle`](crate::Handle) then say how
/// long that took.
///
/// ```
/// use std::time::Duration;
/// use tower_heartbeat::transport::{Beats, Kind, Protocol};
///
/// let beats = Beats::new("beat".to_string(), Duration::from_secs(10))?;
/// assert_eq!(beats.classify(&"beat".to_string()), Kind::Ping);
/// # Ok::<(), tower_heartbeat::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a protocol does nothing without a transport"]
pub struct Beats<M> {
    beat: M,
    interval: Duration,
}

impl<M> Beats<M> {
    /// Sends `beat` every `beat_interval`, the first time that long after connect; each message of
    /// the peer's that equals it is one of its beats.
    ///
    /// # Errors
    ///
    /// If `beat_interval` is under a millisecond or over 365 days.
    pub fn new(beat: M, beat_interval: Duration) -> Result<Self, ConfigError> {
        let setting = Setting::BeatInterval;
        if beat_interval < MILLISECOND {
            return Err(ConfigError::TooShort {
                setting,
                least: MILLISECOND,
            });
        }
        if beat_interval > LONGEST {
            return Err(ConfigError::TooLong {
                setting,
                most: LONGEST,
            });
        }
        Ok(Beats {
            beat,
            interval: beat_interval,
        })
    }
}

impl<M> Protocol for Beats<M>
where
    M: Clone + PartialEq,
{
    type Message = M;

    fn classify(&self, message: &M) -> Kind {
        if *message == self.beat {
            Kind::Ping
        } else {
            Kind::Data
        }
    }

    fn ping(&mut self, _: NonZeroU64) -> Option<M> {
        None
    }

    fn pong(&mut self, _: &M) -> Option<M> {
        None
    }

    fn beat(&mut self) -> Option<M> {
        Some(self.beat.clone())
    }

    fn beat_interval(&self) -> Option<Duration> {
        Some(self.interval)
    }
}
