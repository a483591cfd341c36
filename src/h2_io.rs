//! PINGs on the HTTP/2 connections that hyper or tonic make by themselves.
//!
//! [`PingLayer`] wraps a *connector*: any service whose response is an IO, of tokio's
//! (`AsyncRead + AsyncWrite`) or, with the feature `hyper`, of hyper's (`Read + Write`; with `client-legacy`
//! also hyper-util's `Connection`). It belongs above TLS, where the bytes are HTTP/2's. Into what the client
//! writes it puts PING frames (RFC 9113, section 6.7), and takes their answers out of what it reads. They need no
//! stream, so neither a slow handler nor the peer's MAX_CONCURRENT_STREAMS can hold them up.
//!
//! The heartbeat is the one that services have, with the same [`Config`](crate::Config) and [`Handle`](crate::Handle): by default a
//! connection is pinged only after `interval` with nothing read, and any byte that comes in is a sign of life. A
//! connection that has failed reads and writes no more, upon which a `Channel` or a pool makes a new one.
//!
//! ```
//! # #[cfg(feature = "client-legacy")]
//! # fn client() -> Result<(), tower_heartbeat::BoxError> {
//! use std::time::Duration;
//!
//! use http_body_util::Empty;
//! use hyper::body::Bytes;
//! use hyper_util::{client::legacy::{Client, connect::HttpConnector}, rt::TokioExecutor};
//! use tower::Layer;
//! use tower_heartbeat::{Config, h2_io::PingLayer};
//!
//! let pings = PingLayer::new(Config::detect_within(Duration::from_secs(20))?);
//!
//! let client = Client::builder(TokioExecutor::new())
//!     .http2_only(true)
//!     .build::<_, Empty<Bytes>>(pings.layer(HttpConnector::new()));
//! // Calls of this one say why their connection ended.
//! let client = pings.attribution().layer(client);
//! # drop(client);
//! # Ok(())
//! # }
//! ```
//!
//! # Where the failure comes out
//!
//! The IO fails with an [`io::Error`](std::io::Error) that carries a [`HeartbeatError`](crate::HeartbeatError), but h2 keeps only the text
//! of it. [`PingLayer::attribution`] returns a layer for above the client that makes it typed again, in calls and bodies;
//! the [`Handle`](crate::Handle) has it, too: from [`PingLayer::on_connect`], [`PingIo::handle`], or the extensions of a legacy
//! `Client`'s responses.
//!
//! # Settings
//!
//! A request is in flight while a stream is open. So `idle_timeout` closes a connection without streams, `quiet_timeout` one
//! with a stream and nothing read, and [`PingWhen::WhileBusy`](crate::PingWhen::WhileBusy) pings only
//! beside streams. `verify_after_idle` and `suspect_after` hold no call back here; they show in the handle.
//!
//! The pong comes behind everything that lies in the send buffers of both systems: let `pong_timeout` exceed the
//! time in which a slow uplink drains them. Leave the keep-alive of hyper and tonic off: it
//! ends connections that are busy receiving, if only the pong is late.
//!
//! # Peers that count pings
//!
//! gRPC servers do: most allow two within five minutes while nothing is sent, and none without a call. They answer too
//! many with a GOAWAY "too_many_pings". That ends the connection with [`Failure::TooManyPings`](crate::Failure::TooManyPings), and the
//! next one to the same target is pinged half as often (gRPC's proposal A8); [`Handle::config`](crate::Handle::config) shows it. For
//! such peers choose `PingWhen::WhileBusy` and a long `interval`, or ask what they permit. A call that is open and silent
//! does not appease them; one in flight at that time they may end themselves, with a status of their own.
//!
//! # Clients that ping too often
//!
//! A server counts the pings of its clients with [`PingIo::police_pings`]. One that exceeds the
//! [`PingPolicy`](crate::PingPolicy) gets that very GOAWAY, and its connection ends with
//! [`Failure::PingFlood`](crate::Failure::PingFlood).
//!
//! # What is not HTTP/2
//!
//! Bytes that are not HTTP/2's (an HTTP/1 client's, TLS below which the layer was put by mistake) pass as they are. The
//! connection cannot be pinged then, says so in one event (`peer cannot be pinged`, source [`NotHttp2`]), and
//! [`Handle::ping_now`](crate::Handle::ping_now) fails with [`Failure::Unsupported`](crate::Failure::Unsupported). As nobody knows what is in
//! flight, it counts as in use: `idle_timeout` doesn't act, and `quiet_timeout`, if set, limits the time with nothing read. Nor are its pings counted.

mod attribution;
mod core;
mod foreign;
mod frames;
mod goaway;
mod inbound;
mod layer;
mod outbound;
mod ping_io;
mod policing;
mod registry;
#[cfg(feature = "server")]
mod spectator;
mod streams;
mod watched;

pub use attribution::{Attribution, AttributionBody, AttributionFuture, AttributionLayer};
pub use foreign::NotHttp2;
pub use goaway::GoAway;
pub use layer::{PingConnector, PingFuture, PingLayer};
pub use ping_io::PingIo;
#[cfg(feature = "server")]
pub(crate) use spectator::{Goodbye, Spectator};

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl Role {
    fn other(self) -> Role {
        match self {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        }
    }
}
