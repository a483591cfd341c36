//! gRPC under a heartbeat: what a user of a generated client sees.
//!
//! A duplex stands in for the socket, and time is paused.

#![cfg(all(feature = "tonic", feature = "hyper"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "tonic/channel.rs"]
mod channel;
#[cfg(feature = "h2-io")]
#[path = "tonic/channel_crowd.rs"]
mod channel_crowd;
#[cfg(feature = "h2-io")]
#[path = "tonic/channel_ping.rs"]
mod channel_ping;
#[cfg(feature = "tonic-channel")]
#[path = "tonic/connect.rs"]
mod connect;
#[path = "tonic/frozen.rs"]
mod frozen;
#[path = "tonic/health.rs"]
mod health;
#[cfg(feature = "tonic-channel")]
#[path = "tonic/keep_alive.rs"]
mod keep_alive;
#[cfg(feature = "tonic-channel")]
#[path = "tonic/sockets.rs"]
mod sockets;
#[path = "tonic/stack.rs"]
mod stack;
#[path = "tonic/statuses.rs"]
mod statuses;
#[path = "tonic/support.rs"]
mod support;
