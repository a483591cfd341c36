//! Makes the service of each connection of axum's.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::serve::{IncomingStream, Listener};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{app::App, listener::WatchedListener};
use crate::server::handle::Handle;

/// Makes [`App`]s: what [`Connections::serve_axum`](crate::server::Connections::serve_axum) makes of a make-service.
#[derive(Clone, Debug)]
pub struct MakeApp<M> {
    inner: M,
}

impl<M> MakeApp<M> {
    pub(super) fn new(inner: M) -> Self {
        MakeApp { inner }
    }
}

impl<'a, M, L> Service<IncomingStream<'a, WatchedListener<L>>> for MakeApp<M>
where
    M: Service<IncomingStream<'a, WatchedListener<L>>>,
    L: Listener,
{
    type Response = App<M::Response>;
    type Error = M::Error;
    type Future = MakeAppFuture<M::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, stream: IncomingStream<'a, WatchedListener<L>>) -> Self::Future {
        MakeAppFuture {
            handle: stream.io().handle(),
            inner: self.inner.call(stream),
        }
    }
}

pin_project! {
    /// The future of a [`MakeApp`].
    #[must_use = "futures do nothing unless polled"]
    pub struct MakeAppFuture<F> {
        #[pin]
        inner: F,
        handle: Handle,
    }
}

impl<F, S, E> Future for MakeAppFuture<F>
where
    F: Future<Output = Result<S, E>>,
{
    type Output = Result<App<S>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let service = ready!(this.inner.poll(cx))?;
        Poll::Ready(Ok(App::new(service, this.handle)))
    }
}

impl<F> fmt::Debug for MakeAppFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeAppFuture").finish_non_exhaustive()
    }
}
