//! A `MakeService` of tonic's channels with a heartbeat.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, Write};
use tonic::transport::{Channel, Endpoint};
use tower_layer::Layer;
use tower_service::Service;

use super::tasks::Tasks;
use crate::{
    error::BoxError,
    http::CompleteOnBody,
    hyper::http2::{ConnectError, MakeFuture},
    layer::HeartbeatLayer,
    ping::{Ping, PingSource},
    service::Heartbeat,
};

/// Connects an [`Endpoint`] and wraps its channel in a heartbeat, each in one of its own.
///
/// The result is ready for `tower::reconnect::Reconnect`, which drops a channel that died and connects
/// another; see the [module](super) for the whole stack. The endpoint is used as it is, with its TLS,
/// limits and time-outs, but for its executor: the channel's tasks run where the layer's driver
/// does ([`HeartbeatLayer::executor`]).
///
/// [`Endpoint::connect_timeout`] bounds all of the connecting, the TLS handshake included. Without one
/// nothing does, and a frozen server that still takes connections can hold it up for ever; a `Timeout`
/// around `Reconnect` does not see it.
///
/// ```no_run
/// use std::time::Duration;
/// use tonic::transport::Endpoint;
/// use tower::{ServiceBuilder, reconnect::Reconnect};
/// use tower_heartbeat::{Config, HeartbeatLayer, tonic::{ConnectChannel, StatusLayer, health}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), tower_heartbeat::BoxError> {
/// let heartbeat = HeartbeatLayer::new(Config::detect_within(Duration::from_secs(10))?, health());
/// let endpoint = Endpoint::from_static("http://localhost:50051")
///     .connect_timeout(Duration::from_secs(5));
///
/// let channel = ServiceBuilder::new()
///     .layer(StatusLayer::new())
///     .buffer(64)
///     .service(Reconnect::new(ConnectChannel::new(heartbeat), endpoint));
/// # let _client = tonic_health::pb::health_client::HealthClient::new(channel);
/// # Ok(())
/// # }
/// ```
///
/// # The end of a channel
///
/// When the heartbeat ends, for whatever reason, all tasks of the channel are dropped, and its connection
/// is closed with them. Dropping the `Channel` would not do that while a response's body is
/// held, or an upload waits for a peer that is gone.
///
/// While the heartbeat lives, the channel reconnects below by itself when the peer closes or resets its
/// connection. What was in flight then fails with tonic's own error.
///
/// # Cancel safety
///
/// Dropping the future of a call drops the connection.
///
/// # Clone
///
/// Clones share nothing but the layer's driver.
pub struct ConnectChannel<P> {
    layer: HeartbeatLayer<P, CompleteOnBody>,
    dial: Dial,
}

type Dial = Arc<dyn Fn(Endpoint) -> Dialing + Send + Sync>;

type Dialing = Pin<Box<dyn Future<Output = Result<Channel, tonic::transport::Error>> + Send>>;

impl<P> ConnectChannel<P> {
    /// Creates it with tonic's own connector. Requests are in flight to the end of their response's
    /// body, whatever `layer` says.
    #[must_use]
    pub fn new<T>(layer: HeartbeatLayer<P, T>) -> Self {
        ConnectChannel {
            layer: layer.completion(CompleteOnBody::default()),
            dial: Arc::new(|endpoint| Box::pin(async move { endpoint.connect().await })),
        }
    }

    /// Connects with `connector`, as [`Endpoint::connect_with_connector`] does.
    ///
    /// Default: [`Endpoint::connect`].
    #[must_use]
    pub fn connector<C>(mut self, connector: C) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Read + Write + Send + Unpin,
        C::Future: Send,
        BoxError: From<C::Error>,
    {
        self.dial = Arc::new(move |endpoint| {
            let connector = connector.clone();
            Box::pin(async move { endpoint.connect_with_connector(connector).await })
        });
        self
    }
}

impl<P> Service<Endpoint> for ConnectChannel<P>
where
    P: PingSource<Channel> + Clone + Send + 'static,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
{
    type Response = Heartbeat<Channel, CompleteOnBody>;
    type Error = ConnectError;
    type Future = MakeFuture<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, endpoint: Endpoint) -> Self::Future {
        let layer = self.layer.clone();
        let dial = Arc::clone(&self.dial);
        MakeFuture::new(async move {
            let tasks = Tasks::new();
            let bound = endpoint.get_connect_timeout();
            let endpoint = endpoint.executor(tasks.executor(layer.spawner()));
            let channel = within(bound, dial(endpoint)).await?;
            let service = layer.layer(channel);
            service.handle().on_end(move |_| drop(tasks));
            Ok(service)
        })
    }
}

/// tonic's own bound ends with the TCP connection.
async fn within(bound: Option<Duration>, dialing: Dialing) -> Result<Channel, ConnectError> {
    let channel = match bound {
        Some(bound) => tokio::time::timeout(bound, dialing)
            .await
            .map_err(|late| ConnectError::Connector(late.into()))?,
        None => dialing.await,
    };
    channel.map_err(|error| ConnectError::Connector(error.into()))
}

impl<P> Clone for ConnectChannel<P>
where
    P: Clone,
{
    fn clone(&self) -> Self {
        ConnectChannel {
            layer: self.layer.clone(),
            dial: Arc::clone(&self.dial),
        }
    }
}

impl<P> fmt::Debug for ConnectChannel<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectChannel")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::{Config, ping};

    #[tokio::test(start_paused = true)]
    async fn the_connect_timeout_bounds_all_that_comes_before_the_channel() {
        let connect = HeartbeatLayer::new(Config::default(), ping::none());
        let mut connect = ConnectChannel::new(connect);
        connect.dial = Arc::new(|_| Box::pin(pending()));
        let endpoint = Endpoint::from_static("http://localhost");
        let bound = Duration::from_secs(5);
        let making = connect.call(endpoint.clone().connect_timeout(bound));
        let making = tokio::time::timeout(bound * 2, making).await;
        let error = making.expect("it is bounded").expect_err("nobody answers");
        assert!(
            matches!(error, ConnectError::Connector(e) if e.is::<tokio::time::error::Elapsed>())
        );
    }
}
