//! Why there is no connection.

use std::{error::Error as StdError, fmt};

use crate::error::{BoxError, HeartbeatError};

/// Why no connection came about, and how the last one had ended. No request was sent.
///
/// Its [`source`](StdError::source) is the end of the last connection if it ended otherwise than in good order on this side, so
/// that [`HeartbeatError::find`] finds it; else the error of the attempt.
#[derive(Debug)]
pub struct ReconnectError {
    error: BoxError,
    death: Option<HeartbeatError>,
}

impl ReconnectError {
    pub(super) fn new(error: BoxError, death: Option<HeartbeatError>) -> Self {
        ReconnectError { error, death }
    }

    /// Returns how the last connection ended; `None` if there was none, or if it ended in good order on this side.
    #[must_use]
    pub fn death(&self) -> Option<&HeartbeatError> {
        self.death.as_ref()
    }

    /// Returns why this attempt to connect failed.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.error
    }
}

impl fmt::Display for ReconnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.death {
            // What is no source is to be said here.
            Some(_) => write!(f, "cannot reconnect: {}", self.error),
            None => f.write_str("cannot connect"),
        }
    }
}

impl StdError for ReconnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.death {
            Some(death) => Some(death),
            None => Some(&*self.error),
        }
    }
}
