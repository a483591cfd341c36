//! The IO of one connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::rt;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{handle::Handle, wire::Wire};

pin_project! {
    /// The IO of a connection with [`Limits`](super::Limits): what [`Connections`](super::Connections) make of
    /// yours.
    ///
    /// It is tokio's or hyper's IO as the inner one is; bytes are handed through as they are, vectored writes included.
    /// After an upgrade it is nothing more than that.
    #[derive(Debug)]
    pub struct ServedIo<T> {
        // Dropped first: when the connection has ended, its IO is closed already.
        #[pin]
        inner: T,
        wire: Wire,
    }
}

impl<T> ServedIo<T> {
    pub(super) fn new(inner: T, wire: Wire) -> Self {
        ServedIo { inner, wire }
    }

    /// Returns a handle to the connection.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(self.wire.shared()))
    }

    /// Returns a reference to the inner IO.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T> AsyncRead for ServedIo<T>
where
    T: AsyncRead + AsyncWrite,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        this.wire.poll_read(this.inner, cx, buffer)
    }
}

impl<T> AsyncWrite for ServedIo<T>
where
    T: AsyncWrite,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.wire.poll_flush(this.inner, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.wire.poll_shutdown(this.inner, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.wire.poll_write(this.inner, cx, slices)
    }
}

/// hyper's IO is tokio's from inside and outside: the bytes of its read buffers can be looked at only so.
struct AsTokio<'a, T> {
    io: TokioIo<Pin<&'a mut T>>,
    wire: &'a mut Wire,
}

impl<T> ServedIo<T> {
    fn as_tokio(self: Pin<&mut Self>) -> TokioIo<AsTokio<'_, T>> {
        let this = self.project();
        TokioIo::new(AsTokio {
            io: TokioIo::new(this.inner),
            wire: this.wire,
        })
    }
}

impl<T> AsyncRead for AsTokio<'_, T>
where
    T: rt::Read + rt::Write,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let AsTokio { io, wire } = self.get_mut();
        wire.poll_read(Pin::new(io), cx, buffer)
    }
}

impl<T> AsyncWrite for AsTokio<'_, T>
where
    T: rt::Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let AsTokio { io, wire } = self.get_mut();
        wire.poll_flush(Pin::new(io), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let AsTokio { io, wire } = self.get_mut();
        wire.poll_shutdown(Pin::new(io), cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let AsTokio { io, wire } = self.get_mut();
        wire.poll_write(Pin::new(io), cx, slices)
    }
}

impl<T> rt::Read for ServedIo<T>
where
    T: rt::Read + rt::Write,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        rt::Read::poll_read(Pin::new(&mut self.as_tokio()), cx, buffer)
    }
}

impl<T> rt::Write for ServedIo<T>
where
    T: rt::Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        rt::Write::poll_write(Pin::new(&mut self.as_tokio()), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        rt::Write::poll_flush(Pin::new(&mut self.as_tokio()), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        rt::Write::poll_shutdown(Pin::new(&mut self.as_tokio()), cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        rt::Write::poll_write_vectored(Pin::new(&mut self.as_tokio()), cx, slices)
    }
}
