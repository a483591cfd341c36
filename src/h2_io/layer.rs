//! A connector whose HTTP/2 connections are pinged.

use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ping_io::PingIo,
    policing::{Complaints, Policing, Target},
    registry::Registry,
    watched::Watched,
};
use crate::{
    config::Config,
    event::Event,
    handle::{Handle, observer},
    inline::Inline,
    link::Observer,
};

/// Has the HTTP/2 connections of a connector pinged; see the [module](super).
///
/// # Clone
///
/// Clones, and the connectors that they wrap, share what peers said of their pings, and which connection
/// ended why.
#[derive(Clone)]
pub struct PingLayer {
    shared: Arc<Shared>,
    on_connect: Option<OnConnect>,
    observer: Option<Observer>,
}

type OnConnect = Arc<dyn Fn(&Handle) + Send + Sync>;

struct Shared {
    config: Arc<Config>,
    policing: Arc<Policing>,
    registry: Arc<Registry>,
}

impl PingLayer {
    /// Creates a layer for connections that are pinged as `config` says.
    #[must_use]
    pub fn new(config: Config) -> Self {
        PingLayer {
            shared: Arc::new(Shared {
                config: Arc::new(config),
                policing: Arc::default(),
                registry: Arc::default(),
            }),
            on_connect: None,
            observer: None,
        }
    }

    /// Has `hook` called with the [`Handle`] of each connection that is made: the way to the handles
    /// below a client that makes its connections by itself.
    #[must_use]
    pub fn on_connect<F>(self, hook: F) -> Self
    where
        F: Fn(&Handle) + Send + Sync + 'static,
    {
        PingLayer {
            on_connect: Some(Arc::new(hook)),
            ..self
        }
    }

    /// Has `hook` called with each [`Event`] of each connection, as
    /// [`HeartbeatLayer::on_event`](crate::HeartbeatLayer::on_event) does: by whoever polls the connection,
    /// and at its end by whoever ends it. It must not block. A panic in it is caught and logged.
    #[must_use]
    pub fn on_event<F>(self, hook: F) -> Self
    where
        F: Fn(&Handle, &Event) + Send + Sync + 'static,
    {
        PingLayer {
            observer: Some(observer(hook)),
            ..self
        }
    }

    /// Returns the layer's settings. A peer that complained may be pinged less often:
    /// [`Handle::config`] has a connection's own.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.shared.registry
    }

    fn wrap<T>(&self, io: T, target: Target) -> PingIo<T> {
        let shared = &self.shared;
        let config = shared.policing.config_for(target, &shared.config);
        let complaints = Complaints::to(&shared.policing, target);
        let (inline, users) = Inline::new(config, self.observer.clone());
        let link = Arc::clone(&users.link);
        let watched = Watched::new(users, complaints, shared.registry.open());
        let io = PingIo::made(io, watched, inline);
        if let Some(hook) = &self.on_connect {
            hook(&io.handle());
        }
        link.tell(&Event::Connected);
        io
    }
}

impl<C> Layer<C> for PingLayer {
    type Service = PingConnector<C>;

    fn layer(&self, connector: C) -> PingConnector<C> {
        PingConnector {
            connector,
            layer: self.clone(),
        }
    }
}

impl fmt::Debug for PingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingLayer")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// A connector whose connections are [`PingIo`]s. Made by [`PingLayer`].
///
/// The time that connecting takes is not limited: put a `Timeout` around the inner connector.
#[derive(Clone, Debug)]
pub struct PingConnector<C> {
    connector: C,
    layer: PingLayer,
}

impl<C> PingConnector<C> {
    /// Returns a reference to the inner connector.
    pub fn get_ref(&self) -> &C {
        &self.connector
    }

    /// Returns a mutable reference to the inner connector.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.connector
    }

    /// Returns the inner connector.
    pub fn into_inner(self) -> C {
        self.connector
    }
}

/// Peers are told apart by `target`'s hash: one that complains about pings is pinged less often on
/// the next connection, and the others as before.
impl<C, T> Service<T> for PingConnector<C>
where
    C: Service<T>,
    T: Hash,
{
    type Response = PingIo<C::Response>;
    type Error = C::Error;
    type Future = PingFuture<C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, target: T) -> PingFuture<C::Future> {
        PingFuture {
            target: Target::of(&target),
            connecting: self.connector.call(target),
            layer: self.layer.clone(),
        }
    }
}

pin_project! {
    /// The future of a [`PingConnector`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct PingFuture<F> {
        #[pin]
        connecting: F,
        layer: PingLayer,
        target: Target,
    }
}

impl<F, T, E> Future for PingFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<PingIo<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let io = ready!(this.connecting.poll(cx))?;
        Poll::Ready(Ok(this.layer.wrap(io, *this.target)))
    }
}
