//! The connections of one server.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use slab::Slab;

use super::{
    event::Event, handle::Handle, io::ServedIo, limits::Limits, reason::Reason, shared::Shared,
    wire::Wire,
};
use crate::{
    link::lock,
    moment::Clock,
    wakers::{Key, WakerSet},
};

/// The connections of one server: what [`Limits`] they have, who is told of them, and their common end.
///
/// # Clone
///
/// All clones are of one server: [`shutdown`](Connections::shutdown) of one drains the connections of all.
#[derive(Clone)]
pub struct Connections {
    hub: Arc<Hub>,
}

impl Connections {
    /// Creates a server's connections, of which there are none yet, with `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Connections {
            hub: Arc::new(Hub::new(limits, None)),
        }
    }

    /// Runs `hook` at each [`Event`] of each connection. Replaces the one that was set, and belongs before the first
    /// connection: those of the clones made before have none.
    ///
    /// The hook must not block. A panic in it is caught and logged.
    #[must_use]
    pub fn on_event<F>(self, hook: F) -> Self
    where
        F: Fn(&Handle, &Event) + Send + Sync + 'static,
    {
        Connections {
            hub: Arc::new(Hub::new(*self.hub.limits, Some(Box::new(hook)))),
        }
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.hub.limits
    }

    /// Returns how many connections are served. Those that became another protocol's are not.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.hub.members).len()
    }

    /// Drains all connections, and those that come from now on as well, with [`Reason::Shutdown`]; resolves when
    /// there are none any more, which takes `grace` at most as long as they are polled.
    ///
    /// # Cancel safety
    ///
    /// The drain begins with the first poll and goes on when the future is dropped; another call waits for
    /// the same.
    pub async fn shutdown(&self) {
        self.hub.shut_down();
        let mut place = Place {
            waiters: &self.hub.waiters,
            key: Key::NONE,
        };
        poll_fn(|cx| {
            let none_left = || lock(&self.hub.members).is_empty();
            if place.waiters.register(&mut place.key, cx, none_left) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Watches `io` for a server that keeps its connections to itself, until it is dropped: the limits are judged while it is
    /// polled, and act on its bytes. Its [`handle`](ServedIo::handle) counts the requests
    /// ([`Handle::counted`]).
    ///
    /// A drain says GOAWAY to an HTTP/2 client, and ends the read side, as if the client had closed it, when the client has heard that and
    /// nothing is in flight; over HTTP/1, as soon as nothing is. After `grace`, and where a limit closes, reads and writes fail.
    ///
    /// It belongs above TLS. Below, nobody can tell what is in flight: `idle_timeout` and `handshake_timeout` don't
    /// act, and whatever drains the connection closes it after `grace`.
    #[must_use]
    pub fn watch<I>(&self, io: I) -> ServedIo<I> {
        ServedIo::new(io, Wire::alone(self.accept(true)))
    }

    pub(super) fn accept(&self, is_alone: bool) -> Arc<Shared> {
        Shared::new(&self.hub, is_alone)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("limits", self.limits())
            .field("count", &self.count())
            .finish()
    }
}

pub(super) type Observer = Box<dyn Fn(&Handle, &Event) + Send + Sync>;

/// What the connections of one server have in common.
pub(super) struct Hub {
    pub(super) limits: Arc<Limits>,
    pub(super) clock: Clock,
    pub(super) observer: Option<Observer>,
    members: Mutex<Slab<Weak<Shared>>>,
    shutting_down: AtomicBool,
    waiters: WakerSet,
}

impl Hub {
    fn new(limits: Limits, observer: Option<Observer>) -> Hub {
        Hub {
            limits: Arc::new(limits),
            clock: Clock::start(),
            observer,
            members: Mutex::default(),
            shutting_down: AtomicBool::new(false),
            waiters: WakerSet::new(),
        }
    }

    pub(super) fn join(&self, shared: &Arc<Shared>) -> usize {
        lock(&self.members).insert(Arc::downgrade(shared))
    }

    pub(super) fn leave(&self, place: usize) {
        let (member, none_left) = {
            let mut members = lock(&self.members);
            (members.try_remove(place), members.is_empty())
        };
        drop(member);
        if none_left {
            self.waiters.wake_all();
        }
    }

    /// To be asked after [`join`](Hub::join): who joins later than the sweep sees this.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::SeqCst)
    }

    fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        let members: Vec<_> = lock(&self.members)
            .iter()
            .filter_map(|(_, member)| member.upgrade())
            .collect();
        for member in members {
            member.drain(Reason::Shutdown);
        }
    }
}

/// A place among the waiters, given up on drop.
struct Place<'a> {
    waiters: &'a WakerSet,
    key: Key,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.remove(&mut self.key);
    }
}
