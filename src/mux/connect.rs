//! A `MakeService` of connections of messages with a heartbeat.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};
use tower_layer::Layer;
use tower_service::Service;

use super::{builder::Builder, connection::drive, error::ConnectError, service::Mux};
use crate::{
    completion::CompleteOnResponse,
    error::BoxError,
    layer::HeartbeatLayer,
    ping::{Ping, PingSource},
    service::Heartbeat,
    transport::{Ids, Protocol},
};

/// Connects, makes a [`Mux`] of the transport, wraps it in a heartbeat, and runs it.
///
/// `connector` is a service from any target to a transport; the result is ready for
/// `tower::reconnect::Reconnect`. See the [module](super) for the whole stack.
///
/// A message counts as a sign of life when it is whole. Where a long one would look like silence, a closure makes the connection, with an
/// ear:
///
/// ```
/// use std::{io, net::SocketAddr};
///
/// use tokio::net::TcpStream;
/// use tokio_util::codec::{Framed, LinesCodec};
/// use tower::{Layer, service_fn};
/// use tower_heartbeat::{Config, HeartbeatLayer, mux, transport::{self, Lines}};
///
/// let layer = HeartbeatLayer::new(Config::default(), mux::ping());
/// let lines = mux::in_order(Lines::new());
/// let connect = service_fn(move |address: SocketAddr| {
///     let (layer, lines) = (layer.clone(), lines.clone());
///     async move {
///         let (socket, ear) = transport::hear(TcpStream::connect(address).await?);
///         let (mux, connection) = lines.pair(Framed::new(socket, LinesCodec::new()));
///         let service = layer.layer(mux);
///         tokio::spawn(mux::drive(connection.hear_bytes(&ear), service.handle()));
///         io::Result::Ok(service)
///     }
/// });
/// # fn is_a_service<S: tower::Service<SocketAddr>>(_: S) {}
/// # is_a_service(connect);
/// ```
///
/// The time that connecting takes is not bounded here, nor by a `Timeout` around `Reconnect`,
/// which connects while it becomes ready: put a `Timeout` around the connector.
pub struct Connect<C, H, P, I, D = CompleteOnResponse>
where
    P: Protocol,
{
    connector: C,
    layer: HeartbeatLayer<H, D>,
    builder: Builder<P, I>,
}

impl<C, H, P, I, D> Connect<C, H, P, I, D>
where
    P: Protocol,
{
    /// Creates it; each connection gets clones of `builder`'s protocol and ids.
    #[must_use]
    pub fn new(connector: C, layer: HeartbeatLayer<H, D>, builder: Builder<P, I>) -> Self {
        Connect {
            connector,
            layer,
            builder,
        }
    }
}

impl<C, H, P, I, D, Target, E> Service<Target> for Connect<C, H, P, I, D>
where
    C: Service<Target>,
    C::Response: Stream<Item = Result<P::Message, E>>
        + Sink<P::Message, Error: Into<BoxError>>
        + Send
        + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    E: Into<BoxError>,
    H: PingSource<Mux<P::Message>> + Clone + Send + 'static,
    H::Ping: Send + 'static,
    <H::Ping as Ping>::Pong: Send,
    P: Protocol<Message: Send> + Clone + Send + 'static,
    I: Ids<P::Message> + Clone + Send + 'static,
    D: Clone + Send + 'static,
{
    type Response = Heartbeat<Mux<P::Message>, D>;
    type Error = ConnectError;
    type Future = MakeFuture<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.connector
            .poll_ready(cx)
            .map_err(|error| ConnectError::Connector(error.into()))
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let transport = self.connector.call(target);
        let layer = self.layer.clone();
        let builder = self.builder.clone();
        MakeFuture {
            inner: Box::pin(async move {
                let transport = transport
                    .await
                    .map_err(|error| ConnectError::Connector(error.into()))?;
                let (mux, connection) = builder.pair(transport);
                let service = layer.layer(mux);
                layer.spawn(Box::pin(drive(connection, service.handle())));
                Ok(service)
            }),
        }
    }
}

impl<C, H, P, I, D> Clone for Connect<C, H, P, I, D>
where
    C: Clone,
    H: Clone,
    P: Protocol + Clone,
    I: Clone,
    D: Clone,
{
    fn clone(&self) -> Self {
        Connect {
            connector: self.connector.clone(),
            layer: self.layer.clone(),
            builder: self.builder.clone(),
        }
    }
}

impl<C, H, P, I, D> fmt::Debug for Connect<C, H, P, I, D>
where
    P: Protocol,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("layer", &self.layer)
            .field("builder", &self.builder)
            .finish_non_exhaustive()
    }
}

/// A connection in the making; its output is the service `S`, or why there is none.
///
/// # Cancel safety
///
/// Dropping it drops the connection.
#[must_use = "futures do nothing unless polled"]
pub struct MakeFuture<S> {
    inner: Pin<Box<dyn Future<Output = Result<S, ConnectError>> + Send>>,
}

impl<S> Future for MakeFuture<S> {
    type Output = Result<S, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<S> fmt::Debug for MakeFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeFuture").finish_non_exhaustive()
    }
}
