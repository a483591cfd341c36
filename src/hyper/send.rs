//! hyper's `SendRequest` as a tower service, and the bodies of its responses.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2,
};
use tower_service::Service;

use super::wire::Wire;
use crate::wakers::Key;

/// hyper's HTTP/2 `SendRequest` as a tower service. Made by [`handshake`](super::handshake).
///
/// An error that the end of the connection caused comes out once its reason is known to the
/// heartbeat above, which then answers with that; other errors are hyper's, at once.
///
/// # Clone
///
/// Clones share the connection. It closes when the last one, and the last response body, is gone.
pub struct SendRequest<B> {
    inner: http2::SendRequest<B>,
    wire: Arc<Wire>,
    waiting: Key,
}

/// The response of a [`SendRequest`]. Boxed, because hyper's own future has no name.
pub type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<Body>, hyper::Error>> + Send>>;

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
    type Response = Response<Body>;
    type Error = hyper::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        match self.inner.poll_ready(cx) {
            Poll::Ready(Err(error)) => self
                .wire
                .poll_settled(&mut self.waiting, cx, true)
                .map(|()| Err(error)),
            ready_or_pending => ready_or_pending,
        }
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let response = self.inner.send_request(request);
        let wire = Arc::clone(&self.wire);
        Box::pin(async move {
            match response.await {
                Ok(response) => Ok(response.map(|inner| Body {
                    inner,
                    state: State::Open { wire },
                })),
                Err(error) => {
                    let origin = Origin::of(&error);
                    wire.settle(origin).await;
                    Err(error)
                }
            }
        })
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

/// What an error of one request says about its connection.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// The request's own: a reset of its stream, a body that failed.
    Stream,
    /// The peer leaves and did not take this request.
    Refusal,
    /// The connection is over.
    Connection,
}

impl Origin {
    fn of(error: &hyper::Error) -> Origin {
        if error.is_user() || error.is_body_write_aborted() {
            return Origin::Stream;
        }
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                return if h2.is_go_away() {
                    Origin::Refusal
                } else if h2.is_io() {
                    Origin::Connection
                } else {
                    Origin::Stream
                };
            }
            source = cause.source();
        }
        if error.is_canceled() || error.is_closed() || error.is_timeout() {
            Origin::Connection
        } else {
            Origin::Stream
        }
    }
}

impl Wire {
    async fn settle(&self, origin: Origin) {
        match origin {
            Origin::Stream => {}
            Origin::Refusal => self.settled(true).await,
            Origin::Connection => self.settled(false).await,
        }
    }
}

/// A response body of a [`SendRequest`]: hyper's, whose errors come out once the heartbeat above
/// knows why the connection ended.
pub struct Body {
    inner: Incoming,
    state: State,
}

enum State {
    Open { wire: Arc<Wire> },
    Settling { end: Settling },
    Closed,
}

type Settling = Pin<Box<dyn Future<Output = hyper::Error> + Send + Sync>>;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open { wire } => match Pin::new(&mut this.inner).poll_frame(cx) {
                    Poll::Ready(Some(Err(error))) => {
                        let wire = Arc::clone(wire);
                        this.state = State::Settling {
                            end: Box::pin(async move {
                                wire.settle(Origin::of(&error)).await;
                                error
                            }),
                        };
                    }
                    other => return other,
                },
                State::Settling { end } => {
                    return end.as_mut().poll(cx).map(|error| {
                        this.state = State::Closed;
                        Some(Err(error))
                    });
                }
                State::Closed => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Open { .. } => self.inner.is_end_stream(),
            State::Settling { .. } => false,
            State::Closed => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Open { .. } => self.inner.size_hint(),
            State::Settling { .. } => SizeHint::default(),
            State::Closed => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
