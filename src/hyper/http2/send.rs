//! hyper's `SendRequest` as a tower service.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::client::conn::http2;
use tower_service::Service;

use super::{
    body::{ResponseBody, State},
    goaway::{GoAway, h2_error},
};
use crate::{
    error::Stage,
    hyper::{
        error::SendError,
        wire::{Until, Wire},
    },
    wakers::Key,
};

/// hyper's HTTP/2 `SendRequest` as a tower service. Made by [`handshake`](super::handshake).
///
/// An error that the end of the connection caused comes out once its reason is known to the
/// heartbeat above, which then answers with that; other errors come out at once.
///
/// # Clone
///
/// Clones share the connection. It closes when the last one, and the last response body, is gone.
pub struct SendRequest<B> {
    inner: http2::SendRequest<B>,
    wire: Arc<Wire>,
    waiting: Key,
}

impl<B> SendRequest<B> {
    pub(super) fn new(inner: http2::SendRequest<B>, wire: Arc<Wire>) -> Self {
        SendRequest {
            inner,
            wire,
            waiting: Key::NONE,
        }
    }
}

impl<B> Service<Request<B>> for SendRequest<B>
where
    B: http_body::Body + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = SendError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        match self.inner.poll_ready(cx) {
            Poll::Ready(Err(error)) => self.wire.poll_why(&mut self.waiting, cx).map(|()| {
                let error = GoAway::unwrap_or(error);
                Err(SendError::Refused(self.wire.reason(error, Stage::NotSent)))
            }),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let response = self.inner.try_send_request(request);
        let wire = Arc::clone(&self.wire);
        ResponseFuture {
            inner: Box::pin(async move {
                match response.await {
                    Ok(response) => Ok(response.map(|inner| ResponseBody {
                        inner,
                        state: State::Open { wire },
                    })),
                    Err(mut failed) => {
                        // hyper gives the request back if no part of it was written.
                        let unsent = failed.take_message().is_some();
                        Err(settle(&wire, failed.into_error(), unsent).await)
                    }
                }
            }),
        }
    }
}

impl<B> Clone for SendRequest<B> {
    fn clone(&self) -> Self {
        SendRequest::new(self.inner.clone(), Arc::clone(&self.wire))
    }
}

impl<B> Drop for SendRequest<B> {
    fn drop(&mut self) {
        self.wire.stop_waiting(&mut self.waiting);
    }
}

impl<B> fmt::Debug for SendRequest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRequest")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// The response of a [`SendRequest`].
///
/// # Cancel safety
///
/// Dropping it resets the request's stream.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    // hyper's own future has no name.
    inner: Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, SendError>> + Send>>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// What an error of one request says about its connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// The request's own: a reset of its stream, a body that failed.
    Stream,
    /// The peer leaves and did not take this request.
    Refusal,
    /// hyper dropped the request: with the connection future, where it waited for a free stream,
    /// but just so when a body of its user panics or the runtime shuts down, when it may be out.
    Dropped,
    /// The connection future is over.
    Connection,
    /// The IO is over.
    Io,
}

impl Origin {
    pub(super) fn of(error: &hyper::Error) -> Origin {
        if error.is_user() {
            // Of the user errors that a request can have here, only "dispatch gone" has a cause.
            let dropped = std::error::Error::source(error).is_some();
            return if dropped {
                Origin::Dropped
            } else {
                Origin::Stream
            };
        }
        if let Some(h2) = h2_error(error) {
            return if h2.is_go_away() && h2.is_remote() {
                Origin::Refusal
            } else if h2.is_io() || h2.is_go_away() {
                Origin::Io
            } else {
                Origin::Stream
            };
        }
        // hyper's keep-alive drops the IO, and doesn't always have the connection future say why.
        if is_io(error) || error.is_timeout() {
            Origin::Io
        } else if error.is_canceled() || error.is_closed() {
            Origin::Connection
        } else {
            Origin::Stream
        }
    }
}

/// Where a head was awaited, hyper unwraps h2's error to the `io::Error` in it.
fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<io::Error>())
}

async fn settle(wire: &Wire, error: hyper::Error, unsent: bool) -> SendError {
    match Origin::of(&error) {
        Origin::Refusal => return SendError::Refused(wire.refuse(GoAway::unwrap_or(error))),
        Origin::Dropped => {
            wire.settled(Until::WhyIsKnown).await;
            if wire.knows_why() {
                let error = GoAway::unwrap_or(error);
                return SendError::GivenUp(wire.reason(error, Stage::AwaitingResponse));
            }
        }
        Origin::Connection | Origin::Io if unsent => {
            wire.settled(Until::WhyIsKnown).await;
            let error = GoAway::unwrap_or(error);
            return SendError::Refused(wire.reason(error, Stage::NotSent));
        }
        Origin::Connection => wire.settled(Until::WhyIsKnown).await,
        Origin::Io => wire.settled(Until::LinkHasEnded).await,
        Origin::Stream => {}
    }
    SendError::Failed(error)
}
