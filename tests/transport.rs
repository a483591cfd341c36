//! Pings on message transports.

#![cfg(feature = "transport")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "transport/answers.rs"]
mod answers;
#[path = "transport/bad_input.rs"]
mod bad_input;
#[path = "transport/beats.rs"]
mod beats;
#[path = "transport/calm.rs"]
mod calm;
#[cfg(feature = "websocket")]
#[path = "transport/control_frames.rs"]
mod control_frames;
#[path = "transport/endings.rs"]
mod endings;
#[path = "transport/gated.rs"]
mod gated;
#[path = "transport/half_closed.rs"]
mod half_closed;
#[path = "transport/lanes.rs"]
mod lanes;
#[path = "transport/limits.rs"]
mod limits;
#[path = "transport/pings.rs"]
mod pings;
#[path = "transport/policing.rs"]
mod policing;
#[path = "transport/serve.rs"]
mod serve;
#[path = "transport/serve_drains.rs"]
mod serve_drains;
#[path = "transport/serve_ends.rs"]
mod serve_ends;
#[path = "transport/serve_house.rs"]
mod serve_house;
#[path = "transport/serve_transcripts.rs"]
mod serve_transcripts;
#[cfg(feature = "websocket")]
#[path = "transport/serve_websocket.rs"]
mod serve_websocket;
#[path = "transport/strict.rs"]
mod strict;
#[path = "transport/support.rs"]
mod support;
#[path = "transport/transcripts.rs"]
mod transcripts;
#[cfg(feature = "websocket")]
#[path = "transport/websocket.rs"]
mod websocket;

use std::{fmt::Debug, future::Ready};

use tokio::io::DuplexStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tower::{BoxError, util::ServiceFn};
use tower_heartbeat::transport::{
    Beats, Ear, HearingIo, HeartbeatStream, Kind, Lines, Serve, ServeError,
};

type Echo = ServiceFn<fn(String) -> Ready<Result<String, BoxError>>>;

#[test]
fn public_types_are_debug_send_sync_and_unpin() {
    fn is<T: Debug + Send + Sync + Unpin>() {}
    is::<Beats<String>>();
    is::<Ear>();
    is::<HearingIo<DuplexStream>>();
    is::<HeartbeatStream<Framed<DuplexStream, LinesCodec>, Lines>>();
    is::<Kind>();
    is::<Lines>();
    is::<Serve<Framed<DuplexStream, LinesCodec>, Lines, Echo>>();
    is::<ServeError<LinesCodecError, LinesCodecError, BoxError>>();
    is::<tower_heartbeat::PingPolicy>();
    #[cfg(feature = "websocket")]
    is::<tower_heartbeat::transport::WebSocket>();
}
