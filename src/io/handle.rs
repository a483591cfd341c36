//! What a limited IO and those who look at it share.

use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
};

use crate::{
    error::{Cause, Failure, HeartbeatError, Stage},
    lanes::Lanes,
};

/// A handle to a connection with [`Limits`](super::Limits): it keeps nothing alive, and outlives it.
///
/// From [`LimitedIo::handle`](super::LimitedIo::handle), or, below hyper-util's legacy `Client`, from the
/// extensions of each response.
#[derive(Clone)]
pub struct IoHandle {
    shared: Arc<Shared>,
}

impl IoHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        IoHandle { shared }
    }

    /// Returns why the connection has ended: the limit that failed it, or
    /// [`Failure::Closed`] once it was closed or dropped on this side. `None` before; the end of
    /// the stream and errors of the inner IO count only when its user has dropped it for them.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.shared.ended.get().map(HeartbeatError::failure)
    }

    /// Returns the error with all its figures, as [`failure`](IoHandle::failure) but whole.
    #[must_use]
    pub fn error(&self) -> Option<HeartbeatError> {
        self.shared.ended.get().cloned()
    }

    /// Fails the connection with [`Failure::Closed`]: a read or write that is pending, and all later
    /// ones. Does nothing if it has ended.
    pub fn close(&self) {
        self.shared.end(Cause::new(Failure::Closed));
    }
}

impl fmt::Debug for IoHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoHandle")
            .field("failure", &self.failure())
            .finish()
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) lanes: Lanes,
    pub(super) wrote: AtomicBool,
    ended: OnceLock<HeartbeatError>,
}

impl Shared {
    pub(super) fn end(&self, cause: Cause) {
        // Bytes don't tell how far a request had got: with any written, one may be on its way.
        let stage = if self.wrote.load(Ordering::Relaxed) {
            Stage::AwaitingResponse
        } else {
            Stage::NotSent
        };
        let error = HeartbeatError::shared(Arc::new(cause), stage);
        if self.ended.set(error).is_ok() {
            self.lanes.wake();
        }
    }

    pub(super) fn failed(&self) -> Option<io::Error> {
        let error = self.ended.get()?;
        let kind = match error.failure() {
            Failure::Closed => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::TimedOut,
        };
        Some(io::Error::new(kind, error.clone()))
    }
}

/// The timer's waker: what is due may be either lane's to tell.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.lanes.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.lanes.wake();
    }
}
