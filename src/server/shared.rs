//! What the parts of one connection know of each other: its IO, its service, its driver and its handles.

use std::{
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use super::{
    connections::Hub,
    event::Event,
    handle::Handle,
    limits::Limits,
    phase::{Action, Machine, State},
    reason::{Ended, Reason},
};
use crate::{
    dice::roll,
    error::panic_message,
    lanes::{Lane, Lanes},
    link::lock,
    moment::Moment,
};

pub(super) struct Shared {
    hub: Arc<Hub>,
    judged: Mutex<Judged>,
    lanes: Lanes,
    /// Its place among the hub's.
    place: AtomicUsize,
    /// Whether nobody has the connection's future.
    is_alone: bool,
    /// Whether the IO is gone, and did not become another protocol's.
    io_is_gone: AtomicBool,
    /// Whether the machine wants to know of bytes that are read.
    hears: AtomicBool,
    /// Whether it wants to know of bytes that are written.
    watches_writes: AtomicBool,
    /// Whether its client is told to come no more.
    leaves: AtomicBool,
    /// Whether the timer has woken the driver.
    rang: AtomicBool,
    // Boxed, because most connections have not ended.
    ended: OnceLock<Box<Ended>>,
}

struct Judged {
    machine: Machine,
    /// When the driver next looks by itself: not after the machine's next timeout.
    looks_at: Moment,
}

impl Shared {
    pub(super) fn new(hub: &Arc<Hub>, is_alone: bool) -> Arc<Shared> {
        let machine = Machine::new(Arc::clone(&hub.limits), hub.clock.now(), roll());
        let shared = Arc::new(Shared {
            hub: Arc::clone(hub),
            judged: Mutex::new(Judged {
                looks_at: machine.next_timeout(),
                machine,
            }),
            lanes: Lanes::default(),
            place: AtomicUsize::new(usize::MAX),
            is_alone,
            io_is_gone: AtomicBool::new(false),
            hears: AtomicBool::new(false),
            watches_writes: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            rang: AtomicBool::new(false),
            ended: OnceLock::new(),
        });
        shared.place.store(hub.join(&shared), Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        crate::metrics::begin_served();
        shared.observe(&Event::Accepted);
        if hub.is_shutting_down() {
            shared.drain(Reason::Shutdown);
        }
        shared
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.hub.limits
    }

    pub(super) fn state(&self) -> State {
        lock(&self.judged).machine.state()
    }

    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.get().map(|ended| &**ended)
    }

    pub(super) fn now(&self) -> Moment {
        self.hub.clock.now()
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Asks the machine.
    pub(super) fn look<T>(&self, ask: impl FnOnce(&Machine, Moment) -> T) -> T {
        let now = self.now();
        ask(&lock(&self.judged).machine, now)
    }

    /// Tells the machine a fact. The driver is woken if it would come too late for what follows, or if
    /// the connection is to leave as soon as it can.
    pub(super) fn tell<T>(&self, fact: impl FnOnce(&mut Machine, Moment) -> T) -> T {
        let now = self.now();
        let mut judged = lock(&self.judged);
        let machine = &mut judged.machine;
        let answer = fact(machine, now);
        self.heed(machine);
        let leaves = self.leaves.load(Ordering::Relaxed) && machine.idle_since().is_some();
        let next = machine.next_timeout();
        let is_late = next < judged.looks_at;
        // Also where the limit is put off before the driver gets to look: else each request would wake it.
        judged.looks_at = judged.looks_at.min(next);
        drop(judged);
        if is_late || leaves {
            self.lanes.wake();
        }
        answer
    }

    /// Of what the machine wants to hear from now on.
    fn heed(&self, machine: &Machine) {
        self.hears.store(machine.is_reading(), Ordering::Relaxed);
        self.watches_writes
            .store(machine.is_writing(), Ordering::Relaxed);
    }

    /// A request's head is in.
    pub(super) fn begin_request(self: &Arc<Self>, is_serial: bool) {
        let mut judged = lock(&self.judged);
        let machine = &mut judged.machine;
        if machine.is_leaving() {
            drop(judged);
            return self.tell(|machine, now| machine.on_request_start(is_serial, now));
        }
        // It starts no clock: no moment has to be known, and the driver does not come too late.
        let now = machine.latest();
        machine.on_request_start(is_serial, now);
        let is_first = machine.on_opened(now);
        self.heed(machine);
        drop(judged);
        if is_first {
            self.observe(&Event::Opened);
        }
    }

    /// HTTP/2's preface and SETTINGS are in.
    pub(super) fn open(self: &Arc<Self>) {
        if self.tell(|machine, now| machine.on_opened(now)) {
            self.observe(&Event::Opened);
        }
    }

    /// Whether bytes that are read are to be told.
    pub(super) fn hears(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// Whether bytes of a response that are written are to be told.
    pub(super) fn watches_writes(&self) -> bool {
        self.watches_writes.load(Ordering::Relaxed)
    }

    /// Whether its client is told to come no more; where a limit says so, as of the driver's last look.
    pub(super) fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    pub(super) fn drain(&self, reason: Reason) {
        self.tell(|machine, now| machine.drain(reason, now));
        // A handler may answer before the driver looks.
        self.leaves.store(true, Ordering::Relaxed);
        self.lanes.wake();
    }

    pub(super) fn force(&self, reason: Reason) {
        self.tell(|machine, _| machine.force(reason));
        self.lanes.wake();
    }

    pub(super) fn wake_lanes(&self) {
        self.lanes.wake();
    }

    pub(super) fn register(&self, lane: Lane, waker: &Waker) {
        self.lanes.register(lane, waker);
    }

    /// The driver's look: what to do, or until when there is nothing to do. `fired` is the moment for which its
    /// timer fired.
    pub(super) fn attend(self: &Arc<Self>, fired: Option<Moment>) -> Result<Action, Moment> {
        let mut judged = lock(&self.judged);
        if let Some(fired) = fired {
            let now = self.now();
            if now.since(fired) > self.hub.limits.max_local_pause {
                judged.machine.on_local_pause(now);
            }
            judged.machine.handle_timeout(now);
            judged.looks_at = judged.machine.next_timeout();
            self.heed(&judged.machine);
        }
        let leaves = judged.machine.is_leaving();
        self.leaves.store(leaves, Ordering::Relaxed);
        if let Some(action) = judged.machine.action() {
            drop(judged);
            if let Action::Drain(reason) = action {
                tracing::debug!(reason = reason.as_str(), "connection is drained");
                self.observe(&Event::Draining(reason));
            }
            return Ok(action);
        }
        Err(judged.looks_at)
    }

    /// Whether the timer has woken the driver since this was last asked.
    pub(super) fn rang(&self) -> bool {
        // The look alone is cheaper, and mostly tells.
        self.rang.load(Ordering::Acquire) && self.rang.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    pub(super) fn io_is_gone(&self) -> bool {
        self.io_is_gone.load(Ordering::Acquire)
    }

    pub(super) fn lose_io(&self) {
        self.io_is_gone.store(true, Ordering::Release);
    }

    /// The connection is over, for `reason` if the machine knows of none.
    pub(super) fn end(
        self: &Arc<Self>,
        reason: Reason,
        error: Option<Arc<dyn StdError + Send + Sync>>,
    ) -> Ended {
        let now = self.now();
        let mut judged = lock(&self.judged);
        let machine = &mut judged.machine;
        machine.on_end(reason);
        let (reason, forced) = match machine.state() {
            State::Over { reason, forced } => (reason, forced),
            State::Opening { .. }
            | State::Serving
            | State::LastCall { .. }
            | State::Draining { .. } => (reason, false),
        };
        let ended = Ended {
            reason,
            forced,
            age: now.since(machine.begun_at()),
            requests: machine.begun(),
            error,
        };
        drop(judged);
        if self.ended.set(Box::new(ended.clone())).is_ok() {
            self.say_ended(&ended);
        }
        self.ended().cloned().unwrap_or(ended)
    }

    fn say_ended(self: &Arc<Self>, ended: &Ended) {
        let (reason, forced) = (ended.reason.as_str(), ended.forced);
        let (age, requests) = (ended.age, ended.requests);
        let error = ended.error().map(tracing::field::display);
        tracing::debug!(reason, forced, ?age, requests, error, "connection ended");
        #[cfg(feature = "metrics")]
        crate::metrics::end_served(reason, forced);
        self.observe(&Event::Ended(ended.clone()));
        self.hub.leave(self.place.load(Ordering::Relaxed));
        self.lanes.wake();
    }

    /// A hook that panics must not end the connection.
    fn observe(self: &Arc<Self>, event: &Event) {
        let Some(observer) = &self.hub.observer else {
            return;
        };
        let handle = Handle::new(Arc::clone(self));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| observer(&handle, event))) {
            tracing::error!(message = panic_message(&*panic), "hook panicked");
        }
    }
}

/// The timer's waker: what is due may be either lane's to do.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.lanes.wake();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
