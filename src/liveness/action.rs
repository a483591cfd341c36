//! What the machine hands out.

use std::time::Duration;

use crate::error::Failure;

/// What the driver is to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Bring a ping out, then report `on_ping_sent`.
    Ping,
    /// Give up the ping that is not out yet, and what it holds.
    CallOff,
    /// Another window passed without a sign of life.
    Missed { missed: u32 },
    /// Publish the new standing.
    Standing(Standing),
    /// Let the transport read, report what came, and call `handle_timeout` again.
    LookAgain,
    /// The end. No action follows.
    End(Ending),
}

/// How new calls are to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Well,
    /// Quiet for so long that a pong is wanted first.
    Unverified,
    /// A miss, or past the soft limit; and whether a pong is wanted first besides.
    Suspect {
        unverified: bool,
    },
    /// Takes no new calls; ends when it is idle.
    Leaving,
}

/// The figures of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) failure: Failure,
    pub(crate) waited: Duration,
    pub(crate) missed: u32,
    pub(crate) quiet_for: Duration,
}
