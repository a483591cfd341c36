//! Questions that only a living peer answers, and where they come from.
//!
//! | source | the ping | for |
//! |---|---|---|
//! | [`request`] | a request through the wrapped service, on a clone of its own | request-response protocols |
//! | [`service_fn`] | whatever a closure does with a ready clone of the service | several steps, unusual requests |
//! | [`out_of_band`], [`from_service`] | a handle of the protocol's own | protocols with a ping frame |
//! | [`none`] | no pings | idle and quiet limits only |
//!
//! A ping has two phases: it is *brought out* on this side (bounded by `ready_timeout`), then the
//! pong is awaited (`pong_timeout`, `max_missed`). A ping that is stuck behind this side's own
//! queue is not a dead peer.

mod clone;
mod out_of_band;
mod request;

use std::{fmt, sync::Arc};

pub use clone::{ServiceFn, ServiceFnPing, service_fn};
pub use out_of_band::{
    FromFn, FromService, NoPing, NoPings, OutOfBand, from_fn, from_service, none, out_of_band,
};
pub use request::{AnyResponse, Check, CheckFn, Pong, Request, RequestPing, request};

use std::{
    error::Error as StdError,
    task::{Context, Poll},
};

use crate::error::{BoxError, panic_message};

/// One connection's pings, of which one at a time is out.
///
/// The driver calls in this order: [`poll_ready`](Ping::poll_ready) until it is ready,
/// [`ping`](Ping::ping) once, then it polls the pong to its end; or, before the ping is out,
/// [`call_off`](Ping::call_off). Dropping the value cancels whatever is under way.
pub trait Ping {
    /// Waits for the answer. It never has to resolve: the pong wait bounds it.
    type Pong: Future<Output = Result<(), PingError>>;

    /// Waits until a ping can go out at once.
    ///
    /// # Errors
    ///
    /// If no ping can ever go out again. The connection ends with
    /// [`Failure::PingFailed`](crate::Failure::PingFailed).
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>>;

    /// Sends the ping. The pong wait begins when the returned future has first been polled.
    ///
    /// An error of the future ends the connection with
    /// [`Failure::PingFailed`](crate::Failure::PingFailed).
    fn ping(&mut self) -> Self::Pong;

    /// Gives up the ping that is not out yet, and whatever `poll_ready` acquired for it.
    fn call_off(&mut self) {}
}

/// Attaches pings to the service of a new connection.
pub trait PingSource<S> {
    /// The pings of one connection.
    type Ping: Ping;

    /// Returns the pings for `service`, or `None` if this connection isn't to be pinged.
    ///
    /// They must not keep more of the connection alive than a clone of the service does: the
    /// driver drops them as soon as its last user is gone.
    fn attach(&self, service: &S) -> Option<Self::Ping>;
}

/// Why a ping, or its answer, was no sign of life.
#[derive(Clone)]
pub struct PingError {
    source: Arc<dyn StdError + Send + Sync>,
}

impl PingError {
    /// Creates the error; [`HeartbeatError`](crate::HeartbeatError)'s `source` returns `source`.
    #[must_use]
    pub fn new(source: impl Into<BoxError>) -> Self {
        PingError {
            source: Arc::from(source.into()),
        }
    }

    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        PingError::new(PingPanicked {
            message: panic_message(panic).into(),
        })
    }

    pub(crate) fn into_source(self) -> Arc<dyn StdError + Send + Sync> {
        self.source
    }
}

impl<E> From<E> for PingError
where
    E: Into<BoxError>,
{
    fn from(source: E) -> Self {
        PingError::new(source)
    }
}

impl fmt::Debug for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PingError").field(&self.source).finish()
    }
}

impl fmt::Display for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// The code of a ping panicked. The source of a [`Failure::PingFailed`](crate::Failure::PingFailed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingPanicked {
    message: String,
}

impl PingPanicked {
    /// Returns the panic's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for PingPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ping panicked: {}", self.message)
    }
}

impl StdError for PingPanicked {}
