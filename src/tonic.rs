//! tonic's channels and generated clients: a health check as a ping, and errors typed in a `Status`.
//!
//! Import the items, not this module: `use tower_heartbeat::tonic` would hide the `tonic` crate.
//!
//! ```no_run
//! use std::{net::SocketAddr, time::Duration};
//!
//! use hyper_util::rt::TokioIo;
//! use tokio::net::TcpStream;
//! use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
//! use tower::{ServiceBuilder, reconnect::Reconnect, timeout::Timeout};
//! # #[cfg(feature = "hyper")]
//! use tower_heartbeat::hyper::http2::Connect;
//! use tower_heartbeat::{Config, HeartbeatError, HeartbeatLayer, tonic::{StatusLayer, health}};
//!
//! # #[cfg(feature = "hyper")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let connector = tower::service_fn(|address: SocketAddr| async move {
//!     TcpStream::connect(address).await.map(TokioIo::new)
//! });
//! let connector = Timeout::new(connector, Duration::from_secs(5));
//! let origin = http::Uri::from_static("http://localhost");
//! let ping = health().origin(origin.clone());
//! let heartbeat = HeartbeatLayer::new(Config::detect_within(Duration::from_secs(10))?, ping);
//!
//! let address = SocketAddr::from(([127, 0, 0, 1], 50051));
//! let channel = ServiceBuilder::new()
//!     .layer(StatusLayer::new())
//!     .buffer(64)
//!     .service(Reconnect::new(Connect::new(connector, heartbeat), address));
//! // Any generated client.
//! let mut client = HealthClient::with_origin(channel, origin);
//! if let Err(status) = client.check(HealthCheckRequest::default()).await {
//!     // `Unavailable` where the connection ended.
//!     println!("{:?}: {:?}", status.code(), HeartbeatError::find(&status));
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "hyper"))]
//! # fn main() {}
//! ```
//!
//! The server needs a health service. One without answers UNIMPLEMENTED, and is no longer pinged, unless that
//! answer is [accepted](HealthSource::accept_unimplemented) as a pong.
//!
//! # On a `Channel`
//!
//! A `Channel` of tonic's is a virtual connection: it reconnects below. A heartbeat around it
//! notices a vanished peer and fails what is in flight, but cannot make the channel reconnect; once dead
//! it stays so. Below tower's `Reconnect`, `ConnectChannel` (feature `tonic-channel`) gives each heartbeat
//! a channel of its own, and closes it at the end.
//!
//! Leave the keep-alive of the `Endpoint` off, or let its interval and timeout together exceed
//! [`worst_case_detection`](crate::Config::worst_case_detection). If it is the first to notice, what is in flight fails with
//! tonic's own error, in which no [`HeartbeatError`](crate::HeartbeatError) is found: a call with `Unavailable`, a stream with `Unknown`.
//! The channel then reconnects below the heartbeat, which lives on, unless a ping was out: that one has failed as well, and ends it.
//!
//! # Queues below the ping
//!
//! A `Channel` is a buffer, and h2 queues requests where the peer allows few concurrent streams: a ping
//! that is a request can wait there, unseen, and slow requests can make it a false miss. Tell it how many
//! calls the server takes at a time, [`HealthSource::max_concurrent_requests`] (or the
//! `Endpoint`'s `concurrency_limit`, if that is less): while so many are in flight it isn't sent, and
//! [`quiet_timeout`](crate::ConfigBuilder::quiet_timeout) watches the server.

#[cfg(feature = "tonic-channel")]
mod connect;
mod health;
mod message;
mod status;
#[cfg(feature = "tonic-channel")]
mod tasks;

#[cfg(feature = "tonic-channel")]
pub use connect::ConnectChannel;
pub use health::{HealthError, HealthPing, HealthPong, HealthSource, health};
pub use status::{StatusBody, StatusFuture, StatusLayer, StatusService};
