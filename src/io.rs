//! Limits on the bytes of a connection, for clients that make their connections by themselves.
//!
//! [`LimitLayer`] wraps a *connector*: any service whose response is an IO, of tokio's
//! (`AsyncRead + AsyncWrite`) or, with the feature `hyper`, of hyper's (`Read + Write`; with
//! `client-legacy` also hyper-util's `Connection`). Its connections fail when nothing is read for
//! too long, when a write makes no progress, or when no byte moves at all; [`Limits`] says exactly
//! when. Nothing is spawned: each connection has one timer, polled with its reads and writes.
//!
//! No pings are sent here: bytes can't tell a slow handler from a vanished peer. Where the
//! service of one connection is at hand, [`HeartbeatLayer`](crate::HeartbeatLayer) can.
//!
//! # Where the failure comes out
//!
//! The read or write that fails returns a [`std::io::Error`] of kind `TimedOut` that carries a
//! [`HeartbeatError`](crate::HeartbeatError); every later one fails with the same. Over HTTP/1, hyper
//! and hyper-util pass it on, and [`HeartbeatError::find`](crate::HeartbeatError::find) finds it in a
//! `hyper::Error` and in a `hyper_util::client::legacy::Error` alike. Over HTTP/2 hyper keeps only
//! its kind and text: there, ask the [`IoHandle`].
//!
//! ```
//! use std::time::Duration;
//! use tokio::io::AsyncReadExt;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_heartbeat::{Failure, HeartbeatError, io::{LimitLayer, Limits}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let limits = Limits::builder().read_timeout(Duration::from_secs(10)).build()?;
//! let (near, _far) = tokio::io::duplex(64);
//! let mut near = Some(near);
//! let mut connector = ServiceBuilder::new()
//!     .layer(LimitLayer::new(limits))
//!     .service_fn(move |_target: &'static str| {
//!         let io = near.take().ok_or(std::io::ErrorKind::NotConnected);
//!         async { io.map_err(std::io::Error::from) }
//!     });
//!
//! let mut io = connector.ready().await?.call("a peer that says nothing").await?;
//! let error = io.read_u8().await.unwrap_err();
//! let error = HeartbeatError::find(&error).expect("it carries the cause");
//! assert_eq!(error.failure(), Failure::ReadTimeout);
//! assert_eq!(error.waited(), Duration::from_secs(10));
//! # Ok(())
//! # }
//! ```

mod handle;
mod layer;
mod limited;
mod limits;
mod watch;

pub use handle::IoHandle;
pub use layer::{Limit, LimitFuture, LimitLayer};
pub use limited::LimitedIo;
pub use limits::{Limits, LimitsBuilder, ReadWhen};
