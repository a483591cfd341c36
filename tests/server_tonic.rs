//! Limits on the connections of tonic's server: on paused time over connections in memory, and over real sockets.

#![cfg(all(feature = "tonic-server", feature = "axum"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "server_tonic/calls.rs"]
mod calls;
#[path = "server_tonic/limits.rs"]
mod limits;
#[path = "server_tonic/sockets.rs"]
mod sockets;
#[path = "server_tonic/support.rs"]
mod support;
