//! Pings that don't go through the service, and none at all.

use std::{
    convert::Infallible,
    fmt,
    future::Pending,
    task::{Context, Poll},
};

use super::{FnPong, Ping, PingError, PingSource};

/// Pings with `ping`, a handle of the protocol's own, for every connection the same.
///
/// Where each connection has its own handle, [`from_service`] asks the service for it.
pub fn out_of_band<P>(ping: P) -> OutOfBandSource<P>
where
    P: Ping + Clone,
{
    OutOfBandSource(ping)
}

/// Pings with the handle that `attach` takes from each connection's service; `None` leaves that
/// connection without pings.
///
/// ```
/// use tower_heartbeat::{Config, HeartbeatLayer, ping};
/// # #[derive(Clone)] struct Pinger;
/// # impl Pinger { async fn ping(&self) -> std::io::Result<()> { Ok(()) } }
/// # struct Connection { pinger: Pinger }
///
/// let ping = ping::from_service(|connection: &Connection| {
///     let pinger = connection.pinger.clone();
///     Some(ping::from_fn(move || {
///         let pinger = pinger.clone();
///         async move { pinger.ping().await }
///     }))
/// });
/// let layer = HeartbeatLayer::new(Config::default(), ping);
/// # fn check<L: tower::Layer<Connection>>(_: L) {}
/// # check(layer);
/// ```
pub fn from_service<S, F, P>(attach: F) -> FromServiceSource<F>
where
    F: Fn(&S) -> Option<P>,
    P: Ping,
{
    FromServiceSource(attach)
}

/// Makes a [`Ping`] of a closure: each call sends one, and its future is the pong.
///
/// The ping counts as out once that future has been polled. It is a ping, not yet a source: give
/// it to [`out_of_band`], or return it from [`from_service`]'s closure.
pub fn from_fn<F, Fut, E>(ping: F) -> FnPing<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<PingError>,
{
    FnPing(ping)
}

/// No pings: only `idle_timeout` and `quiet_timeout` end a connection.
#[must_use]
pub fn none() -> NoneSource {
    NoneSource
}

/// The source of [`out_of_band`].
#[derive(Clone, Copy, Debug)]
pub struct OutOfBandSource<P>(P);

impl<S, P> PingSource<S> for OutOfBandSource<P>
where
    P: Ping + Clone,
{
    type Ping = P;

    fn attach(&self, _: &S) -> Option<P> {
        Some(self.0.clone())
    }
}

/// The source of [`from_service`].
#[derive(Clone, Copy)]
pub struct FromServiceSource<F>(F);

impl<S, F, P> PingSource<S> for FromServiceSource<F>
where
    F: Fn(&S) -> Option<P>,
    P: Ping,
{
    type Ping = P;

    fn attach(&self, service: &S) -> Option<P> {
        (self.0)(service)
    }
}

impl<F> fmt::Debug for FromServiceSource<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromServiceSource").finish_non_exhaustive()
    }
}

/// The ping of [`from_fn`].
#[derive(Clone, Copy)]
pub struct FnPing<F>(F);

impl<F, Fut, E> Ping for FnPing<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<PingError>,
{
    type Pong = FnPong<Fut>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        Poll::Ready(Ok(()))
    }

    fn ping(&mut self) -> Self::Pong {
        FnPong::new((self.0)())
    }
}

impl<F> fmt::Debug for FnPing<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnPing").finish_non_exhaustive()
    }
}

/// The source of [`none`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoneSource;

impl<S> PingSource<S> for NoneSource {
    type Ping = NonePing;

    fn attach(&self, _: &S) -> Option<NonePing> {
        None
    }
}

/// The pings of [`none`]: there is no value of it.
#[derive(Clone, Copy, Debug)]
pub struct NonePing(Infallible);

impl Ping for NonePing {
    type Pong = Pending<Result<(), PingError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        match self.0 {}
    }

    fn ping(&mut self) -> Self::Pong {
        match self.0 {}
    }
}
