//! A `MakeService` of HTTP/2 connections with a heartbeat.

use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use hyper::{
    client::conn::http2,
    rt::{Read, Write},
};
use hyper_util::rt::TokioExecutor;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    connection::{drive, handshake},
    send::SendRequest,
};
use crate::{
    error::BoxError,
    http::CompleteOnBody,
    hyper::{error::ConnectError, make::MakeFuture},
    layer::HeartbeatLayer,
    ping::{Ping, PingSource},
    service::Heartbeat,
};

/// Connects, shakes hands for HTTP/2, wraps the connection in a heartbeat, and drives it.
///
/// `connector` is a service from any target to an IO of hyper's (`hyper_util::rt::TokioIo` around
/// a stream of tokio's). The result is ready for `tower::reconnect::Reconnect`; see the
/// [module](super) for the whole stack.
///
/// The time that connecting takes is not bounded here, nor by a `Timeout` around `Reconnect`,
/// which connects while it becomes ready: put a `Timeout` around the connector.
pub struct Connect<C, P, B> {
    connector: C,
    layer: HeartbeatLayer<P, CompleteOnBody>,
    builder: http2::Builder<TokioExecutor>,
    body: PhantomData<fn(B)>,
}

impl<C, P, B> Connect<C, P, B> {
    /// Creates it with hyper's defaults for HTTP/2. Requests are in flight to the end of their
    /// response's body, whatever `layer` says.
    #[must_use]
    pub fn new<T>(connector: C, layer: HeartbeatLayer<P, T>) -> Self {
        Connect {
            connector,
            layer: layer.completion(CompleteOnBody::default()),
            builder: http2::Builder::new(TokioExecutor::new()),
            body: PhantomData,
        }
    }

    /// Shakes hands as `builder` says. Its own keep-alive is best left off.
    #[must_use]
    pub fn http2(mut self, builder: http2::Builder<TokioExecutor>) -> Self {
        self.builder = builder;
        self
    }
}

impl<C, P, B, Target> Service<Target> for Connect<C, P, B>
where
    C: Service<Target>,
    C::Response: Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    P: PingSource<SendRequest<B>> + Clone + Send + 'static,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Heartbeat<SendRequest<B>, CompleteOnBody>;
    type Error = ConnectError;
    type Future = MakeFuture<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.connector
            .poll_ready(cx)
            .map_err(|error| ConnectError::Connector(error.into()))
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let io = self.connector.call(target);
        let builder = self.builder.clone();
        let layer = self.layer.clone();
        MakeFuture::new(async move {
            let io = io
                .await
                .map_err(|error| ConnectError::Connector(error.into()))?;
            let (send, connection) = handshake(&builder, io)
                .await
                .map_err(ConnectError::Handshake)?;
            let service = layer.layer(send);
            layer.spawn(Box::pin(drive(connection, service.handle())));
            Ok(service)
        })
    }
}

impl<C, P, B> Clone for Connect<C, P, B>
where
    C: Clone,
    P: Clone,
{
    fn clone(&self) -> Self {
        Connect {
            connector: self.connector.clone(),
            layer: self.layer.clone(),
            builder: self.builder.clone(),
            body: PhantomData,
        }
    }
}

impl<C, P, B> fmt::Debug for Connect<C, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}
