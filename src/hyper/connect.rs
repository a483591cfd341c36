//! A `MakeService` of HTTP/2 connections with a heartbeat.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
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
/// The time that connecting takes is not bounded here; a `Timeout` around the connector does it.
pub struct Connect<C, P, T, B> {
    connector: C,
    layer: HeartbeatLayer<P, T>,
    builder: http2::Builder<TokioExecutor>,
    body: PhantomData<fn(B)>,
}

/// A connection in the making.
pub type MakeFuture<B, T> =
    Pin<Box<dyn Future<Output = Result<Heartbeat<SendRequest<B>, T>, ConnectError>> + Send>>;

impl<C, P, T, B> Connect<C, P, T, B> {
    /// Creates it with hyper's defaults for HTTP/2.
    #[must_use]
    pub fn new(connector: C, layer: HeartbeatLayer<P, T>) -> Self {
        Connect {
            connector,
            layer,
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

impl<C, P, T, B, Target> Service<Target> for Connect<C, P, T, B>
where
    C: Service<Target>,
    C::Response: Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    P: PingSource<SendRequest<B>> + Clone + Send + 'static,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
    T: Clone + Send + 'static,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Heartbeat<SendRequest<B>, T>;
    type Error = ConnectError;
    type Future = MakeFuture<B, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.connector
            .poll_ready(cx)
            .map_err(|error| ConnectError::Connector(error.into()))
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let io = self.connector.call(target);
        let builder = self.builder.clone();
        let layer = self.layer.clone();
        Box::pin(async move {
            let io = io
                .await
                .map_err(|error| ConnectError::Connector(error.into()))?;
            let (send, connection) = handshake(&builder, io)
                .await
                .map_err(ConnectError::Handshake)?;
            let service = layer.layer(send);
            drop(tokio::spawn(drive(connection, service.handle())));
            Ok(service)
        })
    }
}

/// Why no connection came about.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connector failed.
    Connector(BoxError),
    /// The HTTP/2 handshake failed.
    Handshake(hyper::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::Connector(_) => "connecting failed",
            ConnectError::Handshake(_) => "http/2 handshake failed",
        })
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Connector(error) => Some(&**error),
            ConnectError::Handshake(error) => Some(error),
        }
    }
}

impl<C, P, T, B> Clone for Connect<C, P, T, B>
where
    C: Clone,
    P: Clone,
    T: Clone,
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

impl<C, P, T, B> fmt::Debug for Connect<C, P, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}
