//! What happens to a server's connections, for whoever watches them all.

use super::reason::{Ended, Reason};

/// What happened to a connection; see [`Connections::on_event`](super::Connections::on_event).
///
/// ```text
/// Accepted ─ Opened ─┬─ Draining ─┬─ Ended
///                    └────────────┘
/// ```
///
/// [`Ended`](Event::Ended) is told once of each connection, and last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It is served from now on.
    Accepted,
    /// Its first request head, or HTTP/2's preface and SETTINGS, came in.
    Opened,
    /// It takes no more requests, and goes on with those in flight for `grace` at most.
    Draining(Reason),
    /// It is over.
    Ended(Ended),
}
