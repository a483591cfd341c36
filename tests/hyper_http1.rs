//! hyper's HTTP/1 connection under a heartbeat: what a user of it sees.
//!
//! Where a duplex stands in for the socket, time is paused; real sockets get real time and wide
//! margins.

#![cfg(feature = "hyper")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "hyper_http1/client.rs"]
mod client;
#[path = "hyper_http1/endings.rs"]
mod endings;
#[path = "hyper_http1/errors.rs"]
mod errors;
#[path = "hyper_http1/exchanges.rs"]
mod exchanges;
#[path = "hyper_http1/frozen.rs"]
mod frozen;
#[path = "hyper_http1/pools.rs"]
mod pools;
#[path = "hyper_http1/stack.rs"]
mod stack;
#[expect(dead_code, reason = "the HTTP/2 tests use the rest")]
#[path = "hyper/support/mod.rs"]
mod support;
