//! Pings that don't go through the service, and none at all.

use std::{
    convert::Infallible,
    fmt,
    future::Pending,
    task::{Context, Poll},
};

use super::{Ping, PingError, PingSource};

/// Pings with `ping`, a handle of the protocol's own, for every connection the same.
///
/// Where each connection has its own handle, [`from_service`] asks the service for it.
pub fn out_of_band<P>(ping: P) -> OutOfBand<P>
where
    P: Ping + Clone,
{
    OutOfBand(ping)
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
///         async move { Ok(pinger.ping().await?) }
///     }))
/// });
/// let layer = HeartbeatLayer::new(Config::default(), ping);
/// # fn check<L: tower::Layer<Connection>>(_: L) {}
/// # check(layer);
/// ```
pub fn from_service<S, F, P>(attach: F) -> FromService<F>
where
    F: Fn(&S) -> Option<P>,
    P: Ping,
{
    FromService(attach)
}

/// Makes a [`Ping`] of a closure: each call sends one, and its future is the pong.
///
/// The ping counts as out once that future has been polled.
pub fn from_fn<F, Fut>(ping: F) -> FromFn<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), PingError>>,
{
    FromFn(ping)
}

/// No pings: only `idle_timeout` and `quiet_timeout` end a connection.
#[must_use]
pub fn none() -> NoPings {
    NoPings
}

/// The source of [`out_of_band`].
#[derive(Clone, Copy, Debug)]
pub struct OutOfBand<P>(P);

impl<S, P> PingSource<S> for OutOfBand<P>
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
pub struct FromService<F>(F);

impl<S, F, P> PingSource<S> for FromService<F>
where
    F: Fn(&S) -> Option<P>,
    P: Ping,
{
    type Ping = P;

    fn attach(&self, service: &S) -> Option<P> {
        (self.0)(service)
    }
}

impl<F> fmt::Debug for FromService<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromService").finish_non_exhaustive()
    }
}

/// The ping of [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F, Fut> Ping for FromFn<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), PingError>>,
{
    type Pong = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        Poll::Ready(Ok(()))
    }

    fn ping(&mut self) -> Self::Pong {
        (self.0)()
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

/// The source of [`none`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoPings;

impl<S> PingSource<S> for NoPings {
    type Ping = NoPing;

    fn attach(&self, _: &S) -> Option<NoPing> {
        None
    }
}

/// The pings of [`none`]: there is no value of it.
#[derive(Clone, Copy, Debug)]
pub struct NoPing(Infallible);

impl Ping for NoPing {
    type Pong = Pending<Result<(), PingError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        match self.0 {}
    }

    fn ping(&mut self) -> Self::Pong {
        match self.0 {}
    }
}
