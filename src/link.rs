//! The shared state of one connection: evidence, the verdict, and the wakers of those who wait.
//!
//! Traffic writes evidence, the driver reads it and writes the verdict, everybody reads the
//! verdict. The link never holds anything that keeps the connection alive: services hold
//! [`Users`], futures and bodies a [`Shard`](in_flight::Shard), and those hold the link.
//!
//! There may be a million of them, nearly all idle, so what most don't need is made when needed.

#[cfg(feature = "metrics")]
mod account;
mod hub;
mod in_flight;
mod rare;
mod record;
mod tell;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Wake},
};

use once_cell::race::OnceBox;

pub(crate) use hub::Hub;
pub use in_flight::InFlight;
pub(crate) use in_flight::{Users, in_flight, is_abandoned, meet_calls};
pub(crate) use rare::Launch;
use rare::{Hook, Hooks, Rare};
use record::{ANSWERED, Bits, CAN_PING, LONG_RTT, Record, SUSPECT};
pub(crate) use tell::Observer;
use tracing::Span;

use crate::{
    config::Config,
    error::{Cause, Failure, HeartbeatError, Stage, panic_message},
    liveness::{Liveness, Rest, Standing},
    moment::Moment,
    rtt::Rtt,
    signals::{self, Signals},
    wakers::Key,
};

pub(crate) struct Link {
    pub(crate) hub: Arc<Hub>,
    rare: OnceBox<Rare>,
    record: Record,
    bits: Bits,
    /// Its place with the driver; `NO_ID` before and after it has one.
    id: AtomicU32,
    status: AtomicU8,
    signals: Signals,
}

const NO_ID: u32 = u32::MAX;

/// How a new call is treated. The order matters: a link only ever moves past `LEAVING` upwards.
pub(crate) mod status {
    pub(crate) const OPEN: u8 = 0;
    pub(crate) const HELD: u8 = 1;
    pub(crate) const UNVERIFIED: u8 = 2;
    /// Nobody runs the driver yet.
    pub(crate) const UNLAUNCHED: u8 = 3;
    pub(crate) const LEAVING: u8 = 4;
    pub(crate) const ENDED: u8 = 5;
}

impl Link {
    pub(crate) fn new(hub: Arc<Hub>, can_ping: bool) -> Link {
        let now = hub.clock().now();
        let link = Link {
            hub,
            rare: OnceBox::new(),
            record: Record::new(now),
            bits: Bits::new(if can_ping { CAN_PING } else { 0 }),
            id: AtomicU32::new(NO_ID),
            status: AtomicU8::new(status::OPEN),
            signals: Signals::new(),
        };
        #[cfg(feature = "metrics")]
        link.count_begin();
        let span = tracing::info_span!(parent: None, "heartbeat", id = rare::next_id());
        if !span.is_disabled() {
            link.rare().enter(span);
        }
        link
    }

    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.hub.config
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    fn rare_if_any(&self) -> Option<&Rare> {
        self.rare.get()
    }

    /// The connection's span; a disabled one if nobody listens.
    pub(crate) fn span(&self) -> Span {
        self.rare_if_any().map_or_else(Span::none, Rare::span)
    }

    /// One load: what `poll_ready` and `call` ask on the hot path.
    #[inline]
    pub(crate) fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    pub(crate) fn takes_calls(&self) -> bool {
        matches!(
            self.status(),
            status::OPEN | status::UNVERIFIED | status::UNLAUNCHED
        )
    }

    /// The cause, once the connection has ended.
    #[inline]
    pub(crate) fn ended(&self) -> Option<&Arc<Cause>> {
        if self.status() == status::ENDED {
            self.rare_if_any()?.cause.get()
        } else {
            None
        }
    }

    /// What a new call is told on a connection that takes no more.
    pub(crate) fn refusal(&self) -> HeartbeatError {
        let rare = self.rare_if_any();
        let cause = rare.and_then(|rare| rare.cause.get().or_else(|| rare.departure.get()));
        let cause = match cause {
            Some(cause) => Arc::clone(cause),
            None => Arc::new(self.with_figures(Cause {
                waited: self.config().idle_timeout.unwrap_or_default(),
                ..Cause::new(Failure::IdleTimeout)
            })),
        };
        HeartbeatError::shared(cause, Stage::NotSent)
    }

    #[cfg(any(feature = "h2-io", feature = "hyper", feature = "transport"))]
    #[inline]
    pub(crate) fn heard(&self) {
        self.signal(signals::HEARD);
    }

    /// Both at once, by one look.
    #[cfg(feature = "transport")]
    #[inline]
    pub(crate) fn heard_and_used(&self) {
        self.signal(signals::HEARD | signals::USED);
    }

    /// A response was heard, and not just a byte of the peer's.
    #[inline]
    pub(crate) fn answered(&self) {
        self.signal(signals::HEARD | signals::ANSWERED);
    }

    /// Whether a pong or a response came in, ever.
    pub(crate) fn has_proved_itself(&self) -> bool {
        let unseen = self.signals.peek() & signals::ANSWERED != 0;
        unseen || self.bits.has(ANSWERED) || self.pongs() > 0
    }

    /// The inner service's `poll_ready` failed. It is the service's own user who ends the connection.
    #[cold]
    pub(crate) fn break_off(&self) {
        self.rare().broken.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.rare_if_any()
            .is_some_and(|rare| rare.broken.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn used(&self) {
        self.signal(signals::USED);
    }

    #[inline]
    fn signal(&self, bit: u8) {
        if self.signals.raise(bit) {
            self.push();
        }
    }

    pub(crate) fn want_ping(&self) {
        if self.signals.raise(signals::PING_WANTED) || self.signals.queue() {
            self.push();
        }
    }

    /// Has the driver look at this connection: at its parties, its status, its ping.
    pub(crate) fn wake_driver(&self) {
        if self.signals.queue() {
            self.push();
        }
    }

    #[cold]
    fn push(&self) {
        let id = self.id.load(Ordering::Relaxed);
        // Whoever gives it an id looks at it then.
        if id != NO_ID
            && let Some(inbox) = self.hub.inbox()
        {
            inbox.push(id);
        }
    }

    /// From now on signals go to the driver under `id`.
    pub(crate) fn set_id(&self, id: Option<u32>) {
        self.id.store(id.unwrap_or(NO_ID), Ordering::Release);
    }

    pub(crate) fn take_signals(&self) -> u8 {
        let raised = self.signals.take();
        if raised & signals::ANSWERED != 0 {
            self.bits.set(ANSWERED, true);
        }
        raised
    }

    /// Whether a sign of life came that the driver has not looked at.
    pub(crate) fn is_just_heard(&self) -> bool {
        self.signals.peek() & signals::HEARD != 0
    }

    /// The same for a request.
    pub(crate) fn is_just_used(&self) -> bool {
        self.signals.peek() & signals::USED != 0
    }

    /// Asks to be woken by the first signal. `false` if one is there already.
    pub(crate) fn arm(&self) -> bool {
        self.signals.arm()
    }

    /// Registers a waiter, who then looks at what it waits for once more.
    pub(crate) fn wait(&self, key: &mut Key, cx: &Context<'_>) {
        let registered = self.rare().waiters.register(key, cx, || false);
        debug_assert!(registered);
    }

    pub(crate) fn stop_waiting(&self, key: &mut Key) {
        self.rare().waiters.remove(key);
    }

    pub(crate) fn wake_waiters(&self) {
        if let Some(rare) = self.rare_if_any() {
            rare.waiters.wake_all();
        }
    }

    pub(crate) fn can_ping(&self) -> bool {
        self.bits.has(CAN_PING)
    }

    /// It cannot be pinged any more: whoever waits for a pong waits in vain.
    pub(crate) fn lose_pings(&self) {
        self.bits.set(CAN_PING, false);
        self.ping_is_given_up();
        self.wake_waiters();
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.bits.has(SUSPECT)
    }

    pub(crate) fn heard_at(&self) -> Moment {
        self.record.heard_at()
    }

    pub(crate) fn idle_since(&self) -> Option<Moment> {
        self.record.idle_since()
    }

    pub(crate) fn missed(&self) -> u32 {
        self.bits.missed()
    }

    /// How many pings went out; wraps.
    pub(crate) fn pings(&self) -> u32 {
        self.record.pings()
    }

    /// How many pongs came in; wraps.
    pub(crate) fn pongs(&self) -> u32 {
        self.record.pongs()
    }

    pub(crate) fn rtt(&self) -> Option<Rtt> {
        if self.bits.has(LONG_RTT) {
            return lock(&self.rare().long_rtt).as_deref().copied();
        }
        self.record.rtt()
    }

    fn set_rtt(&self, rtt: Rtt) {
        let long = !self.record.set_rtt(rtt);
        if long {
            *lock(&self.rare().long_rtt) = Some(Box::new(rtt));
        }
        self.bits.set(LONG_RTT, long);
    }

    /// Keeps the machine's figures for handles, and for its next look.
    pub(crate) fn keep(&self, machine: &Liveness) {
        self.record.set_heard_at(machine.heard_at());
        self.record.set_idle_since(machine.idle_since());
        self.bits.set_missed(machine.missed());
    }

    pub(crate) fn set_missed(&self, missed: u32) {
        self.bits.set_missed(missed);
    }

    /// What was kept of a machine that rests.
    pub(crate) fn rest(&self, seed: u64, spread: u32) -> Rest {
        Rest {
            heard_at: self.heard_at(),
            idle_since: self.idle_since().unwrap_or(Moment::NEVER),
            rtt: self.rtt(),
            unverified: self.status() == status::UNVERIFIED,
            can_ping: self.can_ping(),
            pings: self.pings(),
            seed,
            spread,
        }
    }

    /// Publishes how new calls are treated, and wakes those who were held if that changed for the better.
    pub(crate) fn publish(&self, standing: Standing) {
        let soft_limit = self.config().suspect_after.is_some();
        let next = match standing {
            Standing::Well => status::OPEN,
            // Whoever waits for a pong does so through a miss, soft limit or not.
            Standing::Suspect { unverified } if soft_limit || unverified => status::HELD,
            Standing::Suspect { .. } => status::OPEN,
            Standing::Unverified => status::UNVERIFIED,
            Standing::Leaving => status::LEAVING,
        };
        let suspect = matches!(standing, Standing::Suspect { .. });
        self.bits.set(SUSPECT, suspect);
        if self.raise_to(next) {
            self.wake_waiters();
        }
    }

    /// Takes no more calls; those in flight go on, and the driver ends the link after the last.
    #[cfg(any(feature = "h2-io", feature = "hyper", feature = "transport"))]
    pub(crate) fn leave(&self, cause: Cause) {
        let cause = self.with_figures(cause);
        if self.rare().departure.set(Arc::new(cause)).is_ok() {
            if self.raise_to(status::LEAVING) {
                self.wake_waiters();
            }
            self.wake_driver();
        }
    }

    /// The driver waits for a runtime, or has got it. Only from one to the other: a driver that
    /// runs may have published something else by now.
    pub(crate) fn set_launched(&self, launched: bool) {
        let (from, to) = if launched {
            (status::UNLAUNCHED, status::OPEN)
        } else {
            (status::OPEN, status::UNLAUNCHED)
        };
        // A link that isn't at `from` has moved on, and keeps what it has.
        let _moved = self
            .status
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn raise_to(&self, next: u8) -> bool {
        self.status
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now < status::LEAVING && now != next).then_some(next)
            })
            .is_ok()
    }

    /// Whether the connection takes no more calls for a reason that came from outside the machine.
    pub(crate) fn is_leaving_by_itself(&self) -> bool {
        self.status() == status::LEAVING && self.departure().is_some()
    }

    fn departure(&self) -> Option<&Arc<Cause>> {
        self.rare_if_any()?.departure.get()
    }

    /// The departure has come to pass; it says why.
    pub(crate) fn end_departed(self: &Arc<Self>) {
        let cause = match self.departure() {
            Some(departure) => Cause::clone(departure),
            None => Cause::new(Failure::Transport),
        };
        self.end(cause);
    }

    /// Ends the connection; only the first call counts. The cause is set before the transport is
    /// closed, and the transport before anybody wakes, so whoever wakes finds the cause whatever
    /// the inner service then says.
    pub(crate) fn end(self: &Arc<Self>, cause: Cause) {
        let rare = self.rare();
        let cause = rare
            .cause
            .get_or_init(|| Arc::new(self.with_figures(cause)));
        let cause = Arc::clone(cause);
        if self.status.swap(status::ENDED, Ordering::AcqRel) == status::ENDED {
            return;
        }
        drop(catch_unwind(AssertUnwindSafe(|| self.report(&cause))));
        let error = HeartbeatError::shared(Arc::clone(&cause), Stage::NotSent);
        let span = self.span();
        let entered = span.enter();
        let hooks = std::mem::replace(&mut *lock(&rare.hooks), Hooks::Ran);
        if let Hooks::Waiting(hooks) = hooks {
            for hook in hooks {
                run(hook, &error);
            }
        }
        self.tell_end(&cause);
        drop(entered);
        rare.over.store(true, Ordering::SeqCst);
        self.wake_waiters();
        for shard in in_flight::shards(self) {
            shard.wake_all();
        }
        self.wake_driver();
    }

    /// Ends the connection on this side, and what its end has left to do.
    pub(crate) fn close(self: &Arc<Self>) {
        let rare = self.rare();
        rare.closed.store(true, Ordering::SeqCst);
        self.end(Cause::new(Failure::Closed));
        // Whoever still writes to a peer that has closed its own side. In a hook nobody is woken before those behind it.
        if rare.over.load(Ordering::SeqCst) {
            self.wake_waiters();
        }
    }

    #[cfg(feature = "transport")]
    pub(crate) fn is_closed(&self) -> bool {
        self.rare_if_any()
            .is_some_and(|rare| rare.closed.load(Ordering::SeqCst))
    }

    /// Adds the figures of this moment to a cause that came from elsewhere than the machine.
    fn with_figures(&self, cause: Cause) -> Cause {
        if cause.by_machine {
            return cause;
        }
        Cause {
            missed: self.missed(),
            quiet_for: self.hub.clock().now().since(self.heard_at()),
            smoothed_rtt: self.rtt().map(|rtt| rtt.smoothed()),
            ..cause
        }
    }

    /// Runs `hook` at the end, before anybody wakes; at once if the end has been.
    pub(crate) fn on_end(&self, hook: Hook) {
        let mut hooks = lock(&self.rare().hooks);
        match &mut *hooks {
            Hooks::Waiting(waiting) => waiting.push(hook),
            Hooks::Ran => {
                drop(hooks);
                if let Some(cause) = self.ended() {
                    let error = HeartbeatError::shared(Arc::clone(cause), Stage::NotSent);
                    run(hook, &error);
                }
            }
        }
    }

    fn report(&self, cause: &Cause) {
        let span = self.span();
        let _entered = span.enter();
        let in_good_order = match cause.failure {
            Failure::IdleTimeout | Failure::Closed => true,
            Failure::Transport => cause.source.is_none(),
            _ => false,
        };
        if in_good_order {
            tracing::debug!(
                failure = ?cause.failure,
                waited = ?cause.waited,
                "connection closed"
            );
        } else {
            tracing::warn!(
                failure = ?cause.failure,
                waited = ?cause.waited,
                missed = cause.missed,
                quiet_for = ?cause.quiet_for,
                smoothed_rtt = ?cause.smoothed_rtt,
                source = cause.source.as_ref().map(tracing::field::display),
                "connection is dead"
            );
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status() {
            status::OPEN => "open",
            status::HELD => "held",
            status::UNVERIFIED => "unverified",
            status::UNLAUNCHED => "unlaunched",
            status::LEAVING => "leaving",
            _ => "ended",
        };
        f.debug_struct("Link")
            .field("status", &status)
            .field("cause", &self.ended())
            .finish_non_exhaustive()
    }
}

/// Its pings wake the driver through it.
impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.wake_driver();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_driver();
    }
}

/// A hook that panics must not keep those who wait asleep.
fn run(hook: Hook, error: &HeartbeatError) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(error))) {
        tracing::error!(message = panic_message(&*panic), "hook panicked");
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under the crate's locks, so a poisoned one still guards whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
