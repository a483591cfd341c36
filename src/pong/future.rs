//! The response future of a [`Pong`](super::Pong).

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// A pong, or the response to a call on the inner service of a [`Pong`](super::Pong).
    ///
    /// # Errors
    ///
    /// The inner service's, also of its `poll_ready`. A pong never fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping it while the service is not ready calls nothing, and gives a place in its queue back. Later it drops the inner
    /// future.
    ///
    /// # Panics
    ///
    /// If it is polled again after completion.
    #[must_use = "futures do nothing unless polled"]
    pub struct PongFuture<S, Request>
    where
        S: Service<Request>,
    {
        #[pin]
        state: State<S, Request, S::Future, S::Response>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Request, F, R> {
        Answered { pong: Option<R> },
        Waiting { service: S, request: Option<Request> },
        Called { #[pin] future: F },
    }
}

impl<S, Request> PongFuture<S, Request>
where
    S: Service<Request>,
{
    pub(super) fn answered(pong: S::Response) -> Self {
        PongFuture {
            state: State::Answered { pong: Some(pong) },
        }
    }

    pub(super) fn waiting(service: S, request: Request) -> Self {
        PongFuture {
            state: State::Waiting {
                service,
                request: Some(request),
            },
        }
    }
}

impl<S, Request> Future for PongFuture<S, Request>
where
    S: Service<Request>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProjection::Answered { pong } => {
                    return Poll::Ready(Ok(pong.take().expect(TWICE)));
                }
                StateProjection::Waiting { service, request } => {
                    assert!(request.is_some(), "{TWICE}");
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        *request = None;
                        return Poll::Ready(Err(error));
                    }
                    service.call(request.take().expect(TWICE))
                }
                StateProjection::Called { future } => return future.poll(cx),
            };
            // The clone goes, and with it whatever else it keeps.
            state.set(State::Called { future });
        }
    }
}

const TWICE: &str = "polled after completion";

impl<S, Request> fmt::Debug for PongFuture<S, Request>
where
    S: Service<Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Answered { .. } => "Answered",
            State::Waiting { .. } => "Waiting",
            State::Called { .. } => "Called",
        };
        f.debug_tuple("PongFuture").field(&state).finish()
    }
}
