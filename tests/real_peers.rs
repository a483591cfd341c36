//! Servers and clients that others wrote, each in a process of its own on loopback: frozen, found, thawed, replaced;
//! and clients that a server of ours moves to other connections.
//!
//! Real time and wide margins. A peer that is not installed is skipped, with the reason on stderr, unless
//! `REQUIRED_PEERS` names it (`curl grpcio nginx redis websockets`); `PEERS_PYTHON` names the Python that has `grpcio`,
//! `grpcio-health-checking` and `websockets`.

#![cfg(all(target_os = "linux", feature = "hyper", feature = "tonic"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[cfg(feature = "server")]
#[path = "real_peers/curl.rs"]
mod curl;
#[path = "real_peers/grpcio.rs"]
mod grpcio;
#[cfg(feature = "server")]
#[path = "real_peers/grpcio_client.rs"]
mod grpcio_client;
#[cfg(feature = "h2-io")]
#[path = "real_peers/grpcio_pings.rs"]
mod grpcio_pings;
#[cfg(feature = "h2-io")]
#[path = "real_peers/grpcio_policed.rs"]
mod grpcio_policed;
#[expect(dead_code, reason = "the HTTP/1 tests use the rest")]
#[path = "hyper_http1/client.rs"]
mod http1_client;
#[path = "real_peers/nginx.rs"]
mod nginx;
#[cfg(feature = "h2-io")]
#[path = "real_peers/nginx_pings.rs"]
mod nginx_pings;
#[path = "real_peers/peer.rs"]
mod peer;
#[path = "real_peers/process.rs"]
mod process;
#[cfg(feature = "transport")]
#[path = "real_peers/redis.rs"]
mod redis;
#[cfg(feature = "server")]
#[path = "real_peers/served.rs"]
mod served;
#[path = "real_peers/skip.rs"]
mod skip;
#[expect(dead_code, reason = "the HTTP/2 tests use the rest")]
#[path = "hyper/support/mod.rs"]
mod support;
#[cfg(feature = "websocket")]
#[path = "real_peers/websockets.rs"]
mod websockets;
