//! Limits on the connections of a server: idle, age, and clients that are gone or never begin.
//!
//! [`Connections`] are those of one server. [`serve_connection`](Connections::serve_connection) serves one with hyper, HTTP/1 or
//! HTTP/2, and resolves with how it [`Ended`]. Nothing is spawned: a connection has one timer, polled with it.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use hyper::{Request, Response, service::service_fn};
//! use hyper_util::rt::TokioIo;
//! use tower_heartbeat::server::{Connections, Handle, Limits, Reason, RequestBody};
//!
//! async fn answer(request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
//!     let connection = request.extensions().get::<Handle>().expect("each request has it");
//!     Ok(Response::new(format!("{} in flight", connection.in_flight())))
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let limits = Limits::builder()
//!     .handshake_timeout(Duration::from_secs(10))
//!     .idle_timeout(Duration::from_secs(300))
//!     .build()?;
//! let connections = Connections::new(limits);
//!
//! let (near, _client) = tokio::io::duplex(1024); // which says nothing
//! let ended = connections
//!     .serve_connection(TokioIo::new(near), service_fn(answer))
//!     .await;
//! assert_eq!(ended.reason(), Reason::Handshake);
//! assert_eq!(ended.age(), Duration::from_secs(10));
//! # Ok(())
//! # }
//! ```
//!
//! # Phases
//!
//! ```text
//! serving ── idle, age, shutdown ──► draining ── nothing in flight ──► ended
//!    │                                  └──────────── grace ─────────► ended, forced
//!    └── handshake, dead, stalled, closed ───────────────────────────► ended, forced
//! ```
//!
//! A drain takes no new requests and finishes those in flight: HTTP/1 says `connection: close`, HTTP/2 GOAWAY. A request that
//! comes as it begins is answered, or was not begun. [`Limits`] say what runs when.
//!
//! # What is in flight
//!
//! A request, from its head to the end of its response's body, while it is written, and until its own body is read or dropped.
//! Over HTTP/2 also a stream to its end on the wire. What goes on behind that says so with [`Handle::busy`].
//!
//! # Clients that are gone
//!
//! `write_timeout` finds those to which something is written, `read_timeout` those whose request is still coming. A handler
//! that works with its request complete has nobody to ask: over HTTP/2 PINGs do. hyper's own keep-alive goes
//! into the [`Builder`](Connections::serve_connection_with); [`h2_io::PingIo::server`](crate::h2_io::PingIo::server) goes around the IO and kills no client
//! whose pong is late behind data. Both end a connection with [`Reason::Dead`]. One whose client pings too often itself ends with
//! [`Reason::Policed`], where that IO [counts](crate::h2_io::PingIo::police_pings).
//!
//! # Upgrades
//!
//! A connection that becomes another protocol's (HTTP/1's `Upgrade` and `CONNECT`) leaves its limits with
//! [`Reason::Upgraded`]; `io::LimitedIo` around hyper's `Upgraded` gives it others, on its bytes. A
//! tunnel in an HTTP/2 stream needs a [`Busy`] guard for as long as it is there.
//!
//! # Together with hyper-util's `GracefulShutdown`
//!
//! It watches hyper's connections only, and [`Connections::shutdown`] those of this module. A server that has both waits for both:
//! `tokio::join!(graceful.shutdown(), connections.shutdown())`.
//!
//! # Servers that keep their connections to themselves
//!
//! [`Connections::watch`] gives the limits to an IO, and [`Handle::counted`] has a service count for it. The features `axum` and
//! `tonic-server` do that for `axum::serve` and tonic's `Server` (the `axum` and `tonic` modules).

mod alone;
#[cfg(feature = "axum")]
pub mod axum;
mod body;
mod connections;
mod event;
mod handle;
mod hyper;
mod io;
mod limits;
mod phase;
mod protocol;
mod reason;
mod service;
mod shared;
#[cfg(feature = "tonic-server")]
pub mod tonic;
mod watch;
mod wire;

pub use body::{RequestBody, ResponseBody};
pub use connections::Connections;
pub use event::Event;
pub use handle::{Busy, Handle, Phase};
pub use hyper::ServeConnection;
pub use io::ServedIo;
pub use limits::{Limits, LimitsBuilder};
pub use reason::{Ended, Reason};
pub use service::{CountedFuture, CountedService};
