//! The calls of a server of tonic's, counted for the connections on which they came.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::util::Oneshot;
use tower_layer::Layer;
use tower_service::Service;

use super::info::ConnectionInfo;
use crate::server::{
    body::{RequestBody, ResponseBody},
    service::CountedFuture,
};

/// Has each call count for the connection on which it came, and finds what belongs to that in its extensions: the
/// [`Handle`](crate::server::Handle), and what tonic has there (`Request::remote_addr`).
///
/// A layer for `Server::layer`, as the outermost one. Calls on connections that nobody
/// [watches](crate::server::Connections::watch_incoming) go through as they are.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CountLayer;

impl CountLayer {
    /// Creates the layer.
    #[must_use]
    pub fn new() -> Self {
        CountLayer
    }
}

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner }
    }
}

/// The service of a [`CountLayer`]: each call has a clone of the inner one, and waits for that to be ready.
#[derive(Clone, Debug)]
pub struct Count<S> {
    inner: S,
}

impl<S, R> Service<Request<Body>> for Count<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone,
    R: http_body::Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = CountFuture<Oneshot<S, Request<Body>>>;

    /// Always ready: whose call it is shows only then, and it counts while it waits for the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let extensions = request.extensions_mut();
        let inner = match extensions.remove::<ConnectionInfo>() {
            Some(info) => {
                info.insert_inner(extensions);
                let mut counted = info.handle().counted(Unwrap(&self.inner));
                Inner::Counted {
                    future: counted.call(request),
                }
            }
            None => Inner::Other {
                future: Oneshot::new(self.inner.clone(), request),
            },
        };
        CountFuture { inner }
    }
}

pin_project! {
    /// The future of a [`Count`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CountFuture<F> {
        #[pin]
        inner: Inner<F>,
    }
}

pin_project! {
    #[project = InnerProjection]
    enum Inner<F> {
        Counted { #[pin] future: CountedFuture<F> },
        Other { #[pin] future: F },
    }
}

impl<F, R, E> Future for CountFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: http_body::Body,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.project() {
            InnerProjection::Counted { future } => future.poll(cx),
            InnerProjection::Other { future } => future
                .poll(cx)
                .map_ok(|response| response.map(ResponseBody::uncounted)),
        }
    }
}

impl<F> fmt::Debug for CountFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountFuture").finish_non_exhaustive()
    }
}

/// Services of tonic's take its body only.
struct Unwrap<'a, S>(&'a S);

impl<S> Service<Request<RequestBody<Body>>> for Unwrap<'_, S>
where
    S: Service<Request<Body>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, Request<Body>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Body>>) -> Self::Future {
        Oneshot::new(self.0.clone(), request.map(Body::new))
    }
}
