//! Message transports as connection-level services: requests and heartbeats share one connection.
//!
//! A [`Mux`] is a tower service over any `Stream` + `Sink` of messages: it sends a request and finds its answer, in order
//! ([`in_order`]) or by an id ([`by_id`]). One task reads and writes, and neither holds up the other. A
//! [`Protocol`](crate::transport::Protocol) tells which messages are heartbeats: the peer's pings are answered at once, and
//! [`ping`] is the source of this side's, beside the requests.
//!
//! [`Connect`] does it all, ready for `tower::reconnect::Reconnect`:
//!
//! ```no_run
//! use std::{io, net::SocketAddr, time::Duration};
//!
//! use tokio::net::TcpStream;
//! use tokio_util::codec::{Framed, LinesCodec};
//! use tower::{ServiceBuilder, reconnect::Reconnect, timeout::Timeout};
//! use tower_heartbeat::{Config, HeartbeatLayer, mux::{self, Connect}, transport::Lines};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let connector = tower::service_fn(|address: SocketAddr| async move {
//!     let socket = TcpStream::connect(address).await?;
//!     io::Result::Ok(Framed::new(socket, LinesCodec::new_with_max_length(65_536)))
//! });
//! // No layer outside bounds the time that `Reconnect` spends connecting.
//! let connector = Timeout::new(connector, Duration::from_secs(5));
//! let heartbeat = HeartbeatLayer::new(Config::detect_within(Duration::from_secs(10))?, mux::ping());
//! let connect = Connect::new(connector, heartbeat, mux::in_order(Lines::new()));
//!
//! let address = SocketAddr::from(([127, 0, 0, 1], 7000));
//! let service = ServiceBuilder::new()
//!     .buffer(64)
//!     .timeout(Duration::from_secs(30))
//!     .service(Reconnect::new(connect, address));
//! # let _: tower::buffer::Buffer<String, _> = service;
//! # Ok(())
//! # }
//! ```
//!
//! The parts can be had one by one: [`Builder::pair`] returns a [`Mux`] to be wrapped and a [`Connection`] to be spawned, which
//! [`drive`] ties to the wrapped service's [`Handle`](crate::Handle).
//!
//! # What bounds it
//!
//! [`Builder::max_queued`] requests wait for the transport, [`Builder::max_in_flight`] for their answers; with so many, `poll_ready` waits.
//! A caller that leaves takes an unsent request with it. Once it was sent, by id its place is free at once and the
//! late answer is dropped, with a debug event; in order it keeps its turn, and its place, until the answer comes.
//!
//! Heartbeats go before requests; of a flood of the peer's pings nothing grows, and its answers and the requests take turns.
//!
//! One request has one answer. What the peer sends by itself goes to [`Builder::on_unsolicited`].
//!
//! # Pings
//!
//! [`ping`] needs a protocol with a ping of its own. Where there is none a request will do
//! ([`ping::request`](crate::ping::request)), but that one needs a place like any other, and in order waits behind all that were
//! sent before: slow requests then look like a dead peer. Tell it with
//! [`max_concurrent_requests`](crate::ping::RequestSource::max_concurrent_requests) among how many it still gets its answer in time, or
//! ping between requests only ([`PingWhen::NotBusy`](crate::PingWhen::NotBusy)).
//!
//! Each message that comes in is a sign of life, whatever it is; with [`Connection::hear_bytes`] each byte. A message from the
//! peer is no use of the connection: `idle_timeout` counts from the last request's end.
//!
//! # How it ends
//!
//! At the heartbeat's verdict the transport is dropped at once, and calls fail with [`Error::Heartbeat`](crate::Error::Heartbeat). When the
//! transport ends by itself, each call fails with a [`MuxError`] that says whether the transport had its request; below, a
//! [`HeartbeatError`](crate::HeartbeatError) with [`Failure::Transport`](crate::Failure::Transport) and the transport's
//! error as its source, which [`HeartbeatError::find`](crate::HeartbeatError::find) finds. With the last user the
//! transport is closed in good order, in half a second at most.

mod builder;
mod connect;
mod connection;
mod core;
mod error;
mod ping;
mod service;
mod shared;
mod slot;
mod waiting;

pub use builder::{Builder, InOrder, by_id, in_order};
pub use connect::{Connect, MakeFuture};
pub use connection::{Connection, drive};
pub use error::{ConnectError, MuxError};
pub use ping::{MuxPing, MuxPong, MuxSource, ping};
pub use service::{Mux, ResponseFuture};
