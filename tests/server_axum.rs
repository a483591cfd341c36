//! Limits on the connections of `axum::serve`: on paused time, over connections in memory, and
//! with curl as a client (skipped where it is not, unless `REQUIRED_PEERS` names it).

#![cfg(feature = "axum")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "server_axum/clients.rs"]
mod clients;
#[path = "server_axum/curl.rs"]
mod curl;
#[path = "server_axum/drains.rs"]
mod drains;
#[path = "server_axum/limits.rs"]
mod limits;
#[path = "real_peers/skip.rs"]
mod skip;
#[path = "server_axum/support.rs"]
mod support;
