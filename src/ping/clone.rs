//! A closure on a ready clone of the service as a ping.

use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Ping, PingError, PingSource};
use crate::error::BoxError;

/// Pings with what `ping` does with a clone of the wrapped service.
///
/// The clone is handed over *ready*: `call` it once without polling it again; further calls poll
/// it first. Everything that the future does counts as pong wait. `Req` is the request type whose
/// readiness is awaited; it has to be named where the service takes more than one.
///
/// ```
/// use tower::{Service, ServiceExt, util::BoxCloneService};
/// use tower_heartbeat::{BoxError, Config, HeartbeatLayer, ping};
///
/// type Connection = BoxCloneService<&'static str, String, BoxError>;
///
/// let ping = ping::service_fn(|mut service: Connection| async move {
///     service.call("HELLO").await?;
///     service.ready().await?.call("PING").await?;
///     Ok(())
/// });
/// let layer = HeartbeatLayer::new(Config::default(), ping);
/// # fn check<L: tower::Layer<Connection>>(_: L) {}
/// # check(layer);
/// ```
pub fn service_fn<Req, F, S, Fut>(ping: F) -> ServiceFn<Req, F>
where
    F: Fn(S) -> Fut + Clone,
    S: Service<Req>,
    Fut: Future<Output = Result<(), PingError>>,
{
    ServiceFn {
        ping,
        request: PhantomData,
    }
}

/// The source of [`service_fn`].
pub struct ServiceFn<Req, F> {
    ping: F,
    request: PhantomData<fn(Req)>,
}

impl<Req, F, S, Fut> PingSource<S> for ServiceFn<Req, F>
where
    F: Fn(S) -> Fut + Clone,
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    Fut: Future<Output = Result<(), PingError>>,
{
    type Ping = ServiceFnPing<Req, S, F>;

    fn attach(&self, service: &S) -> Option<Self::Ping> {
        Some(ServiceFnPing {
            service: service.clone(),
            ping: self.ping.clone(),
            request: PhantomData,
        })
    }
}

/// The pings of one connection, made by [`service_fn`].
pub struct ServiceFnPing<Req, S, F> {
    service: S,
    ping: F,
    request: PhantomData<fn(Req)>,
}

impl<Req, S, F, Fut> Ping for ServiceFnPing<Req, S, F>
where
    F: Fn(S) -> Fut,
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    Fut: Future<Output = Result<(), PingError>>,
{
    type Pong = Fut;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        self.service.poll_ready(cx).map_err(PingError::new)
    }

    fn ping(&mut self) -> Self::Pong {
        let unready = self.service.clone();
        (self.ping)(std::mem::replace(&mut self.service, unready))
    }

    fn call_off(&mut self) {
        self.service = self.service.clone();
    }
}

impl<Req, F> Clone for ServiceFn<Req, F>
where
    F: Clone,
{
    fn clone(&self) -> Self {
        ServiceFn {
            ping: self.ping.clone(),
            request: PhantomData,
        }
    }
}

impl<Req, F> fmt::Debug for ServiceFn<Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceFn").finish_non_exhaustive()
    }
}

impl<Req, S, F> fmt::Debug for ServiceFnPing<Req, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceFnPing").finish_non_exhaustive()
    }
}
