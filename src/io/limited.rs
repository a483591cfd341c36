//! An IO that fails when its bytes stand still.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{handle::IoHandle, limits::Limits, watch::Watch};
use crate::lanes::Lane;

pin_project! {
    /// An IO with [`Limits`], as [`Limit`](super::Limit) connects it.
    ///
    /// It is tokio's or hyper's IO as the inner one is; bytes are handed through uncopied, vectored
    /// writes included. Its two halves may be driven by two tasks. The one timer ends with it.
    ///
    /// # Errors
    ///
    /// When a limit runs out, the pending reads and writes and all later ones fail with an
    /// [`io::Error`] of kind `TimedOut` in which
    /// [`HeartbeatError::find`](crate::HeartbeatError::find) finds the cause (`ConnectionAborted`
    /// after [`IoHandle::close`]). A shutdown then returns at once: dropping the IO closes it.
    ///
    /// # Panics
    ///
    /// A poll panics outside of a tokio runtime with time enabled, if any limit is set.
    #[derive(Debug)]
    pub struct LimitedIo<T> {
        #[pin]
        inner: T,
        watch: Watch,
    }
}

impl<T> LimitedIo<T> {
    /// Limits `inner` from now on.
    #[must_use]
    pub fn new(inner: T, limits: Limits) -> Self {
        LimitedIo {
            inner,
            watch: Watch::new(limits),
        }
    }

    /// Returns a handle that tells why the connection ended.
    #[must_use]
    pub fn handle(&self) -> IoHandle {
        IoHandle::new(self.watch.shared.clone())
    }

    /// Returns a reference to the inner IO.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner IO. What is read or written through it is not seen.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner IO, without limits.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn writing<R>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        moved: impl FnOnce(&R) -> bool,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        self.polling(Lane::Write, cx, |inner, cx| {
            write(inner, cx).map_ok(|written| (moved(&written), written))
        })
    }

    /// Tries the IO first, the limits only if it is pending. `poll` tells whether bytes moved.
    fn polling<R>(
        self: Pin<&mut Self>,
        lane: Lane,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<(bool, R)>>,
    ) -> Poll<io::Result<R>> {
        let this = self.project();
        if let Some(error) = this.watch.shared.failed() {
            return Poll::Ready(Err(error));
        }
        match poll(this.inner, cx) {
            Poll::Ready(Ok((moved, result))) => {
                this.watch.ready(lane, moved);
                Poll::Ready(Ok(result))
            }
            Poll::Ready(Err(error)) => {
                this.watch.ready(lane, false);
                Poll::Ready(Err(error))
            }
            Poll::Pending => Poll::Ready(Err(ready!(this.watch.pending(lane, cx)))),
        }
    }

    /// A frozen peer must not keep a failed connection from being closed.
    fn is_over(&self) -> bool {
        self.watch.shared.failed().is_some()
    }
}

impl<T> AsyncRead for LimitedIo<T>
where
    T: AsyncRead,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.polling(Lane::Read, cx, |inner, cx| {
            let before = buffer.filled().len();
            inner
                .poll_read(cx, buffer)
                .map_ok(|()| (buffer.filled().len() != before, ()))
        })
    }
}

impl<T> AsyncWrite for LimitedIo<T>
where
    T: AsyncWrite,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writing(cx, any, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing(cx, none, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_over() {
            return Poll::Ready(Ok(()));
        }
        self.writing(cx, none, |inner, cx| inner.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writing(cx, any, |inner, cx| inner.poll_write_vectored(cx, slices))
    }
}

#[cfg(feature = "hyper")]
impl<T> hyper::rt::Read for LimitedIo<T>
where
    T: hyper::rt::Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // The cursor goes in by value, and the count with it. So the end of the stream counts as a
        // byte, after which nobody waits for one any more.
        let moved = buffer.remaining() > 0;
        self.polling(Lane::Read, cx, |inner, cx| {
            inner.poll_read(cx, buffer).map_ok(|()| (moved, ()))
        })
    }
}

#[cfg(feature = "hyper")]
impl<T> hyper::rt::Write for LimitedIo<T>
where
    T: hyper::rt::Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writing(cx, any, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing(cx, none, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_over() {
            return Poll::Ready(Ok(()));
        }
        self.writing(cx, none, |inner, cx| inner.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writing(cx, any, |inner, cx| inner.poll_write_vectored(cx, slices))
    }
}

/// The response's extensions have the [`IoHandle`], beside what the inner connection tells.
#[cfg(feature = "client-legacy")]
impl<T> hyper_util::client::legacy::connect::Connection for LimitedIo<T>
where
    T: hyper_util::client::legacy::connect::Connection,
{
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        self.inner.connected().extra(self.handle())
    }
}

fn any(written: &usize) -> bool {
    *written > 0
}

fn none(_: &()) -> bool {
    false
}
