//! The layer: settings, a source of pings, and where the driver runs.

use std::{fmt, pin::Pin, sync::Arc};

use tower_layer::Layer;

#[cfg(feature = "hyper")]
use crate::config::{ConfigError, PingWhen, Setting};
use crate::{
    completion::CompleteOnResponse,
    config::Config,
    driver::{BoxPinger, Driver, Pinned},
    event::Event,
    fleet::Fleets,
    handle::{Handle, observer},
    inbox::Inbox,
    link::{Hub, Link, Users},
    ping::{Ping, PingSource},
    service::Heartbeat,
    spawn::Spawner,
};

/// Wraps connection-level services in a [`Heartbeat`].
///
/// ```
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_heartbeat::{Config, HeartbeatLayer, ping};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_heartbeat::BoxError> {
/// # let connection = tower::service_fn(|request: &'static str| async move {
/// #     Ok::<_, std::io::Error>(request.replace('I', "O"))
/// # });
/// let mut service = ServiceBuilder::new()
///     .timeout(Duration::from_secs(60))
///     .layer(HeartbeatLayer::new(
///         Config::detect_within(Duration::from_secs(10))?,
///         ping::request(|| "PING"),
///     ))
///     .service(connection);
///
/// let answer = service.ready().await?.call("PING").await?;
/// assert_eq!(answer, "PONG");
/// # Ok(())
/// # }
/// ```
///
/// Each wrapped service is one connection. One driver watches all those of a layer (and of its
/// clones) in one runtime; it is spawned with the first of them and ends with the last. A service
/// that is wrapped outside of a tokio runtime is watched from its first poll on, in the runtime of that
/// poll; all its limits count from then.
///
/// Connections that are made together don't ping together: a layer's first connection is first
/// pinged one `interval` after it was wrapped, every further one some part of the interval earlier.
///
/// The source of pings may need a service that is `Clone`; [`ShareLayer`](crate::ShareLayer) below
/// the heartbeat makes one of a service that is not.
///
/// Limits (`ConcurrencyLimit`, `RateLimit`, `LoadShed`) belong outside: below, they would starve
/// the pings, and a call that is held back would keep its place in their queue before the ping that
/// it waits for.
///
/// At the end of a connection the layer fails what is in flight and drops its own clone of the
/// service. The transport itself is closed by the adapter that knows it
/// (the `hyper` feature's does), by a hook set with [`Handle::on_end`], or when the service is
/// dropped: `Reconnect`, `Balance` and pools do that once `poll_ready` fails.
///
/// # Clone
///
/// Clones share the settings and the driver; each wrapped service is its own connection.
#[doc(alias = "keepalive")]
#[derive(Clone)]
pub struct HeartbeatLayer<P, C = CompleteOnResponse> {
    fleets: Arc<Fleets>,
    source: P,
    completion: C,
    on_connect: Option<OnConnect>,
}

type OnConnect = Arc<dyn Fn(&Handle) + Send + Sync>;

impl<P> HeartbeatLayer<P> {
    /// Creates a layer that pings with `source`; the [`ping`](crate::ping) module has them.
    #[must_use]
    pub fn new(config: Config, source: P) -> Self {
        HeartbeatLayer {
            fleets: Arc::new(Fleets::new(Arc::new(config), Spawner::default(), None)),
            source,
            completion: CompleteOnResponse,
            on_connect: None,
        }
    }
}

impl<P, C> HeartbeatLayer<P, C> {
    /// Sets until when a response keeps its request in flight.
    ///
    /// Default: [`CompleteOnResponse`], until the response is there.
    #[must_use]
    pub fn completion<D>(self, completion: D) -> HeartbeatLayer<P, D> {
        HeartbeatLayer {
            fleets: self.fleets,
            source: self.source,
            completion,
            on_connect: self.on_connect,
        }
    }

    /// Has `hook` called with the [`Handle`] of each connection that is wrapped, before it is
    /// watched: the way to the handles in a stack that makes its connections by itself.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// # use tower::Layer;
    /// # use tower_heartbeat::{Config, HeartbeatLayer, ping};
    ///
    /// let handles = Arc::new(Mutex::new(Vec::new()));
    /// let layer = HeartbeatLayer::new(Config::default(), ping::none()).on_connect({
    ///     let handles = Arc::clone(&handles);
    ///     move |handle| handles.lock().unwrap().push(handle.clone())
    /// });
    /// # let connection = tower::service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) });
    /// let service = layer.layer(connection);
    /// assert!(handles.lock().unwrap()[0].is_alive());
    /// # drop(service);
    /// ```
    #[must_use]
    pub fn on_connect<F>(self, hook: F) -> Self
    where
        F: Fn(&Handle) + Send + Sync + 'static,
    {
        HeartbeatLayer {
            on_connect: Some(Arc::new(hook)),
            ..self
        }
    }

    /// Has `hook` called with whatever happens to each connection that is wrapped from now on, and its
    /// [`Handle`]: for logs, figures, and lists of what is there. Without one nothing is done for it, and no request is ever
    /// told.
    ///
    /// It is called by the connection's driver, and at the end of a connection by whoever ends it, before those who wait are
    /// woken. It must not block. A panic in it is caught and logged. A hook that keeps handles is kept by them as well:
    /// let go of each at its end.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// # use tower::Layer;
    /// use tower_heartbeat::{Config, Event, HeartbeatLayer, ping};
    ///
    /// let log = Arc::new(Mutex::new(Vec::new()));
    /// let layer = HeartbeatLayer::new(Config::default(), ping::none()).on_event({
    ///     let log = Arc::clone(&log);
    ///     move |_, event| log.lock().unwrap().push(event.clone())
    /// });
    /// # let connection = tower::service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) });
    /// let service = layer.layer(connection);
    /// drop(service);
    /// assert!(matches!(log.lock().unwrap()[..], [Event::Connected, Event::Closed]));
    /// ```
    #[must_use]
    pub fn on_event<F>(self, hook: F) -> Self
    where
        F: Fn(&Handle, &Event) + Send + Sync + 'static,
    {
        let config = Arc::clone(&self.fleets.config);
        let spawner = self.fleets.spawner.clone();
        let observer = Some(observer(hook));
        HeartbeatLayer {
            fleets: Arc::new(Fleets::new(config, spawner, observer)),
            ..self
        }
    }

    /// Has `spawn` run the driver of the layer's connections, with a call when the first of them is
    /// wrapped, and again if the driver has ended by the time of another one;
    /// a `Connect` (of the `hyper` feature, or of the `mux` module) also gives it the tasks that drive connections.
    ///
    /// The driver needs tokio's time. One that is dropped ends its connections with
    /// [`Failure::MonitorGone`](crate::Failure::MonitorGone).
    ///
    /// ```
    /// # use tower_heartbeat::{Config, HeartbeatLayer, ping};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let runtime = tokio::runtime::Handle::current();
    /// let layer = HeartbeatLayer::new(Config::default(), ping::none())
    ///     .executor(move |driver| drop(runtime.spawn(driver)));
    /// # let _ = layer;
    /// # }
    /// ```
    #[must_use]
    pub fn executor<F>(self, spawn: F) -> Self
    where
        F: Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
    {
        let config = Arc::clone(&self.fleets.config);
        let spawner = Spawner::Custom(Arc::new(spawn));
        let observer = self.fleets.observer.clone();
        HeartbeatLayer {
            fleets: Arc::new(Fleets::new(config, spawner, observer)),
            ..self
        }
    }

    /// Returns the layer's settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.fleets.config
    }

    /// Wraps `inner` and returns a driver for this one connection, for those who spawn it
    /// themselves: on a `LocalSet`, say, or beside other work in one task. Its pings need not be
    /// `Send`.
    ///
    /// ```
    /// # use tower_heartbeat::{Config, HeartbeatLayer, ping};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let connection = tower::service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) });
    /// let layer = HeartbeatLayer::new(Config::default(), ping::request(|| ()));
    /// let (service, driver) = layer.pair(connection);
    /// let driver = tokio::spawn(driver);
    ///
    /// drop(service);
    /// driver.await.expect("it completes with the last user");
    /// # }
    /// ```
    pub fn pair<S>(&self, inner: S) -> (Heartbeat<S, C>, Driver<P::Ping>)
    where
        P: PingSource<S>,
        C: Clone,
    {
        let inbox = Arc::new(Inbox::new());
        let config = Arc::clone(&self.fleets.config);
        let observer = self.fleets.observer.clone();
        let hub = Hub::new(config, &inbox).observed(observer);
        let (link, ping) = self.attach(&inner, Arc::new(hub));
        let users = Users::new(Arc::clone(&link));
        (
            Heartbeat::new(inner, users, self.completion.clone()),
            Driver::new(link, inbox, ping),
        )
    }

    /// The layer for transports that carry one exchange at a time: it pings between exchanges.
    #[cfg(feature = "hyper")]
    pub(crate) fn serial(self) -> Result<Self, ConfigError> {
        let config = match self.fleets.config.ping_when {
            PingWhen::NotBusy => return Ok(self),
            PingWhen::Always | PingWhen::Quiet => Config {
                ping_when: PingWhen::NotBusy,
                ..*self.fleets.config
            },
            PingWhen::WhileBusy => {
                return Err(ConfigError::NeedsConcurrency {
                    setting: Setting::PingWhen,
                });
            }
        };
        let spawner = self.fleets.spawner.clone();
        let observer = self.fleets.observer.clone();
        Ok(HeartbeatLayer {
            fleets: Arc::new(Fleets::new(Arc::new(config), spawner, observer)),
            ..self
        })
    }

    /// Has `task` run where the drivers do; where that is nowhere, it is dropped.
    #[cfg(any(feature = "hyper", feature = "transport"))]
    pub(crate) fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.fleets.spawner.spawn(task);
    }

    /// What runs the drivers.
    #[cfg(feature = "tonic-channel")]
    pub(crate) fn spawner(&self) -> Spawner {
        self.fleets.spawner.clone()
    }

    fn attach<S>(&self, inner: &S, hub: Arc<Hub>) -> (Arc<Link>, Option<P::Ping>)
    where
        P: PingSource<S>,
    {
        let ping = self.source.attach(inner);
        let link = Arc::new(Link::new(hub, ping.is_some()));
        if let Some(hook) = &self.on_connect {
            hook(&Handle::new(Arc::clone(&link)));
        }
        link.tell(&Event::Connected);
        (link, ping)
    }
}

impl<S, P, C> Layer<S> for HeartbeatLayer<P, C>
where
    P: PingSource<S>,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
    C: Clone,
{
    type Service = Heartbeat<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let users = if self.fleets.spawner.is_here() {
            let fleet = self.fleets.here();
            let (link, ping) = self.attach(&inner, Arc::clone(&fleet.hub));
            let users = Users::new(Arc::clone(&link));
            fleet.watch(link, Box::new(Pinned::new(ping)));
            users
        } else {
            let config = Arc::clone(&self.fleets.config);
            let hub = Hub::without_driver(config).observed(self.fleets.observer.clone());
            let (link, ping) = self.attach(&inner, Arc::new(hub));
            let users = Users::new(link);
            let pinger: BoxPinger = Box::new(Pinned::new(ping));
            users.launch_later(self.fleets.launch(pinger));
            users
        };
        Heartbeat::new(inner, users, self.completion.clone())
    }
}

impl<P, C> fmt::Debug for HeartbeatLayer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeartbeatLayer")
            .field("fleets", &self.fleets)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "hyper"))]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::ping;

    #[test]
    fn a_layer_for_serial_transports_keeps_its_hook() {
        let told = Arc::new(AtomicU32::new(0));
        let hook = Arc::clone(&told);
        let layer = HeartbeatLayer::new(Config::default(), ping::none())
            .on_event(move |_, _| {
                hook.fetch_add(1, Ordering::Relaxed);
            })
            .serial()
            .expect("it can be");
        drop(layer.layer(tower::service_fn(|()| async { Ok::<_, Infallible>(()) })));
        assert_eq!(told.load(Ordering::Relaxed), 2, "connected and closed");
    }
}
