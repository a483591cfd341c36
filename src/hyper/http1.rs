//! hyper's HTTP/1 client connection as a tower service, and its life cycle.
//!
//! [`Connect`] does it all: it connects, wraps the connection in a heartbeat, and drives it. It is a
//! `MakeService`, ready for `tower::reconnect::Reconnect` and for pools:
//!
//! ```no_run
//! use std::{net::SocketAddr, time::Duration};
//!
//! use http_body_util::Empty;
//! use hyper::body::Bytes;
//! use hyper_util::rt::TokioIo;
//! use tokio::net::TcpStream;
//! use tower::{ServiceBuilder, reconnect::Reconnect, timeout::Timeout};
//! use tower_heartbeat::{Config, HeartbeatLayer, http::head, hyper::http1::Connect};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let connector = tower::service_fn(|address: SocketAddr| async move {
//!     TcpStream::connect(address).await.map(TokioIo::new)
//! });
//! // No layer outside bounds the time that `Reconnect` spends connecting.
//! let connector = Timeout::new(connector, Duration::from_secs(5));
//! let config = Config::builder()
//!     // Between requests, a peer that vanished is noticed within ten seconds.
//!     .detect_within(Duration::from_secs(10))
//!     // Under a request no ping can be sent: one that is silent for so long is given up.
//!     .quiet_timeout(Duration::from_secs(60))
//!     .build()?;
//! let ping = head::<Empty<Bytes>>("http://localhost/health".parse()?);
//! let connect = Connect::new(connector, HeartbeatLayer::new(config, ping))?;
//!
//! let address = SocketAddr::from(([127, 0, 0, 1], 8080));
//! let service = ServiceBuilder::new()
//!     .buffer(64)
//!     .timeout(Duration::from_secs(90))
//!     .service(Reconnect::new(connect, address));
//! # let _: tower::buffer::Buffer<http::Request<Empty<Bytes>>, _> = service;
//! # Ok(())
//! # }
//! ```
//!
//! The parts can be had one by one: [`handshake`] returns a [`SendRequest`] to be wrapped (below a
//! heartbeat with [`CompleteOnBody`](crate::http::CompleteOnBody) and
//! [`PingWhen::NotBusy`](crate::PingWhen::NotBusy), in a [`Share`](crate::Share)) and a [`Connection`],
//! which [`drive`] runs for the wrapped service's [`Handle`](crate::Handle).
//!
//! # One exchange at a time
//!
//! The connection is ready again once the response's body has been read. Pings are requests, and
//! take their turn *between* exchanges: none is ever sent while a response is awaited. `HEAD` is
//! best, since its answer has no body: hyper closes a connection on which a body is left unread.
//!
//! So no ping can find a peer that freezes *with a request in flight*. Its bytes are watched instead:
//! [`quiet_timeout`](crate::ConfigBuilder::quiet_timeout) is the longest silence of a peer that owes
//! a response or the rest of it. It is off by default, because only you know how long your slowest
//! response takes to begin: without it, and without a `Timeout` of your own, a request to a frozen
//! peer waits for ever. A response body that is not read counts as silence, since hyper reads no further than its user does.
//!
//! [`verify_after_idle`](crate::ConfigBuilder::verify_after_idle) keeps calls off a connection that
//! vanished since its last use.
//!
//! # What it adds to hyper
//!
//! - Every byte that comes in is a sign of life.
//! - Why the connection ended is recorded, the socket's own `io::Error` included: a response or body
//!   that fails because of it carries that cause, and so does the next `poll_ready`.
//! - `Connection: close`, and a peer that closes between exchanges, are no death: the response is
//!   delivered to its end, then calls are turned away with [`Stage::NotSent`](crate::Stage::NotSent).
//! - A request with an absolute URI and no `Host` header is sent in origin form, with that header, so
//!   that the same requests and pings go over HTTP/1 and HTTP/2.
//!
//! Upgrades are not supported. A request body that is still being sent when its response is complete
//! keeps the pings waiting, and for longer than `ready_timeout` it is taken for one that is stuck.

mod body;
mod connect;
mod connection;
mod send;

pub use body::ResponseBody;
pub use connect::Connect;
pub use connection::{Connection, drive, handshake};
pub use send::{ResponseFuture, SendRequest};

pub use super::{
    error::{ConnectError, SendError},
    make::MakeFuture,
};
