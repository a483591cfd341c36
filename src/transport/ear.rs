//! Signs of life from below the messages.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::link::Link;

/// Wraps the IO below a message transport, so that each byte that comes in is a sign of life: a long message on
/// a slow link would otherwise look like silence until it is whole.
///
/// The [`Ear`] goes to [`HeartbeatStream::hear_bytes`](super::HeartbeatStream::hear_bytes), or to that of a
/// [`mux::Connection`](crate::mux::Connection::hear_bytes).
///
/// ```
/// use tower_heartbeat::{Config, transport::{self, HeartbeatStream, Lines}};
/// use tokio_util::codec::{Framed, LinesCodec};
///
/// # fn wrap(socket: tokio::net::TcpStream) {
/// let (socket, ear) = transport::hear(socket);
/// let lines = Framed::new(socket, LinesCodec::new());
/// let connection = HeartbeatStream::new(lines, Lines::new(), Config::default()).hear_bytes(&ear);
/// # drop(connection);
/// # }
/// ```
pub fn hear<T>(io: T) -> (HearingIo<T>, Ear) {
    let ear = Ear(Arc::default());
    let io = HearingIo {
        inner: io,
        ear: ear.clone(),
    };
    (io, ear)
}

/// What an IO hears. Made by [`hear`].
///
/// # Clone
///
/// Clones are the same IO's.
#[derive(Clone)]
pub struct Ear(Arc<OnceLock<Arc<Link>>>);

impl Ear {
    /// Only the first link is told.
    pub(crate) fn listen_for(&self, link: &Arc<Link>) {
        self.0.get_or_init(|| Arc::clone(link));
    }

    fn heard(&self) {
        if let Some(link) = self.0.get() {
            link.heard();
        }
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").finish_non_exhaustive()
    }
}

pin_project! {
    /// An IO with an [`Ear`]. Made by [`hear`]; bytes go through as they are.
    #[derive(Debug)]
    pub struct HearingIo<T> {
        #[pin]
        inner: T,
        ear: Ear,
    }
}

impl<T> HearingIo<T> {
    /// Returns a reference to the inner IO.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner IO.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner IO.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T> AsyncRead for HearingIo<T>
where
    T: AsyncRead,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        ready!(this.inner.poll_read(cx, buffer))?;
        if buffer.filled().len() != before {
            this.ear.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> AsyncWrite for HearingIo<T>
where
    T: AsyncWrite,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, slices)
    }
}
