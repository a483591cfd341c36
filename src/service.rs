//! The service around a connection.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    completion::{CompleteOnResponse, TrackCompletion},
    error::{Error, HeartbeatError},
    future::ResponseFuture,
    handle::Handle,
    link::{Link, Users, status},
    wakers::Key,
};

/// A connection-level service with a heartbeat beside its traffic. Made by
/// [`HeartbeatLayer`](crate::HeartbeatLayer).
///
/// `poll_ready` and calls in flight fail with [`Error::Heartbeat`] once the connection has ended;
/// the inner service's own errors come through as [`Error::Inner`].
///
/// # Clone
///
/// All clones are users of one connection and share its heartbeat. It ends when the last of them,
/// and of the responses made through them, is dropped. A clone is not ready, and can only be made
/// where the inner service can be cloned.
pub struct Heartbeat<S, C = CompleteOnResponse> {
    // Dropped first: when the last user goes, the driver finds the service gone already.
    inner: S,
    seat: Seat,
    completion: C,
    /// An instance that was told `Ready` stays ready until `call`, whatever is held back.
    told_ready: bool,
}

/// One user's share of the connection, and its place among those who wait.
struct Seat {
    users: Arc<Users>,
    waiting: Key,
}

impl Seat {
    fn new(users: Arc<Users>) -> Seat {
        Seat {
            users,
            waiting: Key::NONE,
        }
    }

    #[inline]
    fn link(&self) -> &Arc<Link> {
        &self.users.link
    }

    fn wait(&mut self, cx: &Context<'_>) {
        self.users.link.wait(&mut self.waiting, cx);
    }

    #[inline]
    fn stop_waiting(&mut self) {
        if !self.waiting.is_none() {
            self.users.link.stop_waiting(&mut self.waiting);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

impl<S, C> Heartbeat<S, C> {
    pub(crate) fn new(inner: S, users: Arc<Users>, completion: C) -> Self {
        Heartbeat {
            inner,
            seat: Seat::new(users),
            completion,
            told_ready: false,
        }
    }

    /// Returns a handle to look at the connection and to close it. It doesn't keep it alive.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(self.seat.link()))
    }

    /// Returns whether new calls may still be taken: neither ended nor closing, nor held back
    /// because the peer is suspect (with `suspect_after`, or while verification misses its pong).
    /// For pools that choose what to keep or hand out.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.seat.link().takes_calls()
    }

    /// Forgets that it was told `Ready`, for a caller that puts up with that: what is held back is
    /// held back at the next poll.
    #[cfg(feature = "balance")]
    pub(crate) fn recall(&mut self) {
        self.told_ready = false;
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. What is sent through it is neither
    /// counted nor watched.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Holds a call back, or turns it away, on a connection that isn't simply open.
    #[cold]
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HeartbeatError>> {
        loop {
            let status = self.seat.link().status();
            if status >= status::LEAVING {
                return Poll::Ready(Err(self.seat.link().refusal()));
            }
            if status == status::UNLAUNCHED {
                self.seat.users.launch();
                continue;
            }
            if status == status::OPEN || self.told_ready {
                return Poll::Ready(Ok(()));
            }
            self.seat.wait(cx);
            // Once registered, a look that finds nothing new can't have missed a wake-up.
            if self.seat.link().status() == status {
                if status == status::UNVERIFIED {
                    self.seat.link().want_ping();
                }
                return Poll::Pending;
            }
        }
    }
}

impl<S, C, Request> Service<Request> for Heartbeat<S, C>
where
    S: Service<Request>,
    C: TrackCompletion<S::Response>,
{
    type Response = C::Output;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future, C>;

    /// Becomes ready when the inner service is, unless the heartbeat holds calls back.
    ///
    /// # Errors
    ///
    /// [`Error::Heartbeat`] once the connection has ended or is closing; final. That includes
    /// [`Failure::MonitorGone`](crate::Failure::MonitorGone) if the first poll is outside of a
    /// tokio runtime, where nobody could watch the connection. Otherwise what the inner service's
    /// `poll_ready` says, as [`Error::Inner`].
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.seat.link().status() != status::OPEN {
            match self.poll_held(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Heartbeat(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                self.told_ready = true;
                self.seat.stop_waiting();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                let link = self.seat.link();
                Poll::Ready(Err(if link.status() >= status::LEAVING {
                    Error::Heartbeat(link.refusal())
                } else {
                    link.break_off();
                    Error::Inner(error)
                }))
            }
            Poll::Pending => {
                self.seat.wait(cx);
                let link = self.seat.link();
                if link.status() >= status::LEAVING {
                    return Poll::Ready(Err(Error::Heartbeat(link.refusal())));
                }
                Poll::Pending
            }
        }
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        self.told_ready = false;
        // Counted before the status is read: an idle connection that is closing at this moment
        // either turns the call away or sees it in flight.
        let in_flight = self.seat.users.enter();
        let link = self.seat.link();
        if link.status() >= status::LEAVING {
            return ResponseFuture::refused(link.refusal());
        }
        link.used();
        let future = self.inner.call(request);
        ResponseFuture::sent(future, in_flight, self.completion.clone())
    }
}

impl<S, C> Clone for Heartbeat<S, C>
where
    S: Clone,
    C: Clone,
{
    fn clone(&self) -> Self {
        Heartbeat {
            inner: self.inner.clone(),
            seat: Seat::new(Arc::clone(&self.seat.users)),
            completion: self.completion.clone(),
            told_ready: false,
        }
    }
}

impl<S, C> fmt::Debug for Heartbeat<S, C>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("inner", &self.inner)
            .field("link", self.seat.link())
            .finish_non_exhaustive()
    }
}
