//! Connections of hyper's, HTTP/1 and HTTP/2, driven with their limits.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, rt, service::HttpService};
use hyper_util::{
    rt::TokioExecutor,
    server::conn::auto::{Builder, HttpServerConnExec, UpgradeableConnection},
};
use pin_project_lite::pin_project;

use super::{
    body::{RequestBody, ResponseBody},
    connections::Connections,
    handle::Handle,
    io::ServedIo,
    phase::Action,
    reason::{Ended, Reason},
    service::{CountedFuture, CountedService},
    watch::Watch,
    wire::Wire,
};
use crate::{
    error::{BoxError, chain},
    lanes::Lane,
};

impl Connections {
    /// Serves HTTP/1 or HTTP/2, whichever the client speaks, on `io` with `service`, on tokio's runtime.
    ///
    /// As [`serve_connection_with`](Connections::serve_connection_with), with hyper's defaults.
    pub fn serve_connection<I, S, B>(
        &self,
        io: I,
        service: S,
    ) -> ServeConnection<I, S, TokioExecutor>
    where
        S: hyper::service::Service<Request<RequestBody>, Response = Response<B>>,
        S::Future: 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
        I: rt::Read + rt::Write + Unpin + Send + 'static,
        TokioExecutor: HttpServerConnExec<CountedFuture<S::Future>, ResponseBody<B>>,
    {
        self.serve_connection_with(&Builder::new(TokioExecutor::new()), io, service)
    }

    /// Serves HTTP/1 or HTTP/2 on `io` with `service` as `builder` says, upgrades included, until the connection has
    /// ended by itself or by one of the [`Limits`](super::Limits), which run from now on.
    ///
    /// The builder's `http1_only` and `http2_only` do nothing here, as wherever hyper-util serves upgrades.
    ///
    /// The service gets requests whose body is a [`RequestBody`] and whose extensions have the [`Handle`]. One of tower's goes
    /// in hyper-util's `TowerToHyperService`.
    pub fn serve_connection_with<I, S, B, E>(
        &self,
        builder: &Builder<E>,
        io: I,
        service: S,
    ) -> ServeConnection<I, S, E>
    where
        S: hyper::service::Service<Request<RequestBody>, Response = Response<B>>,
        S::Future: 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
        I: rt::Read + rt::Write + Unpin + Send + 'static,
        E: HttpServerConnExec<CountedFuture<S::Future>, ResponseBody<B>> + Clone + 'static,
    {
        let shared = self.accept(false);
        let io = ServedIo::new(io, Wire::driven(Arc::clone(&shared)));
        let service = CountedService::new(service, Arc::clone(&shared));
        let connection = builder.serve_connection_with_upgrades(io, service);
        ServeConnection {
            connection: Some(connection.into_owned()),
            watch: Watch::new(shared),
        }
    }
}

pin_project! {
    /// One connection and its limits, as [`Connections::serve_connection`] serves it. It resolves when the
    /// connection is over, and says how that came.
    ///
    /// An error of the connection is in there as well: nothing that a client does is an error of the server.
    ///
    /// # Panics
    ///
    /// A poll panics outside of a tokio runtime with time enabled, if any limit runs.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection at once, with [`Reason::Closed`]. Over HTTP/2 hyper runs handlers in
    /// tasks of their own, which end soon after.
    #[must_use = "futures do nothing unless polled"]
    pub struct ServeConnection<I, S, E>
    where
        CountedService<S>: HttpService<Incoming>,
        E: 'static,
    {
        #[pin]
        connection: Option<UpgradeableConnection<'static, ServedIo<I>, CountedService<S>, E>>,
        watch: Watch,
    }

    impl<I, S, E> PinnedDrop for ServeConnection<I, S, E>
    where
        CountedService<S>: HttpService<Incoming>,
        E: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.connection.set(None);
            this.watch.shared.end(Reason::Closed, None);
        }
    }
}

impl<I, S, E> ServeConnection<I, S, E>
where
    CountedService<S>: HttpService<Incoming>,
    E: 'static,
{
    /// Returns a handle to the connection.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.watch.shared))
    }
}

impl<I, S, B, E> Future for ServeConnection<I, S, E>
where
    S: hyper::service::Service<Request<RequestBody>, Response = Response<B>>,
    S::Future: 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    I: rt::Read + rt::Write + Unpin + Send + 'static,
    E: HttpServerConnExec<CountedFuture<S::Future>, ResponseBody<B>> + 'static,
{
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut this = self.project();
        loop {
            if let Some(connection) = this.connection.as_mut().as_pin_mut()
                && let Poll::Ready(result) = connection.poll(cx)
            {
                // An IO that is still there then has become somebody else's.
                this.connection.set(None);
                let shared = &this.watch.shared;
                let (reason, error) = match result {
                    Ok(()) if shared.io_is_gone() => (Reason::ClientClosed, None),
                    Ok(()) => (Reason::Upgraded, None),
                    Err(error) if is_called_off(&*error) => (Reason::Shutdown, None),
                    Err(error) => (reason_of(&*error), Some(error)),
                };
                return Poll::Ready(shared.end(reason, error.map(Arc::from)));
            }
            match ready!(this.watch.poll(Lane::Read, cx)) {
                Action::Drain(_) => {
                    if let Some(connection) = this.connection.as_mut().as_pin_mut() {
                        connection.graceful_shutdown();
                    }
                }
                Action::Force(reason) => {
                    this.connection.set(None);
                    return Poll::Ready(this.watch.shared.end(reason, None));
                }
            }
        }
    }
}

impl<I, S, E> fmt::Debug for ServeConnection<I, S, E>
where
    CountedService<S>: HttpService<Incoming>,
    E: 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeConnection")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

/// Whether it was told to leave before it had read anything: then it knows no better order.
fn is_called_off(error: &(dyn StdError + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

/// What an error of the connection says of its client.
fn reason_of(error: &(dyn StdError + 'static)) -> Reason {
    for cause in chain(error) {
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return Reason::Dead;
            }
            if error.is_incomplete_message() || error.is_closed() {
                return Reason::ClientClosed;
            }
        }
        let kind = match cause.downcast_ref::<h2::Error>() {
            Some(error) => error.get_io().map(io::Error::kind),
            None => cause.downcast_ref::<io::Error>().map(io::Error::kind),
        };
        if kind.is_some_and(is_of_client) {
            return Reason::ClientClosed;
        }
    }
    Reason::Error
}

fn is_of_client(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}
