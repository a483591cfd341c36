//! A line between a client and a server that freezes and thaws.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf,
        WriteHalf, duplex, split,
    },
    sync::watch,
    task::JoinSet,
};

use super::client::Io;

/// Carries bytes both ways until it is frozen; dropping it cuts both ends off.
pub(crate) struct Line {
    frozen: watch::Sender<bool>,
    _pumps: JoinSet<()>,
}

impl Line {
    /// A line between two ends that exist.
    pub(crate) fn between(near: impl Io, far: impl Io) -> Line {
        let (frozen, seen) = watch::channel(false);
        let (near_read, near_write) = split(near);
        let (far_read, far_write) = split(far);
        let mut pumps = JoinSet::new();
        pumps.spawn(pump(near_read, far_write, seen.clone()));
        pumps.spawn(pump(far_read, near_write, seen));
        Line {
            frozen,
            _pumps: pumps,
        }
    }

    /// A line with its two ends: the client's, the server's.
    pub(crate) fn new() -> (Line, DuplexStream, DuplexStream) {
        let (client, near) = duplex(64 * 1024);
        let (far, server) = duplex(64 * 1024);
        (Line::between(near, far), client, server)
    }

    /// Nothing goes through, nothing is lost.
    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

async fn pump<R, W>(mut from: ReadHalf<R>, mut to: WriteHalf<W>, mut frozen: watch::Receiver<bool>)
where
    R: Io,
    W: Io,
{
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        let read = tokio::select! {
            biased;
            changed = frozen.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buffer) => read,
        };
        let Ok(read @ 1..) = read else { break };
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = frozen.wait_for(|frozen| !frozen).await;
    let _ = to.shutdown().await;
}

/// An IO that tells when it has been dropped.
pub(crate) struct Watched<T> {
    inner: T,
    closed: Arc<AtomicBool>,
}

impl<T> Watched<T> {
    pub(crate) fn new(inner: T) -> (Watched<T>, Closed) {
        let closed = Arc::new(AtomicBool::new(false));
        let watched = Watched {
            inner,
            closed: Arc::clone(&closed),
        };
        (watched, Closed(closed))
    }
}

/// Whether a [`Watched`] IO has been dropped.
pub(crate) struct Closed(Arc<AtomicBool>);

impl Closed {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
