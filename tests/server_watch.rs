//! A watched connection, byte by byte: what a drain writes, when, and what is left alone.

#![cfg(feature = "server")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "server_watch/goaway.rs"]
mod goaway;
#[path = "server_watch/leave.rs"]
mod leave;
#[path = "server_watch/socket.rs"]
mod socket;
