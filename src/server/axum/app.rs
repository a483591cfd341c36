//! The service of one connection of axum's.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, extract::Request, response::Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::server::{
    body::RequestBody,
    handle::Handle,
    service::{CountedFuture, CountedService},
};

/// The app as one connection has it: each request is in flight to the end of its response's body, and has its
/// connection's [`Handle`] in its extensions.
#[derive(Clone, Debug)]
pub struct App<S> {
    inner: CountedService<Unwrap<S>>,
}

impl<S> App<S> {
    pub(super) fn new(service: S, handle: &Handle) -> Self {
        App {
            inner: handle.counted(Unwrap(service)),
        }
    }
}

impl<S> Service<Request> for App<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = AppFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Service::<Request>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        AppFuture {
            inner: Service::call(&mut self.inner, request),
        }
    }
}

pin_project! {
    /// The future of an [`App`].
    #[must_use = "futures do nothing unless polled"]
    pub struct AppFuture<F> {
        #[pin]
        inner: CountedFuture<F>,
    }
}

impl<F, E> Future for AppFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().inner.poll(cx))?;
        Poll::Ready(Ok(response.map(Body::new)))
    }
}

impl<F> fmt::Debug for AppFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppFuture").finish_non_exhaustive()
    }
}

/// Apps take axum's body only.
#[derive(Clone, Debug)]
struct Unwrap<S>(S);

impl<S> Service<axum::http::Request<RequestBody<Body>>> for Unwrap<S>
where
    S: Service<Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: axum::http::Request<RequestBody<Body>>) -> S::Future {
        self.0.call(request.map(Body::new))
    }
}
