//! Slow is not dead: a living peer survives, however long it takes and whatever it has in hand.
//!
//! A duplex stands in for the socket, and time is paused.

#![cfg(all(feature = "hyper", feature = "tonic"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "slow/grpc.rs"]
mod grpc;
#[path = "slow/http1.rs"]
mod http1;
#[expect(dead_code, reason = "the HTTP/1 tests use the rest")]
#[path = "hyper_http1/client.rs"]
mod http1_client;
#[path = "slow/http2.rs"]
mod http2;
#[path = "slow/limit.rs"]
mod limit;
#[cfg(feature = "h2-io")]
#[path = "slow/pings.rs"]
mod pings;
#[expect(dead_code, reason = "the gRPC tests use the rest")]
#[path = "tonic/support.rs"]
mod site;
#[path = "slow/slip_in.rs"]
mod slip_in;
#[expect(dead_code, reason = "the HTTP/2 tests use the rest")]
#[path = "hyper/support/mod.rs"]
mod support;
