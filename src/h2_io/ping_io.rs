//! An IO with PINGs between its frames.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Role, core::Core, policing::Complaints, registry::Entry, watched::Watched};
use crate::{config::Config, handle::Handle, inline::Inline, ping_policy::PingPolicy};

pin_project! {
    /// An IO that carries HTTP/2 and is pinged, as [`PingConnector`](super::PingConnector) connects it.
    ///
    /// It is tokio's IO as the inner one is, and with the feature `hyper` hyper's. Payload is handed
    /// through uncopied, vectored writes included; its two halves may be driven by two tasks.
    ///
    /// The pings are made while it is polled: there is no task. One that nobody polls is not watched.
    ///
    /// # Errors
    ///
    /// When a limit runs out, or after [`Handle::close`], the pending reads and writes and all later
    /// ones fail with an [`io::Error`] in which [`HeartbeatError::find`](crate::HeartbeatError::find)
    /// finds the cause; a shutdown then returns at once. What had been taken in by then is still read.
    /// Errors of the inner IO come through as they are.
    ///
    /// # Panics
    ///
    /// A poll panics outside of a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the connection with [`Failure::Closed`](crate::Failure::Closed).
    #[derive(Debug)]
    pub struct PingIo<T> {
        // Dropped first: when the connection has ended, its IO is closed already.
        #[pin]
        inner: T,
        // hyper makes each request's task large enough for the connection.
        core: Box<Core>,
    }
}

impl<T> PingIo<T> {
    /// Pings the server at the other end of `io` as `config` says, from now on. Nothing may have been
    /// written or read before.
    #[must_use]
    pub fn client(io: T, config: Config) -> Self {
        PingIo::alone(Role::Client, io, config)
    }

    /// Pings the client at the other end of `io` as `config` says, from now on. Nothing may have been
    /// written or read before.
    #[must_use]
    pub fn server(io: T, config: Config) -> Self {
        PingIo::alone(Role::Server, io, config)
    }

    fn alone(role: Role, io: T, config: Config) -> Self {
        let (inline, users) = Inline::new(Arc::new(config), None);
        let watched = Watched::new(users, Complaints::to_nobody(), Entry::alone());
        PingIo::new(role, io, watched, inline)
    }

    pub(super) fn made(io: T, watched: Watched, inline: Inline) -> Self {
        PingIo::new(Role::Client, io, watched, inline)
    }

    fn new(role: Role, io: T, watched: Watched, inline: Inline) -> Self {
        PingIo {
            inner: io,
            core: Box::new(Core::new(role, watched, inline)),
        }
    }

    /// Counts the peer's PINGs. One that pings more often than `policy` permits is sent off as gRPC's servers do it: with a GOAWAY
    /// `ENHANCE_YOUR_CALM`, "too_many_pings", upon which the connection ends, open streams or not, with
    /// [`Failure::PingFlood`](crate::Failure::PingFlood). HEADERS and DATA that are written here forgive all strikes; idle is
    /// a connection without an open stream.
    ///
    /// The GOAWAY stands between two frames and is the last. Until it is out, nothing more is read; that takes
    /// [`ready_timeout`](crate::ConfigBuilder::ready_timeout) at the longest, then the connection ends without it. This
    /// side's own pings go on as ever. Replaces an earlier policy. Default: they are not counted.
    ///
    /// ```
    /// # #[cfg(feature = "hyper")]
    /// # async fn serve(socket: tokio::net::TcpStream) -> Result<(), tower_heartbeat::BoxError> {
    /// use std::time::Duration;
    ///
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use hyper::{body::{Bytes, Incoming}, server::conn::http2, service::service_fn};
    /// use hyper_util::rt::{TokioExecutor, TokioIo};
    /// use tower_heartbeat::{Config, PingPolicy, h2_io::PingIo};
    ///
    /// let policy = PingPolicy::grpc().min_interval(Duration::from_secs(20))?;
    /// let io = PingIo::server(socket, Config::default()).police_pings(policy);
    /// # let answer = |_: Request<Incoming>| async {
    /// #     Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
    /// # };
    /// http2::Builder::new(TokioExecutor::new())
    ///     .serve_connection(TokioIo::new(io), service_fn(answer))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn police_pings(mut self, policy: PingPolicy) -> Self {
        self.core.police(policy);
        self
    }

    /// Returns a handle to the connection. Its requests in flight count as one.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.core.watched().handle()
    }

    /// Returns a reference to the inner IO.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }
}

/// The IO as both of its halves, for the length of one poll.
struct Halves<'a, T> {
    io: T,
    core: &'a mut Core,
}

impl<T> AsyncRead for Halves<'_, T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Halves { io, core } = self.get_mut();
        core.poll_read(io, cx, buffer)
    }
}

impl<T> AsyncWrite for Halves<'_, T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Halves { io, core } = self.get_mut();
        core.poll_flush(io, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Halves { io, core } = self.get_mut();
        core.poll_shutdown(io, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Halves { io, core } = self.get_mut();
        core.poll_write(io, cx, slices)
    }
}

impl<T> PingIo<T> {
    fn halves(self: Pin<&mut Self>) -> Halves<'_, Pin<&mut T>> {
        let this = self.project();
        Halves {
            io: this.inner,
            core: this.core,
        }
    }
}

impl<T> AsyncRead for PingIo<T>
where
    T: AsyncRead + AsyncWrite,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.halves()).poll_read(cx, buffer)
    }
}

impl<T> AsyncWrite for PingIo<T>
where
    T: AsyncRead + AsyncWrite,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.halves()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.halves()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.halves()).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.halves()).poll_write_vectored(cx, slices)
    }
}

#[cfg(feature = "hyper")]
mod hyper_io {
    //! hyper's IO is tokio's from inside and outside: the bytes of its read buffers can be looked at
    //! only so.

    use hyper::rt;
    use hyper_util::rt::TokioIo;

    use super::{Context, Halves, IoSlice, Pin, PingIo, Poll, io};

    impl<T> PingIo<T> {
        fn hyper_halves(self: Pin<&mut Self>) -> TokioIo<Halves<'_, TokioIo<Pin<&mut T>>>> {
            let Halves { io, core } = self.halves();
            let io = TokioIo::new(io);
            TokioIo::new(Halves { io, core })
        }
    }

    impl<T> rt::Read for PingIo<T>
    where
        T: rt::Read + rt::Write,
    {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: rt::ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            rt::Read::poll_read(Pin::new(&mut self.hyper_halves()), cx, buffer)
        }
    }

    impl<T> rt::Write for PingIo<T>
    where
        T: rt::Read + rt::Write,
    {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            rt::Write::poll_write(Pin::new(&mut self.hyper_halves()), cx, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            rt::Write::poll_flush(Pin::new(&mut self.hyper_halves()), cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            rt::Write::poll_shutdown(Pin::new(&mut self.hyper_halves()), cx)
        }

        fn is_write_vectored(&self) -> bool {
            self.inner.is_write_vectored()
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            rt::Write::poll_write_vectored(Pin::new(&mut self.hyper_halves()), cx, slices)
        }
    }
}

#[cfg(feature = "client-legacy")]
impl<T> hyper_util::client::legacy::connect::Connection for PingIo<T>
where
    T: hyper_util::client::legacy::connect::Connection,
{
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        self.inner.connected().extra(self.handle())
    }
}
