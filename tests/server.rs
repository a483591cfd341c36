//! Limits on the connections of a server: over a real hyper, on paused time.

#![cfg(all(feature = "io", feature = "server"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "server/dead.rs"]
mod dead;
#[path = "server/drains.rs"]
mod drains;
#[path = "server/handshake.rs"]
mod handshake;
#[path = "server/hostile.rs"]
mod hostile;
#[path = "server/idle.rs"]
mod idle;
#[path = "server/leave.rs"]
mod leave;
#[path = "server/links.rs"]
mod links;
#[path = "server/memory.rs"]
mod memory;
#[path = "server/policed.rs"]
mod policed;
#[path = "server/polls.rs"]
mod polls;
#[path = "server/queued.rs"]
mod queued;
#[path = "server/real.rs"]
mod real;
#[path = "server/settings.rs"]
mod settings;
#[path = "server/support/mod.rs"]
mod support;
#[path = "server/told.rs"]
mod told;
#[path = "server/watched.rs"]
mod watched;
