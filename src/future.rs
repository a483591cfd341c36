//! The response future of a [`Heartbeat`](crate::Heartbeat).

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    completion::{CompleteOnResponse, TrackCompletion},
    error::{Error, HeartbeatError, Stage},
    link::InFlight,
};

pin_project! {
    /// The response, or why the connection ended under it.
    ///
    /// # Ties
    ///
    /// A response that is complete wins over an end of the connection at the same instant.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future, and with it the request; it is no longer in flight
    /// from then on.
    ///
    /// # Panics
    ///
    /// If it is polled again after it has completed.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C = CompleteOnResponse> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, C> {
        Sent {
            // Dropped first: the request ends before it stops counting as in flight.
            #[pin]
            future: F,
            in_flight: Option<InFlight>,
            completion: C,
        },
        Refused { error: Option<HeartbeatError> },
    }
}

impl<F, C> ResponseFuture<F, C> {
    #[inline]
    pub(crate) fn sent(future: F, in_flight: InFlight, completion: C) -> Self {
        ResponseFuture {
            state: State::Sent {
                future,
                in_flight: Some(in_flight),
                completion,
            },
        }
    }

    pub(crate) fn refused(error: HeartbeatError) -> Self {
        ResponseFuture {
            state: State::Refused { error: Some(error) },
        }
    }
}

impl<F, C, Response, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response, E>>,
    C: TrackCompletion<Response>,
{
    type Output = Result<C::Output, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Sent {
                future,
                in_flight,
                completion,
            } => match future.poll(cx) {
                Poll::Ready(result) => {
                    let in_flight = in_flight.take().expect("polled after completion");
                    Poll::Ready(match result {
                        Ok(response) => {
                            in_flight.heard();
                            Ok(completion.track_completion(in_flight, response))
                        }
                        Err(error) => Err(attributed(&in_flight, error)),
                    })
                }
                Poll::Pending => {
                    let waiting = in_flight.as_mut().expect("polled after completion");
                    let ended = waiting.poll_ended(cx, Stage::AwaitingResponse);
                    ended.map(|error| {
                        *in_flight = None;
                        Err(Error::Heartbeat(error))
                    })
                }
            },
            StateProjection::Refused { error } => {
                let error = error.take().expect("polled after completion");
                Poll::Ready(Err(Error::Heartbeat(error)))
            }
        }
    }
}

/// What the inner service says on a connection that has ended, the end explains.
fn attributed<E>(in_flight: &InFlight, error: E) -> Error<E> {
    match in_flight.ended(Stage::AwaitingResponse) {
        Some(cause) => Error::Heartbeat(cause),
        None => Error::Inner(error),
    }
}

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Sent { .. } => "Sent",
            State::Refused { .. } => "Refused",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
