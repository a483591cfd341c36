//! A frame of this side's own that is being written, and writes that are cut for one.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// A frame on its way out.
pub(in crate::h2_io) struct Half<const LENGTH: usize> {
    bytes: [u8; LENGTH],
    written: usize,
}

impl<const LENGTH: usize> Half<LENGTH> {
    /// To be written at once: from then on nothing may come before its end.
    pub(in crate::h2_io) fn new(bytes: [u8; LENGTH]) -> Half<LENGTH> {
        Half { bytes, written: 0 }
    }

    /// Whether the IO is to see the rest of it before anything else. A flush leaves room.
    pub(in crate::h2_io) fn owns_the_io(&self) -> bool {
        self.written < LENGTH
    }

    /// Writes the rest, then flushes.
    pub(in crate::h2_io) fn poll_out<T>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        while self.written < LENGTH {
            let rest = &self.bytes[self.written..];
            match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Pin::new(io).poll_flush(cx)
    }
}

pub(super) fn write<T>(
    io: &mut T,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>>
where
    T: AsyncWrite + Unpin,
{
    match slices {
        [bytes] => Pin::new(io).poll_write(cx, bytes),
        _ => Pin::new(io).poll_write_vectored(cx, slices),
    }
}

/// The first `length` bytes of these.
pub(super) fn first<'a>(slices: &'a [IoSlice<'_>], mut length: usize) -> Vec<IoSlice<'a>> {
    let mut first = Vec::new();
    for slice in slices {
        let part = &slice[..length.min(slice.len())];
        length -= part.len();
        if !part.is_empty() {
            first.push(IoSlice::new(part));
        }
    }
    first
}
