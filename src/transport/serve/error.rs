//! Why a connection is served no more.

use std::{error::Error as StdError, fmt};

use crate::error::{BoxError, HeartbeatError};

/// What ended a [`Serve`](super::Serve): `R` and `W` are the transport's errors, `S` is the service's.
///
/// As [`Error`](crate::Error), it is no [`std::error::Error`], but converts into a [`BoxError`] by unwrapping itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError<R, W, S> {
    /// The heartbeat ended the connection: a limit ran out, or it was closed on this side.
    Heartbeat(HeartbeatError),
    /// Reading from the transport failed.
    Read(R),
    /// Writing to the transport failed.
    Write(W),
    /// The service failed. What the peer should be told of is an answer, and not an error.
    Service(S),
}

impl<R, W, S> ServeError<R, W, S> {
    /// Returns the heartbeat's own error, if it is one.
    #[must_use]
    pub fn heartbeat(&self) -> Option<&HeartbeatError> {
        match self {
            ServeError::Heartbeat(error) => Some(error),
            ServeError::Read(_) | ServeError::Write(_) | ServeError::Service(_) => None,
        }
    }
}

impl<R, W, S> fmt::Display for ServeError<R, W, S>
where
    R: fmt::Display,
    W: fmt::Display,
    S: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Heartbeat(error) => error.fmt(f),
            ServeError::Read(error) => error.fmt(f),
            ServeError::Write(error) => error.fmt(f),
            ServeError::Service(error) => error.fmt(f),
        }
    }
}

impl<R, W, S> From<ServeError<R, W, S>> for BoxError
where
    R: Into<BoxError>,
    W: Into<BoxError>,
    S: Into<BoxError>,
{
    fn from(error: ServeError<R, W, S>) -> Self {
        match error {
            ServeError::Heartbeat(error) => error.into(),
            ServeError::Read(error) => error.into(),
            ServeError::Write(error) => error.into(),
            ServeError::Service(error) => error.into(),
        }
    }
}

impl<R, W, S> From<ServeError<R, W, S>> for Box<dyn StdError>
where
    R: Into<BoxError>,
    W: Into<BoxError>,
    S: Into<BoxError>,
{
    fn from(error: ServeError<R, W, S>) -> Self {
        BoxError::from(error)
    }
}
