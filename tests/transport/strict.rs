//! A transport that insists on being asked before each message.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};

pub(crate) struct Strict<T> {
    inner: T,
    is_ready: bool,
}

impl<T> Strict<T> {
    pub(crate) fn new(inner: T) -> Strict<T> {
        Strict {
            inner,
            is_ready: false,
        }
    }
}

impl<T: Stream + Unpin> Stream for Strict<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl<T: Sink<String> + Unpin> Sink<String> for Strict<T> {
    type Error = T::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        ready!(self.inner.poll_ready_unpin(cx))?;
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: String) -> Result<(), T::Error> {
        assert!(self.is_ready, "not asked before {message:?}");
        self.is_ready = false;
        self.inner.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.inner.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.inner.poll_close_unpin(cx)
    }
}
