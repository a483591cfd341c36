//! Where the clones of a service take turns.
//!
//! The lock is held for a look only. Whoever has the turn takes the service *out* from under it and
//! puts it back afterwards: what the service does meanwhile (wake and drop wakers, run destructors)
//! may come back here, and finds it lent.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use tower_service::Service;

use crate::{
    sync::{AtomicUsize, Mutex, MutexGuard, Ordering},
    wakers::{Key, WakerSet},
};

struct Shared<S> {
    desk: Mutex<Desk<S>>,
    fan: Arc<Fan>,
    /// The one waker that the service ever gets: it wakes all who wait.
    waker: Waker,
}

struct Desk<S> {
    /// `None` while it is lent.
    service: Option<S>,
    /// The service was told to be ready, and not called since.
    ready: bool,
    /// Somebody came while the service was lent.
    turned_away: bool,
    /// The calls that wait.
    queue: VecDeque<u64>,
    next_ticket: u64,
}

/// Apart from the service, which keeps a waker of it.
struct Fan {
    wakers: WakerSet,
    /// Counts wake-ups: who registers after a look sees whether one came in between.
    wakes: AtomicUsize,
}

impl<S> Shared<S> {
    fn look(&self) -> MutexGuard<'_, Desk<S>> {
        // Nothing panics under the lock.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fan {
    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Acquire)
    }

    fn wake_all(&self) {
        self.wakes.fetch_add(1, Ordering::AcqRel);
        self.wakers.wake_all();
    }
}

impl Wake for Fan {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

/// One who may wait for the service: a clone, or a call. Given up on drop.
pub(super) struct Place<S> {
    shared: Arc<Shared<S>>,
    waiting: Key,
    /// A call's place in the queue.
    ticket: Option<u64>,
}

impl<S> Place<S> {
    pub(super) fn new(service: S) -> Self {
        let fan = Arc::new(Fan {
            wakers: WakerSet::new(),
            wakes: AtomicUsize::new(0),
        });
        let desk = Desk {
            service: Some(service),
            ready: false,
            turned_away: false,
            queue: VecDeque::new(),
            next_ticket: 0,
        };
        Place {
            shared: Arc::new(Shared {
                desk: Mutex::new(desk),
                waker: Waker::from(Arc::clone(&fan)),
                fan,
            }),
            waiting: Key::NONE,
            ticket: None,
        }
    }

    /// A place of its own at the same desk.
    pub(super) fn another(&self) -> Self {
        Place {
            shared: Arc::clone(&self.shared),
            waiting: Key::NONE,
            ticket: None,
        }
    }

    /// Takes a place in the queue, once.
    pub(super) fn queue_up(&mut self) {
        if self.ticket.is_none() {
            let mut desk = self.shared.look();
            let ticket = desk.next_ticket;
            desk.next_ticket += 1;
            desk.queue.push_back(ticket);
            self.ticket = Some(ticket);
        }
    }

    pub(super) fn stop_waiting(&mut self) {
        self.shared.fan.wakers.remove(&mut self.waiting);
    }

    /// The turn, if the service is known to be ready and nobody waits before.
    pub(super) fn take_turn(&mut self) -> Option<Turn<'_, S>> {
        Turn::begin(&self.shared, &mut self.ticket, |desk| desk.ready)
    }

    /// Asks the service whether it is ready, in turn. An error gives up the place in the queue.
    pub(super) fn poll_turn<Request>(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Result<Turn<'_, S>, S::Error>>
    where
        S: Service<Request>,
    {
        let Place {
            shared,
            waiting,
            ticket,
        } = self;
        let fan = &shared.fan;
        let seen = fan.wakes();
        if let Some(mut turn) = Turn::begin(shared, ticket, |_| true)
            && let Poll::Ready(result) = turn.poll_ready()
        {
            fan.wakers.remove(waiting);
            return Poll::Ready(result.map(|()| turn));
        }
        if !fan.wakers.register(waiting, cx, || fan.wakes() != seen) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        self.stop_waiting();
        if let Some(ticket) = self.ticket {
            let mut desk = self.shared.look();
            desk.queue.retain(|waiting| *waiting != ticket);
            drop(desk);
            self.shared.fan.wake_all();
        }
    }
}

/// The service, taken out from under the lock; put back on drop.
pub(super) struct Turn<'a, S> {
    shared: &'a Shared<S>,
    ticket: &'a mut Option<u64>,
    service: Option<S>,
    outcome: Outcome,
    /// The wake-ups until it began.
    seen: usize,
}

/// What is known of the service when it is put back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing: it was not asked, or it panicked.
    Unknown,
    /// It has the waker of the fan.
    NotReady,
    Ready,
    Failed,
    Called,
}

impl<'a, S> Turn<'a, S> {
    fn begin(
        shared: &'a Shared<S>,
        ticket: &'a mut Option<u64>,
        wanted: impl FnOnce(&Desk<S>) -> bool,
    ) -> Option<Self> {
        let seen = shared.fan.wakes();
        let mut desk = shared.look();
        let is_next = match *ticket {
            Some(ticket) => desk.queue.front() == Some(&ticket),
            None => desk.queue.is_empty(),
        };
        if !is_next || !wanted(&desk) {
            return None;
        }
        let service = desk.service.take();
        desk.turned_away |= service.is_none();
        Some(Turn {
            shared,
            ticket,
            service: Some(service?),
            outcome: Outcome::Unknown,
            seen,
        })
    }

    fn poll_ready<Request>(&mut self) -> Poll<Result<(), S::Error>>
    where
        S: Service<Request>,
    {
        let mut cx = Context::from_waker(&self.shared.waker);
        let polled = self
            .service
            .as_mut()
            .map(|service| service.poll_ready(&mut cx));
        let Some(polled) = polled else {
            unreachable!("it is put back on drop only");
        };
        self.outcome = match &polled {
            Poll::Pending => Outcome::NotReady,
            Poll::Ready(Ok(())) => Outcome::Ready,
            Poll::Ready(Err(_)) => Outcome::Failed,
        };
        polled
    }

    /// Calls the service, which is ready, and puts it back.
    pub(super) fn call<Request>(mut self, request: Request) -> S::Future
    where
        S: Service<Request>,
    {
        self.outcome = Outcome::Unknown;
        let Some(service) = &mut self.service else {
            unreachable!("it is put back on drop only");
        };
        let future = service.call(request);
        self.outcome = Outcome::Called;
        future
    }
}

impl<S> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        let mut desk = self.shared.look();
        desk.service = self.service.take();
        desk.ready = self.outcome == Outcome::Ready;
        let turned_away = mem::take(&mut desk.turned_away);
        if matches!(self.outcome, Outcome::Failed | Outcome::Called) && self.ticket.take().is_some()
        {
            desk.queue.pop_front();
        }
        drop(desk);
        let concerns_others = match self.outcome {
            // Whoever waits asks for itself: after a call nobody's waker is with the service.
            Outcome::Unknown | Outcome::Failed | Outcome::Called => true,
            Outcome::Ready => turned_away,
            // All who wait are reached by the waker that it has, but for those who came
            // between a wake-up during this turn and now.
            Outcome::NotReady => turned_away && self.shared.fan.wakes() != self.seen,
        };
        if concerns_others {
            self.shared.fan.wake_all();
        }
    }
}
