//! Whose end an error above the client is.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    layer::PingLayer,
    registry::{Mark, Registry},
};
use crate::error::{BoxError, Error, Stage};

/// Has a client say why its connection ended, where a [`PingLayer`] below ended it. From
/// [`PingLayer::attribution`].
///
/// An HTTP/2 client keeps only the text of what its IO said. With this around the client, an error of a
/// call or a body that the end of a connection explains is that end, typed; other errors are
/// what they were. The connections have to be of the same `PingLayer`, and the layer belongs right above
/// the client.
///
/// An error of a call that was in no stream at that time (it waited, or came too late for the peer that left) can be
/// explained only while the client has one connection at a time, as a `Channel` to one endpoint does. If hyper
/// says that it had not begun with the call, its stage is [`Stage::NotSent`].
#[derive(Clone)]
pub struct AttributionLayer {
    registry: Arc<Registry>,
}

impl PingLayer {
    /// Returns the layer that goes around a client whose connections this one makes.
    #[must_use]
    pub fn attribution(&self) -> AttributionLayer {
        AttributionLayer {
            registry: Arc::clone(self.registry()),
        }
    }
}

impl<S> Layer<S> for AttributionLayer {
    type Service = Attribution<S>;

    fn layer(&self, inner: S) -> Attribution<S> {
        Attribution {
            inner,
            registry: Arc::clone(&self.registry),
        }
    }
}

impl fmt::Debug for AttributionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttributionLayer").finish_non_exhaustive()
    }
}

/// A client whose errors are attributed. Made by [`AttributionLayer`].
#[derive(Clone)]
pub struct Attribution<S> {
    inner: S,
    registry: Arc<Registry>,
}

impl<S> Attribution<S> {
    /// Returns a reference to the inner client.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    fn call_now(&self) -> Call {
        Call {
            mark: self.registry.mark(),
            registry: Arc::clone(&self.registry),
        }
    }
}

impl<S, Request, B> Service<Request> for Attribution<S>
where
    S: Service<Request, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Response = Response<AttributionBody<B>>;
    type Error = Error<BoxError>;
    type Future = AttributionFuture<S::Future>;

    /// Becomes ready when the inner client is.
    ///
    /// # Errors
    ///
    /// The inner client's, attributed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let ready = ready!(self.inner.poll_ready(cx));
        Poll::Ready(ready.map_err(|error| self.call_now().attribute(error, Stage::NotSent)))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        AttributionFuture {
            call: self.call_now(),
            response: self.inner.call(request),
        }
    }
}

impl<S> fmt::Debug for Attribution<S>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attribution")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// One call, and what there was when it began.
#[derive(Clone)]
struct Call {
    registry: Arc<Registry>,
    mark: Mark,
}

impl Call {
    fn attribute(&self, error: impl Into<BoxError>, stage: Stage) -> Error<BoxError> {
        let error = error.into();
        match self.registry.explain(&*error, self.mark, stage) {
            Some(end) => Error::Heartbeat(end),
            None => Error::Inner(error),
        }
    }
}

pin_project! {
    /// The response of an [`Attribution`].
    #[must_use = "futures do nothing unless polled"]
    pub struct AttributionFuture<F> {
        #[pin]
        response: F,
        call: Call,
    }
}

impl<F, B, E> Future for AttributionFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<AttributionBody<B>>, Error<BoxError>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.response.poll(cx)) {
            Ok(response) => Ok(response.map(|inner| AttributionBody {
                inner,
                call: this.call.clone(),
            })),
            Err(error) => Err(this.call.attribute(error, Stage::AwaitingResponse)),
        })
    }
}

impl<F> fmt::Debug for AttributionFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttributionFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The body of an [`Attribution`]'s response.
    pub struct AttributionBody<B> {
        #[pin]
        inner: B,
        call: Call,
    }
}

impl<B> AttributionBody<B> {
    /// Returns a reference to the inner body.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B> http_body::Body for AttributionBody<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = Error<BoxError>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let call = this.call;
        this.inner
            .poll_frame(cx)
            .map_err(|error| call.attribute(error, Stage::Streaming))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for AttributionBody<B>
where
    B: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttributionBody")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
