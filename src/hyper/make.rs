//! The future of a `MakeService` of connections.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::error::ConnectError;

/// A connection in the making; its output is the service `S`, or why there is none.
///
/// # Cancel safety
///
/// Dropping it drops the connection.
#[must_use = "futures do nothing unless polled"]
pub struct MakeFuture<S> {
    inner: Pin<Box<dyn Future<Output = Result<S, ConnectError>> + Send>>,
}

impl<S> MakeFuture<S> {
    pub(crate) fn new<F>(making: F) -> Self
    where
        F: Future<Output = Result<S, ConnectError>> + Send + 'static,
    {
        MakeFuture {
            inner: Box::pin(making),
        }
    }
}

impl<S> Future for MakeFuture<S> {
    type Output = Result<S, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<S> fmt::Debug for MakeFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeFuture").finish_non_exhaustive()
    }
}
