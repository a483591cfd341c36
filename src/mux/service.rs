//! A connection of messages as a tower service.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::PollSemaphore;
use tower_service::Service;

use super::{
    error::MuxError,
    shared::{Asker, Call, Shared, Users},
};
use crate::error::{Failure, HeartbeatError, Stage};

/// One connection of messages as a service: it sends a request, and its future is the answer. Made by
/// [`Builder::pair`](super::Builder::pair) or [`Connect`](super::Connect).
///
/// It is ready when there is room for one more request, in the queue to the transport and among those in flight. Whoever was told
/// so keeps that place until `call`, or until it is dropped; whoever was told to wait keeps its turn as well, and with it
/// the next place that gets free.
///
/// # Clone
///
/// Clones share the connection, which closes in good order when the last of them and of their
/// responses is dropped. A clone is not ready.
pub struct Mux<M> {
    users: Arc<Users<M>>,
    queue: PollSemaphore,
    in_flight: PollSemaphore,
    queued: Option<OwnedSemaphorePermit>,
    place: Option<OwnedSemaphorePermit>,
}

impl<M> Mux<M> {
    pub(super) fn new(users: Arc<Users<M>>) -> Self {
        let shared = users.shared();
        Mux {
            queue: PollSemaphore::new(Arc::clone(&shared.queue)),
            in_flight: PollSemaphore::new(Arc::clone(&shared.in_flight)),
            queued: None,
            place: None,
            users,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.users.shared()
    }
}

impl<M> Service<M> for Mux<M> {
    type Response = M;
    type Error = MuxError;
    type Future = ResponseFuture<M>;

    /// Waits for room, and keeps it.
    ///
    /// # Errors
    ///
    /// [`MuxError::Refused`] once the connection takes no more requests; final.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MuxError>> {
        if self.place.is_none() {
            self.place = ready!(self.in_flight.poll_acquire(cx));
        }
        if self.queued.is_none() {
            self.queued = ready!(self.queue.poll_acquire(cx));
        }
        match self.shared().refusal() {
            Some(refusal) => Poll::Ready(Err(refusal)),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Hands `request` to the task that runs the connection.
    ///
    /// # Panics
    ///
    /// If it was not told ready before.
    fn call(&mut self, request: M) -> ResponseFuture<M> {
        let queued = self.queued.take();
        let queued = queued.expect("`poll_ready` was not called, or did not say ready");
        let place = self.place.take();
        let (kept_by_request, kept_by_caller) = if self.shared().in_order {
            (place, None)
        } else {
            (None, place)
        };
        let (answer, awaited) = oneshot::channel();
        self.users.call(Call {
            request,
            asker: Asker {
                answer,
                _place: kept_by_request,
            },
            queued,
        });
        ResponseFuture {
            awaited,
            place: kept_by_caller,
            users: Arc::clone(&self.users),
        }
    }
}

impl<M> Clone for Mux<M> {
    fn clone(&self) -> Self {
        Mux::new(Arc::clone(&self.users))
    }
}

impl<M> fmt::Debug for Mux<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux")
            .field("ended", &self.shared().ended())
            .finish_non_exhaustive()
    }
}

/// The answer to a request of a [`Mux`].
///
/// # Cancel safety
///
/// A request whose future is dropped before the transport has it is never sent. Later its answer is
/// dropped when it comes. By id its place among those in flight is free at once, and only its id is not; in order it is kept until
/// then, since the next answer would otherwise be taken for another's.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<M> {
    // Dropped before the user: whoever looks after the last one finds nobody waiting.
    awaited: oneshot::Receiver<Result<M, MuxError>>,
    place: Option<OwnedSemaphorePermit>,
    users: Arc<Users<M>>,
}

impl<M> Future for ResponseFuture<M> {
    type Output = Result<M, MuxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let told = ready!(Pin::new(&mut self.awaited).poll(cx));
        self.place = None;
        Poll::Ready(told.unwrap_or_else(|_| {
            // Foreign code panicked with the request in its hands, and the end may not be known yet.
            let stage = Stage::AwaitingResponse;
            let error = match self.users.shared().ended() {
                Some(error) => error.clone().at(stage),
                None => HeartbeatError::new(Failure::Transport, stage),
            };
            Err(MuxError::GivenUp(error))
        }))
    }
}

impl<M> fmt::Debug for ResponseFuture<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
