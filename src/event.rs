//! What happens to connections, for whoever watches them all.

use std::time::Duration;

use crate::error::HeartbeatError;

/// What happened to a connection; see [`HeartbeatLayer::on_event`](crate::HeartbeatLayer::on_event).
///
/// ```text
/// Connected ─ Ping ─ Pong ─ Ping ─ Missed ─ Suspect ─┬─ Pong ─ Recovered ─ …
///                                                    └─ Missed ─ Missed ─ Dead
/// ```
///
/// One of [`Dead`](Event::Dead), [`IdleClosed`](Event::IdleClosed) and [`Closed`](Event::Closed) is told once of each
/// connection. What another thread notices at that moment may still follow it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It was wrapped.
    Connected,
    /// A ping is out.
    Ping,
    /// The pong came in.
    #[non_exhaustive]
    Pong {
        /// The time from ping to pong.
        rtt: Duration,
    },
    /// A pong wait has passed without a sign of life.
    #[non_exhaustive]
    Missed {
        /// How many in a row; `max_missed` of them make it dead.
        missed: u32,
    },
    /// At least one miss, or past `suspect_after`.
    Suspect,
    /// No longer suspect.
    Recovered,
    /// The peer cannot be pinged: pings stop, idle and quiet limits go on.
    Unsupported,
    /// It ended because no request was in flight for `idle_timeout`.
    IdleClosed,
    /// It ended on this side, by [`Handle::close`](crate::Handle::close) or with its last user.
    Closed,
    /// It ended by any other [`Failure`](crate::Failure), with the figures.
    Dead(HeartbeatError),
}
