//! How a server's limits are set.

use std::time::Duration;

use super::Limits;
use crate::{
    config::{ConfigError, LONGEST, MILLISECOND, Setting},
    moment::nanos,
};

/// Builds [`Limits`]. All methods are `const`; [`build`](LimitsBuilder::build) checks the values.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct LimitsBuilder {
    limits: Limits,
}

impl LimitsBuilder {
    pub(super) const fn new() -> Self {
        LimitsBuilder {
            limits: Limits {
                handshake_timeout: None,
                idle_timeout: None,
                max_age: None,
                age_jitter: 10,
                grace: Duration::from_secs(30),
                read_timeout: None,
                write_timeout: None,
                max_local_pause: Duration::from_secs(1),
            },
        }
    }

    /// Sets how long a client may take from the moment when its connection is served to the end of its
    /// first request head, or of HTTP/2's preface and first SETTINGS. Nothing restarts it, so one byte a
    /// second does not help; what comes later is `idle_timeout`'s. Then it is closed at once, with
    /// [`Reason::Handshake`](crate::server::Reason::Handshake).
    ///
    /// A TLS handshake is over by then: put a `Timeout` around it. It must be shorter than `idle_timeout`
    /// and `max_age`, which would always act first.
    ///
    /// Default: off.
    #[doc(alias = "header_read_timeout")]
    pub const fn handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.limits.handshake_timeout = Some(handshake_timeout);
        self
    }

    /// Sets how long a connection may be without a request in flight. The time runs from the moment when it
    /// is served, and from the end of the last request with its bodies, to their last byte. A begun
    /// request head is not a request yet, and neither pings nor SETTINGS are. Then it is drained, with
    /// [`Reason::Idle`](crate::server::Reason::Idle).
    ///
    /// It must be shorter than `max_age`, which would always act first.
    ///
    /// Default: off.
    #[doc(alias = "max_connection_idle")]
    pub const fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.limits.idle_timeout = Some(idle_timeout);
        self
    }

    /// Sets how old a connection may become, counted from the moment when it is served, and more or less by
    /// `age_jitter`. Then it is drained, with [`Reason::Age`](crate::server::Reason::Age): its client makes
    /// a new one, maybe to another server behind the same balancer.
    ///
    /// A client of HTTP/1 whose connection closes as it sends cannot know whether its request was begun. So
    /// where nothing is in flight then, it is drained with its next request, whose response says
    /// `connection: close`, or after `grace`.
    ///
    /// Default: off.
    #[doc(alias = "max_connection_age")]
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.limits.max_age = Some(max_age);
        self
    }

    /// Sets by how much of `max_age`, in percent, each connection lives longer or shorter, at random, so that
    /// those that came together don't leave together. Does nothing without `max_age`.
    ///
    /// Default: 10 percent; 0 turns it off.
    pub const fn age_jitter(mut self, percent: u8) -> Self {
        self.limits.age_jitter = percent;
        self
    }

    /// Sets how long a connection that is drained may go on with what is in flight. The time runs from the
    /// beginning of the drain, whatever began it; then it is closed.
    ///
    /// Default: 30 s. It cannot be turned off.
    #[doc(alias = "max_connection_age_grace")]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.limits.grace = grace;
        self
    }

    /// Sets how long a handler may wait for the body of a request with nothing read from its connection. The
    /// time runs from the begin of the wait, and every byte read restarts it; a body that nobody polls
    /// is not waited for, and over HTTP/2 nobody waits as long as there is one: what it holds back by flow
    /// control its client cannot send. Then the connection is closed at once, with [`Reason::Dead`](crate::server::Reason::Dead).
    ///
    /// Default: off.
    pub const fn read_timeout(mut self, read_timeout: Duration) -> Self {
        self.limits.read_timeout = Some(read_timeout);
        self
    }

    /// Sets how long something of a response may be there to be written with no progress. The time runs while a
    /// write, flush or shutdown is pending, and while a body's last frame has not been followed by a
    /// wish for the next (over HTTP/2, flow control shows only there); each part of a response that gets
    /// through restarts it, however small. Then the connection is closed at once, with
    /// [`Reason::Stalled`](crate::server::Reason::Stalled).
    ///
    /// A client that reads nothing on purpose is closed as well: let it exceed the longest pause that you
    /// grant a client. The system's send buffer takes bytes for a vanished client until it is full. An IO with
    /// a buffer of its own, such as TLS, does not show how far a flush is: let it exceed that buffer's time
    /// on the slowest link as well.
    ///
    /// Default: off.
    #[doc(alias = "send_timeout")]
    pub const fn write_timeout(mut self, write_timeout: Duration) -> Self {
        self.limits.write_timeout = Some(write_timeout);
        self
    }

    /// Sets how late this side may be to a limit before its client gets another chance. When the runtime was
    /// blocked or the machine asleep for longer, `read_timeout` and `write_timeout` start anew and
    /// `handshake_timeout` ends no earlier than this from now; once, until something is heard.
    ///
    /// Default: 1 s.
    pub const fn max_local_pause(mut self, max_local_pause: Duration) -> Self {
        self.limits.max_local_pause = max_local_pause;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// - [`ConfigError::TooShort`]: a duration under 1 ms.
    /// - [`ConfigError::TooLong`]: a duration over 365 days.
    /// - [`ConfigError::OutOfRange`]: an `age_jitter` over 50 percent.
    /// - [`ConfigError::MustStayBelow`]: a `handshake_timeout` that `idle_timeout` or `max_age` always forestalls, or
    ///   an `idle_timeout` that `max_age` does.
    pub const fn build(self) -> Result<Limits, ConfigError> {
        let limits = self.limits;
        let durations = [
            (Setting::HandshakeTimeout, limits.handshake_timeout),
            (Setting::IdleTimeout, limits.idle_timeout),
            (Setting::MaxAge, limits.max_age),
            (Setting::Grace, Some(limits.grace)),
            (Setting::ReadTimeout, limits.read_timeout),
            (Setting::WriteTimeout, limits.write_timeout),
            (Setting::MaxLocalPause, Some(limits.max_local_pause)),
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
        if limits.age_jitter > MOST_JITTER {
            return Err(ConfigError::OutOfRange {
                setting: Setting::AgeJitter,
                least: 0,
                most: MOST_JITTER as u32,
            });
        }
        // Each of the first three acts before those behind it, or never.
        let mut first = 0;
        while first < 3 {
            let mut later = first + 1;
            while later < 3 {
                if let ((setting, Some(value)), (other, Some(limit))) =
                    (durations[first], durations[later])
                    && nanos(value) >= nanos(limit)
                {
                    return Err(ConfigError::MustStayBelow {
                        setting,
                        other,
                        limit,
                    });
                }
                later += 1;
            }
            first += 1;
        }
        Ok(limits)
    }
}

const MOST_JITTER: u8 = 50;
