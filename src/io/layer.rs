//! A connector whose connections have limits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{limited::LimitedIo, limits::Limits};

/// Gives the connections of a connector [`Limits`]; see the [module](super).
#[derive(Clone, Copy, Debug)]
pub struct LimitLayer {
    limits: Limits,
}

impl LimitLayer {
    /// Creates a layer whose connections have `limits`.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        LimitLayer { limits }
    }
}

impl<C> Layer<C> for LimitLayer {
    type Service = Limit<C>;

    fn layer(&self, connector: C) -> Limit<C> {
        Limit::new(connector, self.limits)
    }
}

/// A connector whose connections are [`LimitedIo`]s. The time that connecting takes is not
/// limited: put a `Timeout` around it.
#[derive(Clone, Copy, Debug)]
pub struct Limit<C> {
    connector: C,
    limits: Limits,
}

impl<C> Limit<C> {
    /// Gives the connections of `connector` `limits`.
    #[must_use]
    pub const fn new(connector: C, limits: Limits) -> Self {
        Limit { connector, limits }
    }

    /// Returns a reference to the inner connector.
    pub fn get_ref(&self) -> &C {
        &self.connector
    }

    /// Returns a mutable reference to the inner connector.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.connector
    }

    /// Returns the inner connector.
    pub fn into_inner(self) -> C {
        self.connector
    }
}

impl<C, Target> Service<Target> for Limit<C>
where
    C: Service<Target>,
{
    type Response = LimitedIo<C::Response>;
    type Error = C::Error;
    type Future = LimitFuture<C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, target: Target) -> LimitFuture<C::Future> {
        LimitFuture {
            connecting: self.connector.call(target),
            limits: self.limits,
        }
    }
}

pin_project! {
    /// The future of a [`Limit`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct LimitFuture<F> {
        #[pin]
        connecting: F,
        limits: Limits,
    }
}

impl<F, T, E> Future for LimitFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<LimitedIo<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let io = ready!(this.connecting.poll(cx))?;
        Poll::Ready(Ok(LimitedIo::new(io, *this.limits)))
    }
}
