//! A closure on a ready clone of the service as a ping.

use std::{
    fmt,
    marker::PhantomData,
    num::NonZeroU32,
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
        max_concurrent_requests: None,
        request: PhantomData,
    }
}

/// The source of [`with_service`].
pub struct ServiceSource<Req, F> {
    ping: F,
    max_concurrent_requests: Option<NonZeroU32>,
    request: PhantomData<fn(Req)>,
}

impl<Req, F> ServiceSource<Req, F> {
    /// Tells how many requests the peer works on at a time, pings included: over HTTP/2 its
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`, of which neither hyper nor tonic tells.
    ///
    /// While so many are in flight no ping is made, since it would wait behind them in the transport's
    /// queue, unseen, and slow requests would look like a dead peer; see
    /// [`ping`](super#a-peer-that-works-on-few-requests-at-a-time). Then only
    /// [`quiet_timeout`](crate::ConfigBuilder::quiet_timeout) watches the peer.
    /// It has to be what this connection's requests can use: those that others send beside the heartbeat are not
    /// counted.
    ///
    /// Default: none, pings are made however many are in flight.
    #[doc(alias = "max_concurrent_streams")]
    #[must_use]
    pub fn max_concurrent_requests(mut self, limit: NonZeroU32) -> Self {
        self.max_concurrent_requests = Some(limit);
        self
    }
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
            max_concurrent_requests: self.max_concurrent_requests,
            request: PhantomData,
        })
    }
}

/// The pings of one connection, made by [`with_service`].
pub struct ServicePing<Req, S, F> {
    service: S,
    ping: F,
    max_concurrent_requests: Option<NonZeroU32>,
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

    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        self.max_concurrent_requests
    }
}

impl<Req, F> Clone for ServiceSource<Req, F>
where
    F: Clone,
{
    fn clone(&self) -> Self {
        ServiceSource {
            ping: self.ping.clone(),
            max_concurrent_requests: self.max_concurrent_requests,
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
