//! The connections that a server of tonic's accepts.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{TryStream, stream::Stream};
use pin_project_lite::pin_project;

use crate::server::{connections::Connections, io::ServedIo};

impl Connections {
    /// [Watches](Connections::watch) each IO of `incoming`: for tonic's `serve_with_incoming`. Without the
    /// [`CountLayer`](super::CountLayer) calls don't know their address.
    pub fn watch_incoming<S>(&self, incoming: S) -> WatchedIncoming<S> {
        WatchedIncoming {
            inner: incoming,
            connections: self.clone(),
        }
    }
}

pin_project! {
    /// A stream of IOs with [`Limits`](crate::server::Limits), from [`Connections::watch_incoming`].
    #[must_use = "streams do nothing unless polled"]
    pub struct WatchedIncoming<S> {
        #[pin]
        inner: S,
        connections: Connections,
    }
}

impl<S> WatchedIncoming<S> {
    /// Returns a reference to the inner stream.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S> Stream for WatchedIncoming<S>
where
    S: TryStream,
{
    type Item = Result<ServedIo<S::Ok>, S::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let watch = |io| this.connections.watch(io);
        this.inner.try_poll_next(cx).map_ok(watch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

impl<S> fmt::Debug for WatchedIncoming<S>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedIncoming")
            .field("inner", &self.inner)
            .field("connections", &self.connections)
            .finish()
    }
}
