//! What a caller sees when a connection has ended: which limit, how far the request had got.

use std::{
    any::Any, error::Error as StdError, fmt, io, iter::successors, sync::Arc, time::Duration,
};

/// A boxed error, as tower's middleware passes it on.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The error of a [`Heartbeat`](crate::Heartbeat) service: its own verdict, or the inner
/// service's error as it was.
///
/// This is deliberately *not* a [`std::error::Error`]: it converts into [`BoxError`] by
/// unwrapping itself, so that a layer above finds either a [`HeartbeatError`] or the inner
/// service's own error in the box, and nothing around them. A caller that names the type
/// matches without a downcast.
///
/// ```
/// use tower_heartbeat::{BoxError, Error, Failure, HeartbeatError, Stage};
///
/// let error: Error<std::io::Error> =
///     Error::Heartbeat(HeartbeatError::new(Failure::PongTimeout, Stage::NotSent));
/// assert!(matches!(&error, Error::Heartbeat(e) if e.failure() == Failure::PongTimeout));
///
/// let boxed: BoxError = error.into();
/// assert!(boxed.is::<HeartbeatError>());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// The connection has ended, by a limit of the heartbeat or under its eyes.
    Heartbeat(HeartbeatError),
    /// The inner service's error, on a connection that the heartbeat has not ended.
    Inner(E),
}

impl<E> Error<E> {
    /// Returns the heartbeat's own error, if it is one.
    #[must_use]
    pub fn heartbeat(&self) -> Option<&HeartbeatError> {
        match self {
            Error::Heartbeat(error) => Some(error),
            Error::Inner(_) => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Heartbeat(error) => error.fmt(f),
            Error::Inner(error) => error.fmt(f),
        }
    }
}

impl<E> From<HeartbeatError> for Error<E> {
    fn from(error: HeartbeatError) -> Self {
        Error::Heartbeat(error)
    }
}

impl<E> From<Error<E>> for BoxError
where
    E: Into<BoxError>,
{
    fn from(error: Error<E>) -> Self {
        match error {
            Error::Heartbeat(error) => error.into(),
            Error::Inner(error) => error.into(),
        }
    }
}

impl<E> From<Error<E>> for Box<dyn StdError>
where
    E: Into<BoxError>,
{
    fn from(error: Error<E>) -> Self {
        BoxError::from(error)
    }
}

/// What ended a connection, or left a ping without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// A ping was out and nothing was heard for `max_missed` pong waits.
    PongTimeout,
    /// A ping was answered by an error, by an answer that its check refused, or its code panicked.
    /// [`source`](std::error::Error::source) has the reason.
    PingFailed,
    /// A ping could not be sent for `ready_timeout`, and nothing was heard meanwhile. The
    /// connection is stuck on *this* side: a full queue, a limit, flow control.
    PingBlocked,
    /// No request was in flight for `idle_timeout`; from the `io` module, no byte moved for so long.
    IdleTimeout,
    /// A request was in flight and nothing was heard for `quiet_timeout`; from the `io` module, a
    /// read waited for `read_timeout`.
    #[doc(alias = "QuietTimeout")]
    ReadTimeout,
    /// A write made no progress for its limit, the `io` module's `write_timeout`.
    WriteTimeout,
    /// The connection reached its greatest age. For transports with such a limit; none here yet.
    MaxAge,
    /// The transport ended by itself; [`source`](std::error::Error::source) has its error, if it had one.
    Transport,
    /// A pong came that answers no ping, and the `transport` module's `strict_pongs` forbids that.
    UnexpectedPong,
    /// The task that runs the heartbeat is gone (its runtime shut down, say), so nobody watches
    /// the connection any more.
    MonitorGone,
    /// The peer ended the connection because it was pinged too often (HTTP/2: GOAWAY
    /// `ENHANCE_YOUR_CALM`, "too_many_pings"). [`source`](std::error::Error::source) has its word.
    TooManyPings,
    /// The peer pinged more often than this side's `PingPolicy` permits, and was sent off. What it is told over HTTP/2,
    /// it may know as [`TooManyPings`](Failure::TooManyPings).
    PingFlood,
    /// The connection was closed on this side: by [`Handle::close`](crate::Handle::close), or
    /// because its last user was dropped.
    Closed,
    /// The connection has no way to ping its peer: its source has none
    /// ([`ping::none`](crate::ping::none), say), or a ping said so
    /// ([`PingError::unsupported`](crate::ping::PingError::unsupported)). Only an answer to
    /// [`Handle::ping_now`](crate::Handle::ping_now); it ends no connection.
    Unsupported,
}

impl Failure {
    /// Whether a connection that ended so may still close in good order.
    #[cfg(any(feature = "hyper", feature = "transport"))]
    pub(crate) fn allows_goodbye(self) -> bool {
        matches!(self, Failure::IdleTimeout | Failure::Closed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::PongTimeout => "peer did not answer a ping",
            Failure::PingFailed => "ping failed",
            Failure::PingBlocked => "ping could not be sent",
            Failure::IdleTimeout => "connection was idle for too long",
            Failure::ReadTimeout => "peer was quiet for too long while a request was in flight",
            Failure::WriteTimeout => "write made no progress",
            Failure::MaxAge => "connection reached its greatest age",
            Failure::Transport => "transport ended",
            Failure::UnexpectedPong => "peer sent a pong that answers no ping",
            Failure::MonitorGone => "task that watches the connection is gone",
            Failure::TooManyPings => "peer was pinged too often",
            Failure::PingFlood => "peer pinged too often",
            Failure::Closed => "connection was closed on this side",
            Failure::Unsupported => "peer cannot be pinged",
        })
    }
}

/// How far a request had got when its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The inner service never got the request, or the peer said that it did not take it: sending
    /// it again is safe. Also of errors that answer no request, such as
    /// [`Handle::error`](crate::Handle::error)'s.
    NotSent,
    /// The inner service had the request and had not answered: the peer may have acted on it.
    AwaitingResponse,
    /// The response had begun and its body was not complete.
    Streaming,
}

/// Why a connection ended, with the figures of that moment.
///
/// Cheap to clone: all users of one connection share one cause, each with its own [`Stage`].
#[derive(Clone)]
pub struct HeartbeatError {
    cause: Arc<Cause>,
    stage: Stage,
}

/// What all users of an ended connection are told.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) failure: Failure,
    pub(crate) waited: Duration,
    pub(crate) missed: u32,
    pub(crate) quiet_for: Duration,
    pub(crate) smoothed_rtt: Option<Duration>,
    pub(crate) source: Option<Arc<dyn StdError + Send + Sync>>,
    /// Whether the figures are the machine's; others are filled in when the connection ends.
    pub(crate) by_machine: bool,
}

impl Cause {
    pub(crate) fn new(failure: Failure) -> Cause {
        Cause {
            failure,
            waited: Duration::ZERO,
            missed: 0,
            quiet_for: Duration::ZERO,
            smoothed_rtt: None,
            source: None,
            by_machine: false,
        }
    }
}

impl HeartbeatError {
    /// Creates an error with all figures zero, for the tests of code that handles one.
    ///
    /// ```
    /// use tower_heartbeat::{Failure, HeartbeatError, Stage};
    ///
    /// let error = HeartbeatError::new(Failure::PongTimeout, Stage::AwaitingResponse);
    /// assert_eq!(error.failure(), Failure::PongTimeout);
    /// assert_eq!(error.stage(), Stage::AwaitingResponse);
    /// ```
    #[must_use]
    pub fn new(failure: Failure, stage: Stage) -> Self {
        Self::shared(Arc::new(Cause::new(failure)), stage)
    }

    /// Adds the error that led to this one; [`source`](std::error::Error::source) returns it.
    #[must_use]
    pub fn caused_by(self, source: impl Into<BoxError>) -> Self {
        let cause = Cause {
            source: Some(Arc::from(source.into())),
            ..(*self.cause).clone()
        };
        Self::shared(Arc::new(cause), self.stage)
    }

    pub(crate) fn shared(cause: Arc<Cause>, stage: Stage) -> Self {
        HeartbeatError { cause, stage }
    }

    #[cfg(any(feature = "h2-io", feature = "hyper", feature = "transport"))]
    pub(crate) fn at(self, stage: Stage) -> Self {
        HeartbeatError { stage, ..self }
    }

    /// Finds the heartbeat's error in `error` or in what caused it.
    ///
    /// It follows [`source`](std::error::Error::source) and also looks into [`io::Error`], whose
    /// own `source` skips the error that it carries.
    ///
    /// ```
    /// use std::io;
    /// use tower_heartbeat::{Failure, HeartbeatError, Stage};
    ///
    /// let io = io::Error::other(HeartbeatError::new(Failure::IdleTimeout, Stage::NotSent));
    /// let found = HeartbeatError::find(&io).expect("it is in there");
    /// assert_eq!(found.failure(), Failure::IdleTimeout);
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a HeartbeatError> {
        chain(error).find_map(|error| error.downcast_ref())
    }

    /// Returns what ended the connection.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.cause.failure
    }

    /// Returns how far the request had got that this error answers; [`Stage::NotSent`] where there was none.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns how long the limit ran that ended the connection: from the ping's sending for
    /// [`Failure::PongTimeout`], from the moment it was due for [`Failure::PingBlocked`], from
    /// the start of the quiet or idle time for the other limits. Zero where no limit ran.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.cause.waited
    }

    /// Returns how many pong waits in a row had passed without a sign of life.
    #[must_use]
    pub fn missed(&self) -> u32 {
        self.cause.missed
    }

    /// Returns how long nothing had been heard from the peer when the connection ended.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        self.cause.quiet_for
    }

    /// Returns the smoothed round-trip time of the pings so far (RFC 6298's SRTT), `None` before the first pong.
    #[must_use]
    #[doc(alias = "srtt")]
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.cause.smoothed_rtt
    }
}

impl fmt::Debug for HeartbeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = &*self.cause;
        f.debug_struct("HeartbeatError")
            .field("failure", &cause.failure)
            .field("stage", &self.stage)
            .field("waited", &cause.waited)
            .field("missed", &cause.missed)
            .field("quiet_for", &cause.quiet_for)
            .field("smoothed_rtt", &cause.smoothed_rtt)
            .field("source", &cause.source)
            .finish()
    }
}

impl fmt::Display for HeartbeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = &*self.cause;
        cause.failure.fmt(f)?;
        if cause.waited > Duration::ZERO {
            write!(f, " (waited {:.3?}", cause.waited)?;
            if cause.missed > 0 {
                write!(f, ", missed {}", cause.missed)?;
            }
            write!(f, "; nothing heard for {:.3?})", cause.quiet_for)?;
        }
        match self.stage {
            Stage::NotSent => Ok(()),
            Stage::AwaitingResponse => f.write_str("; the request awaited its response"),
            Stage::Streaming => f.write_str("; the response was streaming"),
        }
    }
}

impl StdError for HeartbeatError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// The error, what caused it, and so on; also what an [`io::Error`] carries.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(|e| e.get_ref()) {
            Some(payload) => Some(payload),
            None => error.source(),
        }
    })
}

/// The message of a panic, as far as it has one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(message) = panic.downcast_ref::<&str>() {
        message
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message
    } else {
        "no message"
    }
}
