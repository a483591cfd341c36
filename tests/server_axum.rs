//! Limits on the connections of `axum::serve`: on paused time, over connections in memory.

#![cfg(feature = "axum")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "server_axum/clients.rs"]
mod clients;
#[path = "server_axum/drains.rs"]
mod drains;
#[path = "server_axum/limits.rs"]
mod limits;
#[path = "server_axum/support.rs"]
mod support;
