//! A black hole in the kernel: packets are dropped, both sockets look fine, and TCP retransmits.
//!
//! Each test runs itself again in a network namespace of its own, where it may change the rules. Where that
//! can't be made it is skipped, with the reason on stderr, unless `REQUIRED_PEERS` names `netns`.

#![cfg(all(target_os = "linux", feature = "hyper"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "netns/dark.rs"]
mod dark;
#[expect(dead_code, reason = "the HTTP/1 tests use the rest")]
#[path = "hyper_http1/client.rs"]
mod http1_client;
#[path = "netns/network.rs"]
mod network;
#[cfg(feature = "h2-io")]
#[path = "netns/pings.rs"]
mod pings;
#[path = "real_peers/skip.rs"]
mod skip;
#[expect(dead_code, reason = "the HTTP/2 tests use the rest")]
#[path = "hyper/support/mod.rs"]
mod support;
