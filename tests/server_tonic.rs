//! Limits on the connections of tonic's server: on paused time over connections in memory, over real sockets, and
//! with grpcio as a client (skipped where it is not, unless `REQUIRED_PEERS` names it; `PEERS_PYTHON` has it).

#![cfg(feature = "tonic-server")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "server_tonic/calls.rs"]
mod calls;
#[path = "server_tonic/grpcio.rs"]
mod grpcio;
#[path = "server_tonic/limits.rs"]
mod limits;
#[path = "server_tonic/queued.rs"]
mod queued;
#[path = "real_peers/skip.rs"]
mod skip;
#[path = "server_tonic/sockets.rs"]
mod sockets;
#[path = "server_tonic/support.rs"]
mod support;
