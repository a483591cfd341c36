//! The `Discover` that offers connections, and offers them again.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{
    Stream,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use tower::discover::{Change, Discover};
use tower_service::Service;

use super::{endpoint::Endpoint, targets::Fixed, troubles::Troubles};
use crate::{
    error::{BoxError, HeartbeatError},
    handle::Handle,
    reconnect::{Backoff, Delays, ReconnectError},
    service::Heartbeat,
};

/// Connects targets and offers the connections to a `Balance`, each anew after it has ended.
///
/// It is a `Discover` around another one, `D`, which says what targets there are, by keys: an address that
/// is inserted is connected, one that is removed is removed. `M` makes the connections, with a heartbeat in
/// each. A connection is removed when it takes no more calls, be it dead, idle for too long or
/// told to leave by its peer; its calls in flight go on.
///
/// It has no task of its own. It connects when the balancer is polled, so after a time without requests
/// the next one may find a connection missing.
pub struct Endpoints<D, M, S, C>
where
    D: Discover,
{
    discover: Option<D>,
    make: M,
    delays: Delays,
    /// By key, those that are connected or about to be.
    known: HashMap<D::Key, AbortHandle>,
    steps: Steps<D, M, S, C>,
    troubles: Troubles,
}

type Steps<D, M, S, C> =
    FuturesUnordered<Abortable<Step<<D as Discover>::Key, <D as Discover>::Service, M, S, C>>>;

type Step<K, Target, M, S, C> =
    Pin<Box<dyn Future<Output = (Change<K, Endpoint<S, C>>, Next<K, Target, M>)> + Send>>;

type Offer<D, S, C> = Result<Change<<D as Discover>::Key, Endpoint<S, C>>, <D as Discover>::Error>;

/// What comes after a change.
struct Next<K, Target, M> {
    place: Place<K, Target, M>,
    /// Of the connection that was inserted.
    watched: Option<Handle>,
}

/// One target, and how to connect it.
struct Place<K, Target, M> {
    key: K,
    target: Target,
    make: Backoff<M>,
    troubles: Troubles,
}

impl<K, Target, M, S, C> Endpoints<Fixed<K, Target>, M, S, C>
where
    K: Eq,
    M: Service<Target, Response = Heartbeat<S, C>>,
{
    /// Creates it for targets that stay the same. The keys have to be distinct.
    pub fn fixed(make: M, targets: impl IntoIterator<Item = (K, Target)>) -> Self {
        Endpoints::new(make, Fixed::new(targets))
    }
}

impl<D, M, S, C> Endpoints<D, M, S, C>
where
    D: Discover,
    M: Service<D::Service, Response = Heartbeat<S, C>>,
{
    /// Creates it for the targets that `discover` says there are. `make` is cloned for each.
    pub fn new(make: M, discover: D) -> Self {
        Endpoints {
            discover: Some(discover),
            make,
            delays: Delays::default(),
            known: HashMap::new(),
            steps: FuturesUnordered::new(),
            troubles: Troubles::default(),
        }
    }

    /// Sets how long connections to one target wait for each other.
    ///
    /// Default: [`Delays::default`].
    #[must_use]
    pub fn delays(self, delays: Delays) -> Self {
        Endpoints { delays, ..self }
    }

    /// Returns what tells why there may be no endpoint, for
    /// [`ReadyLimitLayer::because`](crate::ready_limit::ReadyLimitLayer::because).
    #[must_use]
    pub fn troubles(&self) -> Troubles {
        self.troubles.clone()
    }
}

impl<D, M, S, C> Endpoints<D, M, S, C>
where
    D: Discover + Unpin,
    D::Key: Clone + Hash + Send + 'static,
    D::Service: Clone + Send + 'static,
    M: Service<D::Service, Response = Heartbeat<S, C>> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Send + 'static,
    C: Send + 'static,
{
    /// What the targets' own discovery says; `None` if it has no more to say for now.
    fn discovered(&mut self, cx: &mut Context<'_>) -> Option<Offer<D, S, C>> {
        while let Some(discover) = &mut self.discover {
            match Pin::new(discover).poll_discover(cx) {
                Poll::Ready(Some(Ok(Change::Insert(key, target)))) => {
                    if let Some(before) = self.known.remove(&key) {
                        // Its connection goes on until the new one replaces it.
                        before.abort();
                    }
                    let place = Place {
                        key,
                        target,
                        make: Backoff::new(self.make.clone(), self.delays),
                        troubles: self.troubles.clone(),
                    };
                    self.push(Next {
                        place,
                        watched: None,
                    });
                }
                Poll::Ready(Some(Ok(Change::Remove(key)))) => {
                    if let Some(gone) = self.known.remove(&key) {
                        gone.abort();
                        return Some(Ok(Change::Remove(key)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Some(Err(error)),
                Poll::Ready(None) => self.discover = None,
                Poll::Pending => return None,
            }
        }
        None
    }

    fn push(&mut self, next: Next<D::Key, D::Service, M>) {
        let (abort, registration) = AbortHandle::new_pair();
        self.known.insert(next.place.key.clone(), abort);
        let step: Step<_, _, _, _, _> = Box::pin(step(next));
        self.steps.push(Abortable::new(step, registration));
    }
}

impl<D, M, S, C> Stream for Endpoints<D, M, S, C>
where
    D: Discover + Unpin,
    D::Key: Clone + Hash + Send + Unpin + 'static,
    D::Service: Clone + Send + 'static,
    M: Service<D::Service, Response = Heartbeat<S, C>> + Clone + Send + Unpin + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Send + 'static,
    C: Send + 'static,
{
    type Item = Offer<D, S, C>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(change) = self.discovered(cx) {
            return Poll::Ready(Some(change));
        }
        loop {
            match Pin::new(&mut self.steps).poll_next(cx) {
                Poll::Ready(Some(Ok((change, next)))) => {
                    self.push(next);
                    return Poll::Ready(Some(Ok(change)));
                }
                // Its target was removed.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) if self.discover.is_none() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<D, M, S, C> fmt::Debug for Endpoints<D, M, S, C>
where
    D: Discover,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("targets", &self.known.len())
            .field("troubles", &self.troubles)
            .finish_non_exhaustive()
    }
}

/// From one change of a target to the next: its connection is there, or is gone.
async fn step<K, Target, M, S, C>(
    next: Next<K, Target, M>,
) -> (Change<K, Endpoint<S, C>>, Next<K, Target, M>)
where
    K: Clone,
    Target: Clone,
    M: Service<Target, Response = Heartbeat<S, C>>,
    M::Error: Into<BoxError>,
{
    let Next { mut place, watched } = next;
    let (change, watched) = match watched {
        Some(handle) => {
            handle.left().await;
            let end: HeartbeatError = handle.link().refusal();
            place.troubles.set(Some(Arc::new(end)));
            (Change::Remove(place.key.clone()), None)
        }
        None => {
            let connection = place.connect().await;
            let handle = connection.handle();
            let change = Change::Insert(place.key.clone(), Endpoint::new(connection));
            (change, Some(handle))
        }
    };
    (change, Next { place, watched })
}

impl<K, Target, M, S, C> Place<K, Target, M>
where
    Target: Clone,
    M: Service<Target, Response = Heartbeat<S, C>>,
    M::Error: Into<BoxError>,
{
    /// Tries until it succeeds, as seldom as the back-off says.
    async fn connect(&mut self) -> Heartbeat<S, C> {
        loop {
            match self.attempt().await {
                Ok(connection) => {
                    self.troubles.set(None);
                    return connection;
                }
                Err(error) => self.troubles.set(Some(Arc::new(error))),
            }
        }
    }

    async fn attempt(&mut self) -> Result<Heartbeat<S, C>, ReconnectError> {
        poll_fn(|cx| self.make.poll_ready(cx)).await?;
        self.make.call(self.target.clone()).await
    }
}
