//! One connection as its handlers see it.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    limits::Limits,
    phase::State,
    reason::{Ended, Reason},
    service::CountedService,
    shared::Shared,
};

/// A handle to a connection of a server: it keeps nothing alive, and outlives it.
///
/// Each request has its connection's in its extensions; so does [`Connections::on_event`](super::Connections::on_event).
///
/// # Clone
///
/// All clones are of one connection.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// It takes requests, or has yet to begin.
    Serving,
    /// It takes no more requests and goes on with those in flight, for `grace` at most.
    Draining(Reason),
    /// It is over.
    Ended(Reason),
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// Returns where the connection is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.shared.state() {
            State::Opening { .. } | State::Serving | State::LastCall { .. } => Phase::Serving,
            State::Draining { reason, .. } => Phase::Draining(reason),
            State::Over { reason, .. } => Phase::Ended(reason),
        }
    }

    /// Returns how many requests are in flight: from their head to the end of their response's body.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.shared.look(|machine, _| machine.requests())
    }

    /// Returns how long nothing has been in flight: zero while something is.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        self.shared.look(|machine, now| {
            let since = machine.idle_since();
            since.map_or(Duration::ZERO, |since| now.since(since))
        })
    }

    /// Returns how long the connection has been served, or was.
    #[must_use]
    pub fn age(&self) -> Duration {
        match self.shared.ended() {
            Some(ended) => ended.age(),
            None => self
                .shared
                .look(|machine, now| now.since(machine.begun_at())),
        }
    }

    /// Returns how the connection ended, `None` while it has not.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.shared.ended().cloned()
    }

    /// Returns the limits of the connection.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.shared.limits()
    }

    /// Has the connection leave in good order, with [`Reason::Shutdown`]: it takes no more requests and goes on with
    /// those in flight, for `grace` at most. Does nothing if it is on its way already.
    pub fn drain(&self) {
        self.shared.drain(Reason::Shutdown);
    }

    /// Closes the connection now, with [`Reason::Closed`], whatever is in flight.
    pub fn close(&self) {
        self.shared.force(Reason::Closed);
    }

    /// Returns `service` as one that counts its requests for this connection. Only for a connection that is
    /// [watched](super::Connections::watch): one that is served does so by itself. A response that upgrades it (HTTP/1's
    /// 101, or 2xx to `CONNECT`) ends it with [`Reason::Upgraded`].
    #[must_use]
    pub fn counted<S>(&self, service: S) -> CountedService<S> {
        CountedService::new(service, Arc::clone(&self.shared))
    }

    /// Keeps the connection in use until the guard is dropped, as a request in flight does: for what goes on after
    /// its response, such as a tunnel in an HTTP/2 stream (`CONNECT`). A drain of a connection that is served, not watched,
    /// waits for what hyper has in flight, such as that stream, and not for the guard alone.
    #[must_use]
    pub fn busy(&self) -> Busy {
        self.shared.tell(|machine, now| machine.on_busy(now));
        Busy::begun(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("phase", &self.phase())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

/// Something that is in flight on a connection, until it is dropped. From [`Handle::busy`].
pub struct Busy {
    /// Gone once somebody else has to tell the end.
    shared: Option<Arc<Shared>>,
}

impl Busy {
    /// Of something of which the machine knows that it began.
    pub(super) fn begun(shared: Arc<Shared>) -> Busy {
        Busy {
            shared: Some(shared),
        }
    }

    /// From here on the end of what is in flight is the caller's to tell.
    pub(super) fn hand_over(mut self) -> Option<Arc<Shared>> {
        self.shared.take()
    }

    pub(super) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    pub(super) fn is_last(&self) -> bool {
        self.shared().is_some_and(|shared| shared.leaves())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.tell(|machine, now| machine.on_request_end(now));
        }
    }
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Busy").finish_non_exhaustive()
    }
}
