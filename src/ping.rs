//! Questions that only a living peer answers, and where they come from.
//!
//! | source | the ping | for |
//! |---|---|---|
//! | [`request`] | a request through the wrapped service, on a clone of its own | request-response protocols |
//! | [`with_service`] | whatever a closure does with a ready clone of the service | several steps, unusual requests |
//! | [`out_of_band`], [`from_service`] | a handle of the protocol's own | protocols with a ping frame |
//! | [`none`] | no pings | idle and quiet limits only |
//!
//! A ping has two phases: it is *brought out* on this side (bounded by `ready_timeout`), then the
//! pong is awaited (`pong_timeout`, `max_missed`). A ping that is stuck behind this side's own
//! queue is not a dead peer.
//!
//! # A peer that works on few requests at a time
//!
//! A ping that is a request takes one of the peer's places for requests. Over HTTP/2 the peer says
//! how many it has (`SETTINGS_MAX_CONCURRENT_STREAMS`, usually 100 or more), and the transport lets every
//! further request wait in a queue of its own, unseen: it is always ready. A ping among those
//! counts as sent, so that slow requests in all places look like a dead peer. Tell the source how many there
//! are where that can happen: `max_concurrent_requests` of [`request`], [`with_service`], `http::head` and
//! `tonic::health`, [`Ping::max_concurrent_requests`] of one's own. While so many are in flight (which
//! takes a layer that counts them to the end of their bodies, `http::CompleteOnBody`), no ping is made, and only
//! [`quiet_timeout`](crate::ConfigBuilder::quiet_timeout) watches the peer. Where the transport does not take
//! a request before it can go out, [`PingWhen::NotBusy`](crate::PingWhen::NotBusy) does the same for one
//! place (HTTP/1).

mod out_of_band;
mod request;
mod with_service;

use std::{
    any::Any,
    error::Error as StdError,
    fmt,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pub use out_of_band::{
    FnPing, FromServiceSource, NonePing, NoneSource, OutOfBandSource, from_fn, from_service, none,
    out_of_band,
};
pub use request::{AnyResponse, Check, CheckFn, RequestPing, RequestPong, RequestSource, request};
pub use with_service::{ServicePing, ServiceSource, with_service};

use crate::error::{BoxError, panic_message};

/// One connection's pings, of which one at a time is out.
///
/// The driver calls in this order: [`poll_ready`](Ping::poll_ready) until it is ready,
/// [`ping`](Ping::ping) once, then it polls the pong to its end; or, before the ping is out,
/// [`call_off`](Ping::call_off). Dropping the value cancels whatever is under way.
///
/// A panic in any of them fails the ping with [`PingPanicked`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no ping",
    note = "`ping::from_fn` makes one of a closure whose futures return `Result<(), E>`"
)]
pub trait Ping {
    /// Waits for the answer. It never has to resolve: the pong wait bounds it.
    type Pong: Future<Output = Result<(), PingError>>;

    /// Waits until a ping can go out at once.
    ///
    /// # Errors
    ///
    /// If no ping can ever go out again. The connection ends with
    /// [`Failure::PingFailed`](crate::Failure::PingFailed), but for a [`PingError::unsupported`], with
    /// which it goes on without pings.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>>;

    /// Sends the ping. The pong wait begins when the returned future has first been polled.
    ///
    /// An error of the future ends the connection with
    /// [`Failure::PingFailed`](crate::Failure::PingFailed), but for a [`PingError::unsupported`], with
    /// which it goes on without pings.
    fn ping(&mut self) -> Self::Pong;

    /// Gives up the ping that is not out yet, and whatever `poll_ready` acquired for it.
    ///
    /// The pong of a ping that was made, and found to stand behind
    /// [too many requests](Ping::max_concurrent_requests), is dropped before.
    fn call_off(&mut self) {}

    /// Returns how many requests the peer works on at a time, if a ping counts among them and would
    /// otherwise wait behind them unseen: in a transport that is always ready and queues (HTTP/2
    /// does, beyond the peer's `SETTINGS_MAX_CONCURRENT_STREAMS`), it would count as sent, and slow
    /// requests would look like a dead peer.
    ///
    /// With that many in flight, no ping is made, not even one that somebody waits for; the next one
    /// comes when there is room. It is asked at each look at the connection, so it has to be quick, and
    /// may change. Default: `None`, a ping never waits behind requests.
    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        None
    }
}

/// Attaches pings to the service of a new connection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of pings for `{S}`",
    note = "a `Ping` becomes a source with `ping::out_of_band`",
    note = "`ping::request` and `ping::with_service` need a service that is `Clone`; `ShareLayer` makes it so"
)]
pub trait PingSource<S> {
    /// The pings of one connection.
    type Ping: Ping;

    /// Returns the pings for `service`, or `None` if this connection isn't to be pinged.
    ///
    /// They must not keep more of the connection alive than a clone of the service does: the
    /// driver drops them as soon as its last user is gone.
    fn attach(&self, service: &S) -> Option<Self::Ping>;
}

/// Why a ping, or its answer, was no pong.
///
/// It ends the connection with [`Failure::PingFailed`](crate::Failure::PingFailed), unless it is
/// [`unsupported`](PingError::unsupported).
///
/// Anything that converts into a [`BoxError`] converts into it; for that it is not an
/// [`Error`](std::error::Error) itself.
#[derive(Clone)]
pub struct PingError {
    source: Arc<dyn StdError + Send + Sync>,
    unsupported: bool,
}

impl PingError {
    /// Creates the error; [`HeartbeatError`](crate::HeartbeatError)'s `source` returns `source`.
    #[must_use]
    pub fn new(source: impl Into<BoxError>) -> Self {
        PingError {
            source: Arc::from(source.into()),
            unsupported: false,
        }
    }

    /// Creates an error that says that this peer cannot be pinged, because of `source`.
    ///
    /// It ends no connection. Pings stop for good, `idle_timeout` and `quiet_timeout` go on, calls that
    /// waited for a pong are let through, and a `tracing` event says so (`peer cannot be pinged`); so do
    /// [`Handle::can_ping`](crate::Handle::can_ping) and, to
    /// [`Handle::ping_now`](crate::Handle::ping_now), [`Failure::Unsupported`](crate::Failure::Unsupported).
    ///
    /// As the outcome of a ping that went out it is the peer's answer, and a sign of life; as
    /// that of [`Ping::poll_ready`] it is none.
    ///
    /// ```
    /// use tower_heartbeat::{Config, HeartbeatLayer, ping::{self, PingError}};
    ///
    /// let ping = ping::request(|| "PING").check(|answer: String| async move {
    ///     match answer.as_str() {
    ///         "PONG" => Ok(()),
    ///         "unknown command" => Err(PingError::unsupported("it has no PING")),
    ///         _ => Err(PingError::new("not a PONG")),
    ///     }
    /// });
    /// let layer = HeartbeatLayer::new(Config::default(), ping);
    /// # let _: HeartbeatLayer<_> = layer;
    /// ```
    #[must_use]
    pub fn unsupported(source: impl Into<BoxError>) -> Self {
        PingError {
            unsupported: true,
            ..PingError::new(source)
        }
    }

    /// Returns whether it says that this peer cannot be pinged.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.unsupported
    }

    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
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
        f.debug_struct("PingError")
            .field("source", &self.source)
            .field("unsupported", &self.unsupported)
            .finish()
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

pin_project! {
    /// The future of a closure, its error as a [`PingError`].
    pub struct FnPong<Fut> {
        #[pin]
        future: Fut,
    }
}

impl<Fut> FnPong<Fut> {
    fn new(future: Fut) -> Self {
        FnPong { future }
    }
}

impl<Fut, E> Future for FnPong<Fut>
where
    Fut: Future<Output = Result<(), E>>,
    E: Into<PingError>,
{
    type Output = Result<(), PingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(Into::into)
    }
}

impl<Fut> fmt::Debug for FnPong<Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnPong").finish_non_exhaustive()
    }
}
