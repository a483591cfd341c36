//! hyper's HTTP/2 client connection as a tower service, and its life cycle.
//!
//! [`Connect`] does it all: it connects, shakes hands, wraps the connection in a heartbeat, and
//! drives it. It is a `MakeService`, ready for `tower::reconnect::Reconnect`:
//!
//! ```no_run
//! use std::{net::SocketAddr, time::Duration};
//!
//! use http_body_util::Empty;
//! use hyper::body::Bytes;
//! use hyper_util::rt::TokioIo;
//! use tokio::net::TcpStream;
//! use tower::{ServiceBuilder, reconnect::Reconnect, timeout::Timeout};
//! use tower_heartbeat::{Config, HeartbeatLayer, http::head, hyper::http2::Connect};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let connector = tower::service_fn(|address: SocketAddr| async move {
//!     TcpStream::connect(address).await.map(TokioIo::new)
//! });
//! // No layer outside bounds the time that `Reconnect` spends connecting.
//! let connector = Timeout::new(connector, Duration::from_secs(5));
//! let ping = head::<Empty<Bytes>>("http://localhost/health".parse()?);
//! let heartbeat = HeartbeatLayer::new(Config::detect_within(Duration::from_secs(10))?, ping);
//!
//! let address = SocketAddr::from(([127, 0, 0, 1], 8080));
//! let service = ServiceBuilder::new()
//!     .buffer(64)
//!     .timeout(Duration::from_secs(30))
//!     .service(Reconnect::new(Connect::new(connector, heartbeat), address));
//! # let _: tower::buffer::Buffer<http::Request<Empty<Bytes>>, _> = service;
//! # Ok(())
//! # }
//! ```
//!
//! The parts can be had one by one: [`handshake`] returns a [`SendRequest`] to be wrapped (with
//! [`CompleteOnBody`](crate::http::CompleteOnBody)) and a [`Connection`], which [`drive`] runs for
//! the wrapped service's [`Handle`](crate::Handle).
//!
//! # What it adds to hyper
//!
//! - Every byte that comes in is a sign of life.
//! - When the connection ends, the IO is closed, also with streams open that a frozen peer will
//!   never end.
//! - Why it ended is recorded: hyper's own keep-alive timeout is a
//!   [`Failure::PongTimeout`](crate::Failure::PongTimeout), a GOAWAY with an error a
//!   [`Failure::Transport`](crate::Failure::Transport) whose source is [`GoAway`], or
//!   [`Failure::TooManyPings`](crate::Failure::TooManyPings). A response or
//!   body that fails because of it carries that cause, not "channel closed" or "broken pipe".
//! - After a graceful GOAWAY, calls in flight go on, and new ones are turned away, as are those
//!   that the peer did not take: with [`Stage::NotSent`](crate::Stage::NotSent), since they are
//!   safe to send again (RFC 9113, section 6.8). No pings can be made then; set `quiet_timeout`, or time-outs of your own, where a peer might vanish while
//!   it is leaving.
//!
//! # Request pings queue inside h2
//!
//! hyper takes a request whenever the connection is open. Where the peer allows few concurrent
//! streams, a ping that is a request waits inside h2 for a free one, unseen, and slow requests
//! can make it a false miss. Leave the peer's limit some room.

mod body;
mod connect;
mod connection;
mod goaway;
mod send;

pub use body::ResponseBody;
pub use connect::Connect;
pub use connection::{Connection, drive, handshake};
pub use goaway::GoAway;
pub use send::{ResponseFuture, SendRequest};

pub use super::{
    error::{ConnectError, SendError},
    make::MakeFuture,
    wire::Io,
};
