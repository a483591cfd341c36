//! A back-off between the connections of one peer, for [`tower::reconnect`](https://docs.rs/tower/latest/tower/reconnect).
//!
//! tower's `Reconnect` connects again as soon as it is asked. A peer that takes connections and then
//! stays mute would be met with connection after connection; so would one that refuses them.
//! [`Backoff`] goes around the `MakeService` below `Reconnect` and has it wait:
//!
//! ```text
//! connect, mute, dead | wait up to 1 × first | connect, mute, dead | up to 2 × first | .. | up to max
//! ```
//!
//! Each wait is random between zero and that bound (full jitter), and counts from the end of the last
//! connection, so that after a long pause nobody waits. The bound goes back to the first one only
//! after a connection has *proved itself*, by a pong or a response: bytes alone don't, since a peer
//! that shakes hands may still be mute.
//!
//! | the last connection | the next one waits |
//! |---|---|
//! | ended on this side in good order (idle, closed), after it had proved itself | not at all |
//! | had proved itself, and ended | up to `first_delay` |
//! | had not, or did not come about, n in a row | up to `first_delay × 2ⁿ⁻¹`, at most `max_delay` |
//!
//! A connection whose own `poll_ready` has failed counts as ended, though its heartbeat ended nothing.
//!
//! ```
//! use std::time::Duration;
//! use tower::{Service, ServiceBuilder, ServiceExt, reconnect::Reconnect};
//! use tower_heartbeat::make::MakeHeartbeatLayer;
//! use tower_heartbeat::reconnect::{BackoffLayer, Delays};
//! use tower_heartbeat::{Config, Failure, HeartbeatError, HeartbeatLayer, ping};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! // The first connection is mute, and then there is nobody.
//! let mut attempts = 0;
//! let connect = tower::service_fn(move |_address: &'static str| {
//!     attempts += 1;
//!     std::future::ready(if attempts == 1 {
//!         Ok(tower::service_fn(|_: &'static str| {
//!             std::future::pending::<Result<(), std::io::Error>>()
//!         }))
//!     } else {
//!         Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
//!     })
//! });
//! let config = Config::detect_within(Duration::from_secs(1))?;
//! let make = ServiceBuilder::new()
//!     .layer(BackoffLayer::new(Delays::default()))
//!     .layer(MakeHeartbeatLayer::new(HeartbeatLayer::new(config, ping::request(|| "PING"))))
//!     .service(connect);
//! let mut client = Reconnect::new(make, "localhost");
//!
//! for _ in 0..2 {
//!     let error = client.ready().await?.call("GET x").await.unwrap_err();
//!     // What was the matter is still there to see when nobody can be reached any more.
//!     let error = HeartbeatError::find(&*error).expect("how the last connection ended");
//!     assert_eq!(error.failure(), Failure::PongTimeout);
//! }
//! # Ok(())
//! # }
//! ```

mod delays;
mod error;
mod record;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use self::record::Record;
pub use self::{
    delays::{Delays, DelaysBuilder},
    error::ReconnectError,
};
use crate::{error::BoxError, service::Heartbeat};

/// Wraps a `MakeService` of [`Heartbeat`]s in a [`Backoff`].
#[derive(Clone, Debug)]
pub struct BackoffLayer {
    delays: Delays,
}

impl BackoffLayer {
    /// Creates a layer with these delays.
    #[must_use]
    pub fn new(delays: Delays) -> Self {
        BackoffLayer { delays }
    }
}

impl<M> Layer<M> for BackoffLayer {
    type Service = Backoff<M>;

    fn layer(&self, inner: M) -> Backoff<M> {
        Backoff::new(inner, self.delays)
    }
}

/// A `MakeService` that waits before it makes another connection; the [module](self) says how long.
///
/// It waits in `poll_ready`, where `Reconnect` has its callers wait, too: a [`Timeout`](https://docs.rs/tower/latest/tower/timeout)
/// around `Reconnect` doesn't bound that.
///
/// It is for one connection to one peer at a time. While the last one that it made is alive, it doesn't
/// wait.
///
/// # Clone
///
/// A clone begins a back-off of its own: one for each peer.
pub struct Backoff<M> {
    inner: M,
    record: Arc<Mutex<Record>>,
    delays: Delays,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Has waited, and may be called.
    waited: bool,
}

impl<M> Backoff<M> {
    /// Wraps `inner`, whose connections have a heartbeat: a `Connect` of the `hyper` feature or of the `mux` module, a
    /// `tonic::ConnectChannel`, or a [`MakeHeartbeat`](crate::make::MakeHeartbeat).
    #[must_use]
    pub fn new(inner: M, delays: Delays) -> Self {
        Backoff {
            inner,
            record: Arc::new(Mutex::new(Record::new(delays))),
            delays,
            sleep: None,
            waited: false,
        }
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = record::due(&self.record) else {
            self.sleep = None;
            return Poll::Ready(());
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        Poll::Ready(())
    }
}

impl<M, Target, S, C> Service<Target> for Backoff<M>
where
    M: Service<Target, Response = Heartbeat<S, C>>,
    M::Error: Into<BoxError>,
{
    type Response = Heartbeat<S, C>;
    type Error = ReconnectError;
    type Future = ConnectFuture<M::Future>;

    /// Becomes ready when the wait is over and the inner service is ready.
    ///
    /// # Errors
    ///
    /// What the inner service's `poll_ready` says; final.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a tokio runtime with time enabled.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReconnectError>> {
        if !self.waited {
            ready!(self.poll_due(cx));
            self.waited = true;
        }
        let ready = self.inner.poll_ready(cx);
        ready.map_err(|error| record::fail(&self.record, error.into()))
    }

    fn call(&mut self, target: Target) -> Self::Future {
        self.waited = false;
        ConnectFuture {
            inner: self.inner.call(target),
            record: Arc::clone(&self.record),
        }
    }
}

impl<M> Clone for Backoff<M>
where
    M: Clone,
{
    fn clone(&self) -> Self {
        Backoff::new(self.inner.clone(), self.delays)
    }
}

impl<M> fmt::Debug for Backoff<M>
where
    M: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("inner", &self.inner)
            .field("delays", &self.delays)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// A connection in the making, whose outcome decides how long the next one waits.
    ///
    /// # Cancel safety
    ///
    /// An attempt that is dropped counts as none.
    #[must_use = "futures do nothing unless polled"]
    pub struct ConnectFuture<F> {
        #[pin]
        inner: F,
        record: Arc<Mutex<Record>>,
    }
}

impl<F, S, C, E> Future for ConnectFuture<F>
where
    F: Future<Output = Result<Heartbeat<S, C>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Heartbeat<S, C>, ReconnectError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.inner.poll(cx)) {
            Ok(connection) => {
                record::keep(this.record, connection.handle());
                Ok(connection)
            }
            Err(error) => Err(record::fail(this.record, error.into())),
        })
    }
}

impl<F> fmt::Debug for ConnectFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectFuture").finish_non_exhaustive()
    }
}
