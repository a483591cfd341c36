//! A heartbeat for each connection that a `MakeService` makes.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    completion::CompleteOnResponse,
    layer::HeartbeatLayer,
    ping::{Ping, PingSource},
    service::Heartbeat,
};

/// Wraps a `MakeService`, so that one [`HeartbeatLayer`] wraps each connection that it makes.
///
/// For makers that have none of their own: the `Connect`s of the `hyper` feature have one inside.
/// The connections share the layer's driver, and are closed as any others that the layer wraps.
///
/// ```
/// use std::convert::Infallible;
/// use tower::{Layer, Service, ServiceExt, reconnect::Reconnect};
/// use tower_heartbeat::{Config, HeartbeatLayer, make::MakeHeartbeatLayer, ping};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_heartbeat::BoxError> {
/// let connect = tower::service_fn(|_address: &'static str| {
///     let connection = tower::service_fn(|request: &'static str| async move {
///         Ok::<_, std::io::Error>(request.replace('I', "O"))
///     });
///     std::future::ready(Ok::<_, Infallible>(connection))
/// });
/// let heartbeat = HeartbeatLayer::new(Config::default(), ping::request(|| "PING"));
/// let make = MakeHeartbeatLayer::new(heartbeat).layer(connect);
///
/// let mut client = Reconnect::new(make, "localhost");
/// assert_eq!(client.ready().await?.call("PING").await?, "PONG");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MakeHeartbeatLayer<P, C = CompleteOnResponse> {
    layer: HeartbeatLayer<P, C>,
}

impl<P, C> MakeHeartbeatLayer<P, C> {
    /// Creates it from the layer that is to wrap the connections.
    #[must_use]
    pub fn new(layer: HeartbeatLayer<P, C>) -> Self {
        MakeHeartbeatLayer { layer }
    }
}

impl<M, P, C> Layer<M> for MakeHeartbeatLayer<P, C>
where
    P: Clone,
    C: Clone,
{
    type Service = MakeHeartbeat<M, P, C>;

    fn layer(&self, inner: M) -> Self::Service {
        MakeHeartbeat {
            inner,
            layer: self.layer.clone(),
        }
    }
}

impl<P, C> fmt::Debug for MakeHeartbeatLayer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeHeartbeatLayer")
            .field("layer", &self.layer)
            .finish()
    }
}

/// A `MakeService` of connections with a heartbeat. Made by [`MakeHeartbeatLayer`].
#[derive(Clone)]
pub struct MakeHeartbeat<M, P, C = CompleteOnResponse> {
    inner: M,
    layer: HeartbeatLayer<P, C>,
}

impl<M, P, C, Target> Service<Target> for MakeHeartbeat<M, P, C>
where
    M: Service<Target>,
    P: PingSource<M::Response> + Clone,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
    C: Clone,
{
    type Response = Heartbeat<M::Response, C>;
    type Error = M::Error;
    type Future = MakeFuture<M::Future, P, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        MakeFuture {
            inner: self.inner.call(target),
            layer: self.layer.clone(),
        }
    }
}

impl<M, P, C> fmt::Debug for MakeHeartbeat<M, P, C>
where
    M: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeHeartbeat")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

pin_project! {
    /// A connection in the making.
    #[must_use = "futures do nothing unless polled"]
    pub struct MakeFuture<F, P, C = CompleteOnResponse> {
        #[pin]
        inner: F,
        layer: HeartbeatLayer<P, C>,
    }
}

impl<F, P, C, S, E> Future for MakeFuture<F, P, C>
where
    F: Future<Output = Result<S, E>>,
    P: PingSource<S>,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
    C: Clone,
{
    type Output = Result<Heartbeat<S, C>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let made = this.inner.poll(cx);
        made.map_ok(|connection| this.layer.layer(connection))
    }
}

impl<F, P, C> fmt::Debug for MakeFuture<F, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeFuture").finish_non_exhaustive()
    }
}
