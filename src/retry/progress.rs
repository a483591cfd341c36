//! What an error says about the request that it answers.

use std::{any::Any, error::Error as StdError};

#[cfg(feature = "hyper")]
use crate::hyper::http2::{ConnectError, SendError};
#[cfg(feature = "transport")]
use crate::mux::{self, MuxError};
use crate::{
    error::{BoxError, Error, HeartbeatError, Stage, chain},
    ready_limit::NotReady,
    reconnect::ReconnectError,
};

/// Tells how far the request had got that an error answers.
///
/// Implemented for [`Error`] and [`BoxError`], so for all stacks of tower's layers; implement it for an
/// error of your own that has one of these in it.
pub trait Progress {
    /// Returns how far the request had got; `None` if nothing is known of it, because the error is somebody else's.
    fn progress(&self) -> Option<Stage>;
}

impl Progress for HeartbeatError {
    fn progress(&self) -> Option<Stage> {
        Some(self.stage())
    }
}

impl<E> Progress for Error<E>
where
    E: 'static,
{
    fn progress(&self) -> Option<Stage> {
        match self {
            Error::Heartbeat(error) => Some(error.stage()),
            Error::Inner(error) => inner(error),
        }
    }
}

impl Progress for BoxError {
    fn progress(&self) -> Option<Stage> {
        found(&**self)
    }
}

/// `E` is any type, and a [`BoxError`] is no [`StdError`].
fn inner(error: &dyn Any) -> Option<Stage> {
    if let Some(error) = error.downcast_ref::<BoxError>() {
        return found(&**error);
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<SendError>() {
        return found(error);
    }
    #[cfg(feature = "transport")]
    if let Some(error) = error.downcast_ref::<MuxError>() {
        return found(error);
    }
    None
}

/// The outermost that knows decides: what caused it was about another request, a ping or an IO.
fn found(error: &(dyn StdError + 'static)) -> Option<Stage> {
    for error in chain(error) {
        if let Some(error) = error.downcast_ref::<HeartbeatError>() {
            return Some(error.stage());
        }
        if came_to_no_connection(error) {
            return Some(Stage::NotSent);
        }
        // The request's own body failed, of which a part may be out. Its reason is about something else.
        #[cfg(feature = "hyper")]
        if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_user)
        {
            return None;
        }
    }
    None
}

fn came_to_no_connection(error: &(dyn StdError + 'static)) -> bool {
    #[cfg(feature = "hyper")]
    if error.is::<ConnectError>() {
        return true;
    }
    #[cfg(feature = "transport")]
    if error.is::<mux::ConnectError>() {
        return true;
    }
    error.is::<ReconnectError>() || error.is::<NotReady>()
}
