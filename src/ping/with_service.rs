//! A closure on a ready clone of the service as a ping.

use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{FnPong, Ping, PingError, PingSource};
use crate::error::BoxError;

/// Pings with what `ping` does with a clone of the wrapped service.
///
/// The clone is handed over *ready*: `call` it once without polling it again; further calls poll
/// it first. Everything that the future does counts as pong wait. The closure names its
/// parameter's type; `Req`, the request type whose readiness is awaited, has to be named only
/// where the service takes more than one.
///
/// ```
/// use tower::{Service, ServiceExt, util::BoxCloneService};
/// use tower_heartbeat::{BoxError, Config, HeartbeatLayer, ping};
///
/// type Connection = BoxCloneService<&'static str, String, BoxError>;
///
/// let ping = ping::with_service(|mut service: Connection| async move {
///     service.call("HELLO").await?;
///     service.ready().await?.call("PING").await?;
///     Ok::<_, BoxError>(())
/// });
/// let layer = HeartbeatLayer::new(Config::default(), ping);
/// # fn check<L: tower::Layer<Connection>>(_: L) {}
/// # check(layer);
/// ```
pub fn with_service<Req, F, S, Fut, E>(ping: F) -> ServiceSource<Req, F>
where
    F: Fn(S) -> Fut + Clone,
    S: Service<Req>,
    Fut: Future<Output = Result<(), E>>,
    E: Into<PingError>,
{
    ServiceSource {
        ping,
        request: PhantomData,
    }
}

/// The source of [`with_service`].
pub struct ServiceSource<Req, F> {
    ping: F,
    request: PhantomData<fn(Req)>,
}

impl<Req, F, S, Fut, E> PingSource<S> for ServiceSource<Req, F>
where
    F: Fn(S) -> Fut + Clone,
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    Fut: Future<Output = Result<(), E>>,
    E: Into<PingError>,
{
    type Ping = ServicePing<Req, S, F>;

    fn attach(&self, service: &S) -> Option<Self::Ping> {
        Some(ServicePing {
            service: service.clone(),
            ping: self.ping.clone(),
            request: PhantomData,
        })
    }
}

/// The pings of one connection, made by [`with_service`].
pub struct ServicePing<Req, S, F> {
    service: S,
    ping: F,
    request: PhantomData<fn(Req)>,
}

impl<Req, S, F, Fut, E> Ping for ServicePing<Req, S, F>
where
    F: Fn(S) -> Fut,
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    Fut: Future<Output = Result<(), E>>,
    E: Into<PingError>,
{
    type Pong = FnPong<Fut>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        self.service.poll_ready(cx).map_err(PingError::new)
    }

    fn ping(&mut self) -> Self::Pong {
        let unready = self.service.clone();
        FnPong::new((self.ping)(std::mem::replace(&mut self.service, unready)))
    }

    fn call_off(&mut self) {
        self.service = self.service.clone();
    }
}

impl<Req, F> Clone for ServiceSource<Req, F>
where
    F: Clone,
{
    fn clone(&self) -> Self {
        ServiceSource {
            ping: self.ping.clone(),
            request: PhantomData,
        }
    }
}

impl<Req, F> fmt::Debug for ServiceSource<Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSource").finish_non_exhaustive()
    }
}

impl<Req, S, F> fmt::Debug for ServicePing<Req, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServicePing").finish_non_exhaustive()
    }
}
