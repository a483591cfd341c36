//! hyper's HTTP/2 connection under a heartbeat: what a user of it sees.
//!
//! Where a duplex stands in for the socket, time is paused; real sockets get real time and wide
//! margins.

#![cfg(feature = "hyper")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "hyper/attribution.rs"]
mod attribution;
#[path = "hyper/endings.rs"]
mod endings;
#[cfg(feature = "balance")]
#[path = "hyper/endpoints.rs"]
mod endpoints;
#[path = "hyper/frozen.rs"]
mod frozen;
#[path = "hyper/goaway.rs"]
mod goaway;
#[path = "hyper/keep_alive.rs"]
mod keep_alive;
#[path = "hyper/leaving.rs"]
mod leaving;
#[path = "hyper/ownership.rs"]
mod ownership;
#[path = "hyper/pings.rs"]
mod pings;
#[path = "hyper/pools.rs"]
mod pools;
#[path = "hyper/reasons.rs"]
mod reasons;
#[path = "hyper/reconnects.rs"]
mod reconnects;
#[cfg(feature = "retry")]
#[path = "hyper/retries.rs"]
mod retries;
#[path = "hyper/stack.rs"]
mod stack;
#[path = "hyper/support/mod.rs"]
mod support;
#[path = "hyper/traffic.rs"]
mod traffic;
