//! Limits on the connections of tonic's `Server`.
//!
//! Import the items, not this module: `use tower_heartbeat::server::tonic` would hide the `tonic` crate.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use tonic::transport::server::TcpIncoming;
//! use tower_heartbeat::server::{Connections, Limits, tonic::CountLayer};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! # let (_, service) = tonic_health::server::health_reporter();
//! let limits = Limits::builder()
//!     .idle_timeout(Duration::from_secs(300))
//!     .max_age(Duration::from_secs(1800))
//!     .build()?;
//! let connections = Connections::new(limits);
//!
//! let incoming = TcpIncoming::bind("127.0.0.1:50051".parse()?)?;
//! tonic::transport::Server::builder()
//!     .layer(CountLayer::new())
//!     .serve_with_incoming(service, connections.watch_incoming(incoming))
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! With the [`CountLayer`] a call finds its connection's [`Handle`](super::Handle) in its extensions, beside what tonic puts there:
//! `Request::remote_addr` is what it was. Without, streams are in flight all the same, but nobody counts calls,
//! `read_timeout` does not act, and `write_timeout` only where the socket takes nothing.
//!
//! # What tonic leaves out of reach
//!
//! It drives its connections in tasks of its own, in which hyper cannot be asked to let go of one. So the limits act on the IO, as
//! [`Connections::watch`](super::Connections::watch) says: clients get a GOAWAY between hyper's frames. `Server::max_connection_age` is not told
//! here; leave it off.
//!
//! A client that is gone while its handler works is found by PINGs: tonic's own (`Server::http2_keepalive_interval`), which look as if the client had closed the connection
//! ([`Reason::ClientClosed`](super::Reason::ClientClosed)), or those of an [`h2_io::PingIo`](crate::h2_io::PingIo) around each IO of the stream, as
//! [`Reason::Dead`](super::Reason::Dead).
//!
//! # TLS
//!
//! It belongs below the limits: into the stream that [`watch_incoming`](super::Connections::watch_incoming) is given. `Server::tls_config` puts it
//! above, where nobody can tell what is in flight: `idle_timeout` and `handshake_timeout` don't act then, a drain closes the
//! connection after `grace`, and calls find neither handle nor address.

mod count;
mod incoming;
mod info;

pub use count::{Count, CountFuture, CountLayer};
pub use incoming::WatchedIncoming;
pub use info::ConnectionInfo;
