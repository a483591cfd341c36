//! The response future of a [`Share`](super::Share).

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::desk::Place;

pin_project! {
    /// The response to a call on a [`Share`](super::Share), or the wait until it can be sent.
    ///
    /// Calls that wait are sent in the order in which they were first polled. One that is polled no
    /// more, but not dropped, keeps the others waiting.
    ///
    /// # Errors
    ///
    /// While the call waits, also what the inner service's `poll_ready` says; otherwise the inner future's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it while the call waits sends nothing, and lets the next one go on. Later it drops
    /// the inner future.
    ///
    /// # Panics
    ///
    /// If it is polled again after it has failed while it waited.
    #[must_use = "futures do nothing unless polled"]
    pub struct ShareFuture<S, Request, F> {
        #[pin]
        state: State<S, Request, F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Request, F> {
        Waiting { request: Option<Request>, place: Place<S> },
        Sent { #[pin] future: F },
    }
}

impl<S, Request, F> ShareFuture<S, Request, F> {
    pub(super) fn sent(future: F) -> Self {
        ShareFuture {
            state: State::Sent { future },
        }
    }

    pub(super) fn waiting(place: Place<S>, request: Request) -> Self {
        ShareFuture {
            state: State::Waiting {
                request: Some(request),
                place,
            },
        }
    }
}

impl<S, Request> Future for ShareFuture<S, Request, S::Future>
where
    S: Service<Request>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProjection::Waiting { request, place } => {
                    place.queue_up();
                    let turn = match ready!(place.poll_turn(cx)) {
                        Ok(turn) => turn,
                        Err(error) => {
                            *request = None;
                            return Poll::Ready(Err(error));
                        }
                    };
                    turn.call(request.take().expect("polled after completion"))
                }
                StateProjection::Sent { future } => return future.poll(cx),
            };
            state.set(State::Sent { future });
        }
    }
}

impl<S, Request, F> fmt::Debug for ShareFuture<S, Request, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting { .. } => "Waiting",
            State::Sent { .. } => "Sent",
        };
        f.debug_tuple("ShareFuture").field(&state).finish()
    }
}
