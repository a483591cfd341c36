//! A network that holds, loses and delays, between clients with a heartbeat and their servers.
//!
//! Simulated: hosts, links and time. `hold` keeps what is sent until it is released, `partition` loses it;
//! in both cases the sockets look fine.

#![cfg(all(feature = "hyper", feature = "io", feature = "tonic"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "turmoil/client.rs"]
mod client;
#[path = "turmoil/faults.rs"]
mod faults;
#[expect(dead_code, reason = "the HTTP/1 tests use the rest")]
#[path = "hyper_http1/client.rs"]
mod http1_client;
#[path = "turmoil/limits.rs"]
mod limits;
#[cfg(feature = "websocket")]
#[path = "turmoil/messages.rs"]
mod messages;
#[cfg(feature = "h2-io")]
#[path = "turmoil/pings.rs"]
mod pings;
#[path = "turmoil/server.rs"]
mod server;
#[expect(dead_code, reason = "the HTTP/2 tests use the rest")]
#[path = "hyper/support/mod.rs"]
mod support;
#[cfg(feature = "websocket")]
#[path = "turmoil/wire.rs"]
mod wire;
