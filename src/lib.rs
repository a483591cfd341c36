//! A tower layer that pings a connection beside its traffic and turns a vanished peer into a
//! typed error.
//!
//! A peer can be gone while its socket looks fine: a NAT entry dropped, a laptop asleep, a process
//! frozen. TCP takes about a quarter of an hour to notice. [`HeartbeatLayer`] wraps the service of
//! one connection; a driver pings when the peer has been quiet, and when nothing comes back it
//! fails what is in flight with a [`HeartbeatError`] that says what happened and how far the request
//! had got. The transport is closed by an adapter that knows it (the `hyper` feature has one) or by a
//! hook ([`Handle::on_end`]).
//!
//! ```text
//! heard                 ping due  ping out     miss        miss        miss
//!   |--- interval + tick ---|- ready -|- pong wait -|- pong wait -|- pong wait -|
//!   |         alive                                 |  suspect: any sign of     |  dead
//!   |                                               |  life brings it back      |  (final)
//!   |<------------------- Config::worst_case_detection() ---------------------->|
//! ```
//!
//! # Words
//!
//! - **ping**, **pong**: a question that only a living peer answers, and its answer.
//! - **heard**: anything that came in from the peer: a response, a part of a body, a pong.
//! - **quiet**: nothing heard. **idle**: no request in flight. The two are never mixed.
//! - **miss**: one `pong_timeout` since the ping went out (or since the last miss) without a sign of life; with an
//!   adaptive [`Detector`] less, as the path's latency is.
//! - **suspect**: at least one miss, or past `suspect_after`. **dead**: `max_missed` misses in a row.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_heartbeat::{Config, Failure, HeartbeatError, HeartbeatLayer, Stage, ping};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! // A connection that takes requests and never answers.
//! let frozen = tower::service_fn(|_: &'static str| std::future::pending::<Result<(), std::io::Error>>());
//!
//! let mut service = ServiceBuilder::new()
//!     .timeout(Duration::from_secs(60))
//!     .layer(HeartbeatLayer::new(
//!         Config::detect_within(Duration::from_secs(10))?,
//!         ping::request(|| "PING"),
//!     ))
//!     .service(frozen);
//!
//! let error = service.ready().await?.call("GET x").await.unwrap_err();
//! let error = HeartbeatError::find(&*error).expect("not the timeout of a minute");
//! assert_eq!(error.failure(), Failure::PongTimeout);
//! assert_eq!(error.stage(), Stage::AwaitingResponse);
//! # Ok(())
//! # }
//! ```
//!
//! # What acts when
//!
//! | setting | with requests in flight | idle |
//! |---|---|---|
//! | `interval`, `pong_timeout`, `max_missed`, `ready_timeout` | after `interval` of quiet | after `interval` of quiet; [`PingWhen`] changes both |
//! | `idle_timeout` | never | from the end of the last request and its body |
//! | `quiet_timeout` | from the last sign of life | never |
//! | `verify_after_idle` | before a new call, after that much quiet | likewise |
//! | `suspect_after` | holds new calls back; those in flight go on | likewise |
//! | `h2_io`: pings, `idle_timeout`, `quiet_timeout` | while a stream is open, as above; also beside slow ones | as above |
//! | `transport`: pings, `idle_timeout`, `quiet_timeout` | while a `busy` guard is held (`Serve` has one for each request), as above | as above; each user message, either way, restarts `idle_timeout` |
//! | `PingPolicy::min_interval` | from one of the peer's pings to the next | two hours at least, unless `while_idle` |
//! | `server`: `idle_timeout` | never | from the end of the last request and its bodies |
//! | `server`: `read_timeout`, `write_timeout` | while a request's body is waited for, or a response is held up | never |
//! | `server`: `handshake_timeout`, `max_age` | the first: never; the second: always | before the first request; always |
//! | `io`: `read_timeout`, `write_timeout`, `idle_timeout` | while a read or a write waits, by bytes | likewise: bytes know no requests |
//!
//! # Features
//!
//! None is on by default, and each only adds.
//!
//! - `http`: response bodies as part of their request, and an HTTP request as a ping (the `http` module); a path that
//!   answers pings (the [`pong`] module).
//! - `hyper`: hyper's HTTP/1 and HTTP/2 client connections as tower services, their life cycle, and
//!   a `MakeService` of connections (the `hyper::http1` and `hyper::http2` modules).
//! - `io`: limits on the bytes of a connection, as a layer around a connector of tokio's IO, or of
//!   hyper's with `hyper` (the `io` module).
//! - `client-legacy`: the same below hyper-util's legacy `Client`; implies `io` and `hyper`.
//! - `h2-io`: PINGs on the HTTP/2 connections that a client makes by itself, as a layer around its connector (the
//!   `h2_io` module); implies `http`.
//! - `tonic`: a gRPC health check as a ping, and the heartbeat's errors typed in a `tonic::Status` (the
//!   `tonic` module); a health check that is answered in front of a server (the [`pong`] module).
//! - `tonic-channel`: a `MakeService` of tonic's own channels (`tonic::ConnectChannel`); implies `tonic`
//!   and `hyper`.
//! - `retry`: a policy for `tower::retry` that tells a safe retry from an unsafe one (the `retry` module).
//! - `balance`: endpoints for `tower::balance` that leave when they are dead and come back when they are
//!   reached again, and `tower::load::Load` (the `balance` module).
//! - `metrics`: figures of all connections for the recorder of the `metrics` facade (the `metrics` module).
//! - `server`: limits on the connections of a server of hyper's (the `server` module); implies `h2-io` and `hyper`.
//! - `axum`: the same below `axum::serve` (the `server::axum` module); implies `server`.
//! - `tonic-server`: the same below tonic's `Server` (the `server::tonic` module); implies `server`.
//! - `transport`: pings on message transports, any `Stream` + `Sink`, with lines, one-way beats or a protocol of
//!   one's own, and such a transport as the server of a service (the `transport` module), or as a service (the `mux` module).
//! - `websocket`: the same with WebSocket's control frames (`transport::WebSocket`); implies `transport`.
//!
//! # Tracing
//!
//! Each connection has one span, `heartbeat` (info, with an `id`). It has no parent: the request that
//! happened to open the connection ends before it. In it:
//!
//! | event | level | fields |
//! |---|---|---|
//! | `ping`, `pong` | trace | `rtt` of the pong |
//! | `ping missed` | warn | `missed`, `max_missed` |
//! | `connection is suspect` | debug | |
//! | `peer cannot be pinged`: pings stop, idle and quiet limits go on | warn | `source` |
//! | `peer complains about pings`: the next connection is pinged less often | warn | `interval` |
//! | `connection is dead` | warn | `failure`, `waited`, `missed`, `quiet_for`, `smoothed_rtt`, `source` |
//! | `connection closed`: idle, on this side, or by the peer in good order | debug | `failure`, `waited` |
//! | `answer has no request`: `transport::Serve` drops one to a message without an id | debug | |
//! | `hook panicked` | error | `message` |
//! | `waker panicked` | error | |
//! | `connection is drained`, `connection ended`: a server's (outside of any span) | debug | `reason`; `forced`, `age`, `requests`, `error` |
//! | `connection is encrypted`: a server's limits were put below TLS | warn | |
//! | `next connection waits` (in the caller's span, target `tower_heartbeat::reconnect`) | debug | `failures`, `delay` |
//! | `request is sent again` (in the caller's span, target `tower_heartbeat::retry`) | debug | `attempt`, `stage` |
//! | `request is not sent again`: why (likewise) | debug | `attempt`, `stage`, `reason` |
//! | `answer comes too late`, `answer to no request`, `message to nobody` (`mux`) | debug | |
//! | `local fault suspected` (outside of any connection's span) | warn | `missed`, `asked` |
//!
//! [`HeartbeatLayer::on_event`] tells the same to a hook, connection by connection.
//!
//! # Cancel safety
//!
//! Dropping a response future or body ends that request, as it would without the heartbeat.
//! Dropping the last service, future and body of a connection ends it at once: the ping that is
//! out is cancelled and the inner service dropped. A [`Handle`] keeps nothing alive.
//!
//! # Runtime and Rust version
//!
//! One driver watches all connections of a layer in one runtime; a connection of the `h2_io` or the `transport`
//! module is watched by whoever polls it. Both need a tokio runtime with time
//! enabled. The least Rust version is the `rust-version` of
//! `Cargo.toml`; raising it is a minor version.

#[cfg(feature = "balance")]
pub mod balance;
mod completion;
mod config;
mod dice;
mod driver;
mod error;
mod event;
mod fleet;
mod future;
#[cfg(feature = "h2-io")]
pub mod h2_io;
mod handle;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "hyper")]
pub mod hyper;
mod inbox;
#[cfg(any(feature = "h2-io", feature = "transport"))]
mod inline;
#[cfg(feature = "io")]
pub mod io;
#[cfg(any(
    feature = "h2-io",
    feature = "hyper",
    feature = "io",
    feature = "transport"
))]
mod lanes;
mod layer;
mod link;
mod liveness;
pub mod make;
#[cfg(feature = "metrics")]
pub mod metrics;
mod moment;
#[cfg(feature = "transport")]
pub mod mux;
pub mod ping;
#[cfg(any(feature = "h2-io", feature = "transport"))]
mod ping_policy;
pub mod pong;
pub mod ready_limit;
pub mod reconnect;
#[cfg(feature = "retry")]
pub mod retry;
mod rtt;
#[cfg(feature = "server")]
pub mod server;
mod service;
mod share;
mod signals;
mod spawn;
mod sync;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(feature = "transport")]
pub mod transport;
mod wakers;

pub use completion::{CompleteOnResponse, TrackCompletion};
pub use config::{Config, ConfigBuilder, ConfigError, Detector, Evidence, PingWhen, Setting};
pub use driver::Driver;
pub use error::{BoxError, Error, Failure, HeartbeatError, Stage};
pub use event::Event;
pub use future::ResponseFuture;
pub use handle::{Handle, State};
pub use layer::HeartbeatLayer;
pub use link::InFlight;
#[cfg(any(feature = "h2-io", feature = "transport"))]
pub use ping_policy::PingPolicy;
pub use rtt::Rtt;
pub use service::Heartbeat;
pub use share::{Share, ShareFuture, ShareLayer};

#[cfg(all(
    doctest,
    feature = "axum",
    feature = "balance",
    feature = "client-legacy",
    feature = "h2-io",
    feature = "retry",
    feature = "server",
    feature = "tonic-channel",
    feature = "tonic-server",
    feature = "websocket"
))]
#[doc = include_str!("../README.md")]
struct Readme;
