//! HTTP/2 PINGs at the IO.

#![cfg(feature = "h2-io")]
#![expect(clippy::disallowed_methods, reason = "tests wait")]

#[path = "h2_io/foreign.rs"]
mod foreign;
#[cfg(feature = "hyper")]
#[path = "h2_io/hyper.rs"]
mod hyper;
