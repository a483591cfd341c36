//! HTTP/2 PINGs at the IO.

#![cfg(feature = "h2-io")]
#![expect(clippy::disallowed_methods, reason = "tests wait")]

#[path = "h2_io/anything.rs"]
mod anything;
#[path = "h2_io/goaway.rs"]
mod goaway;
#[path = "h2_io/half_open.rs"]
mod half_open;
#[cfg(feature = "hyper")]
#[path = "h2_io/hyper.rs"]
mod hyper;
#[path = "h2_io/lanes.rs"]
mod lanes;
#[path = "h2_io/shutdown.rs"]
mod shutdown;
#[path = "h2_io/streams.rs"]
mod streams;
#[path = "h2_io/support/mod.rs"]
mod support;
#[path = "h2_io/sweep.rs"]
mod sweep;
#[cfg(feature = "hyper")]
#[path = "h2_io/tls.rs"]
mod tls;
#[cfg(feature = "hyper")]
#[path = "h2_io/transcripts.rs"]
mod transcripts;
