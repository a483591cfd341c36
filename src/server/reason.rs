//! Why a server's connection ended.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// Why a connection ended, or is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No whole request head, and no HTTP/2 preface with SETTINGS, came within `handshake_timeout`.
    Handshake,
    /// No request was in flight for `idle_timeout`.
    Idle,
    /// It reached its `max_age`.
    Age,
    /// Its client is gone: nothing was read for `read_timeout` while a request's body was waited for, or
    /// pings were not answered.
    Dead,
    /// Its client took nothing of a response for `write_timeout`.
    Stalled,
    /// Its client broke a rule of ours, such as how often it may ping.
    Policed,
    /// The server is shut down, or the connection was told to leave
    /// ([`Handle::drain`](super::Handle::drain)).
    Shutdown,
    /// It was closed on this side: by [`Handle::close`](super::Handle::close), or because its future or
    /// IO was dropped. That is also how a [watched](super::Connections::watch) one of HTTP/1 ends after a `connection: close` of
    /// either side.
    Closed,
    /// Its client closed it, in good order or in the middle of a request. Under
    /// [`serve_connection`](super::Connections::serve_connection) also one of HTTP/1 after a `connection: close` of either side.
    ClientClosed,
    /// It became another protocol's (HTTP/1's `Upgrade` or `CONNECT`), to which these limits don't apply.
    Upgraded,
    /// It failed otherwise; [`Ended::error`] has why.
    Error,
}

impl Reason {
    /// Returns the reason in snake case, as in the `metrics` module.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Handshake => "handshake",
            Reason::Idle => "idle",
            Reason::Age => "age",
            Reason::Dead => "dead",
            Reason::Stalled => "stalled",
            Reason::Policed => "policed",
            Reason::Shutdown => "shutdown",
            Reason::Closed => "closed",
            Reason::ClientClosed => "client_closed",
            Reason::Upgraded => "upgraded",
            Reason::Error => "error",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Handshake => "client did not begin a request in time",
            Reason::Idle => "connection was idle for too long",
            Reason::Age => "connection reached its greatest age",
            Reason::Dead => "client is gone",
            Reason::Stalled => "client took nothing of a response for too long",
            Reason::Policed => "client broke a rule",
            Reason::Shutdown => "server shuts down",
            Reason::Closed => "connection was closed on this side",
            Reason::ClientClosed => "client closed the connection",
            Reason::Upgraded => "connection became another protocol's",
            Reason::Error => "connection failed",
        })
    }
}

/// How a connection ended: what [`ServeConnection`](super::ServeConnection) resolves with.
#[derive(Clone, Debug)]
pub struct Ended {
    pub(super) reason: Reason,
    pub(super) forced: bool,
    pub(super) age: Duration,
    pub(super) requests: u64,
    pub(super) error: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Ended {
    /// Returns why it ended.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns whether it was cut off, with whatever was in flight: at once, or because a drain took longer than
    /// `grace`. `false` where it left in good order, or by itself.
    #[must_use]
    pub fn was_forced(&self) -> bool {
        self.forced
    }

    /// Returns how long it was served.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns how many requests began on it.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Returns the error with which it ended, if it had one: hyper's, or that of the IO.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.error.as_deref()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        if self.forced {
            f.write_str("; it was cut off")?;
        }
        write!(f, " (after {:.3?}, {} requests)", self.age, self.requests)
    }
}
