//! How connections are made of transports.

use std::{fmt, num::NonZeroU32, sync::Arc};

use futures_util::{Sink, Stream};
use tokio::sync::{Semaphore, mpsc};

use super::{
    connection::Connection,
    service::Mux,
    shared::{Shared, Users},
};
use crate::transport::{Ids, Protocol};

/// For protocols that answer requests in their order: Redis, SMTP, most protocols of lines.
///
/// What is no heartbeat of `protocol` is the answer to the oldest request; what the protocol calls
/// [`Kind::Other`](crate::transport::Kind::Other) never is.
#[must_use]
pub fn in_order<P>(protocol: P) -> Builder<P, InOrder>
where
    P: Protocol,
{
    Builder::new(protocol, InOrder)
}

/// For protocols whose answers carry the id of their request.
///
/// Requests are numbered from one; where the protocol has fewer bits than that, with what they hold of it. An answer comes out
/// with the id that its request had before.
///
/// An id comes again when its answer came, and not when its caller left: a late answer finds nobody else. Where the field holds fewer than
/// 4,096, and all are taken so, requests fail with [`MuxError::NoId`](super::MuxError::NoId) until late answers come. Of a wider field
/// about that many are kept for callers who left, or as many as wait; beyond that an id comes again once the numbers have gone round.
#[must_use]
pub fn by_id<P, I>(protocol: P, ids: I) -> Builder<P, I>
where
    P: Protocol,
    I: Ids<P::Message>,
{
    Builder {
        in_order: false,
        ..Builder::new(protocol, ids)
    }
}

/// Makes a [`Mux`] and its [`Connection`] of each transport. Made by [`in_order`] and [`by_id`].
pub struct Builder<P, I>
where
    P: Protocol,
{
    protocol: P,
    ids: I,
    in_order: bool,
    max_queued: NonZeroU32,
    max_in_flight: NonZeroU32,
    on_unsolicited: Option<OnUnsolicited<P::Message>>,
}

pub(super) type OnUnsolicited<M> = Arc<dyn Fn(M) + Send + Sync>;

/// Of protocols that answer in order: no message carries an id.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct InOrder;

impl<M> Ids<M> for InOrder {
    fn id(&self, _: &M) -> Option<u64> {
        None
    }

    fn set_id(&self, _: &mut M, _: u64) {}
}

impl<P, I> Builder<P, I>
where
    P: Protocol,
{
    fn new(protocol: P, ids: I) -> Self {
        Builder {
            protocol,
            ids,
            in_order: true,
            max_queued: MAX_QUEUED,
            max_in_flight: MAX_IN_FLIGHT,
            on_unsolicited: None,
        }
    }

    /// Sets how many requests may wait for the transport to take them. With so many, nobody is told ready. Default: 64.
    #[must_use]
    pub fn max_queued(mut self, limit: NonZeroU32) -> Self {
        self.max_queued = limit;
        self
    }

    /// Sets how many requests may be without an answer, those in the queue included. With so many, nobody is told ready.
    /// Default: 256.
    ///
    /// In order an answer frees its place when it comes in; by id when its future says so, or is dropped: whoever makes more
    /// calls than this and polls none of them waits for ever.
    ///
    /// A ping that is a request ([`ping::request`](crate::ping::request)) needs such a place as well, and in order it waits behind all of
    /// them; see [the module](super#pings).
    #[must_use]
    pub fn max_in_flight(mut self, limit: NonZeroU32) -> Self {
        self.max_in_flight = limit;
        self
    }

    /// Has `hook` called with each message of the peer's own: one without an id, one of
    /// [`Kind::Other`](crate::transport::Kind::Other), or, in order, one that comes while no answer is
    /// awaited. Notifications of a subscription are such.
    ///
    /// It is called by the task that runs the connection and must not block; a channel's `try_send` serves. A panic in it is caught and
    /// logged. Default: they are dropped, with a debug event.
    #[must_use]
    pub fn on_unsolicited<F>(mut self, hook: F) -> Self
    where
        F: Fn(P::Message) + Send + Sync + 'static,
    {
        self.on_unsolicited = Some(Arc::new(hook));
        self
    }

    /// Makes a service of `transport`, and the future that runs it, to be spawned: by itself, or with
    /// [`drive`](super::drive) for a heartbeat.
    pub fn pair<T>(&self, transport: T) -> (Mux<P::Message>, Connection<T, P, I>)
    where
        T: Stream + Sink<P::Message>,
        P: Clone,
        I: Clone,
    {
        let shared = Shared::new(
            semaphore(self.max_queued),
            semaphore(self.max_in_flight),
            self.in_order,
        );
        let (sender, calls) = mpsc::unbounded_channel();
        let mux = Mux::new(Users::new(sender, &shared));
        let (protocol, ids) = (self.protocol.clone(), self.ids.clone());
        let hook = self.on_unsolicited.clone();
        let connection = Connection::new(transport, protocol, ids, calls, shared, hook);
        (mux, connection)
    }
}

fn semaphore(places: NonZeroU32) -> Semaphore {
    let places = usize::try_from(places.get()).unwrap_or(usize::MAX);
    Semaphore::new(places.min(Semaphore::MAX_PERMITS))
}

const MAX_QUEUED: NonZeroU32 = NonZeroU32::new(64).unwrap();
const MAX_IN_FLIGHT: NonZeroU32 = NonZeroU32::new(256).unwrap();

impl<P, I> Clone for Builder<P, I>
where
    P: Protocol + Clone,
    I: Clone,
{
    fn clone(&self) -> Self {
        Builder {
            protocol: self.protocol.clone(),
            ids: self.ids.clone(),
            on_unsolicited: self.on_unsolicited.clone(),
            ..*self
        }
    }
}

impl<P, I> fmt::Debug for Builder<P, I>
where
    P: Protocol,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("in_order", &self.in_order)
            .field("max_queued", &self.max_queued)
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}
