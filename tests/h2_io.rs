//! HTTP/2 PINGs at the IO.

#![cfg(feature = "h2-io")]
#![expect(clippy::disallowed_methods, reason = "tests wait")]

#[path = "h2_io/anything.rs"]
mod anything;
#[cfg(feature = "hyper")]
#[path = "h2_io/attribution.rs"]
mod attribution;
#[cfg(feature = "hyper")]
#[path = "h2_io/beside.rs"]
mod beside;
#[cfg(feature = "hyper")]
#[path = "h2_io/commands.rs"]
mod commands;
#[cfg(feature = "hyper")]
#[path = "h2_io/crowds.rs"]
mod crowds;
#[cfg(feature = "hyper")]
#[path = "h2_io/events.rs"]
mod events;
#[path = "h2_io/foreign.rs"]
mod foreign;
#[path = "h2_io/goaway.rs"]
mod goaway;
#[path = "h2_io/half_open.rs"]
mod half_open;
#[cfg(feature = "hyper")]
#[path = "h2_io/hyper.rs"]
mod hyper;
#[path = "h2_io/lanes.rs"]
mod lanes;
#[cfg(feature = "hyper")]
#[path = "h2_io/late_acks.rs"]
mod late_acks;
#[cfg(feature = "hyper")]
#[path = "h2_io/leaving.rs"]
mod leaving;
#[cfg(feature = "client-legacy")]
#[path = "h2_io/legacy.rs"]
mod legacy;
#[path = "h2_io/policing.rs"]
mod policing;
#[cfg(feature = "hyper")]
#[path = "h2_io/policing_hyper.rs"]
mod policing_hyper;
#[path = "h2_io/policing_sweep.rs"]
mod policing_sweep;
#[cfg(feature = "hyper")]
#[path = "h2_io/server.rs"]
mod server;
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

use std::fmt::Debug;

use tower_heartbeat::h2_io::{
    Attribution, AttributionBody, AttributionFuture, AttributionLayer, GoAway, NotHttp2,
    PingConnector, PingFuture, PingIo, PingLayer,
};

#[test]
fn public_types_are_debug_send_sync_and_unpin() {
    fn is<T: Debug + Send + Sync + Unpin>() {}
    is::<Attribution<()>>();
    is::<AttributionBody<()>>();
    is::<AttributionFuture<()>>();
    is::<AttributionLayer>();
    is::<GoAway>();
    is::<NotHttp2>();
    is::<PingConnector<()>>();
    is::<PingFuture<()>>();
    is::<PingIo<tokio::io::DuplexStream>>();
    is::<PingLayer>();
}
