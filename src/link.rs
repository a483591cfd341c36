//! The shared state of one connection: evidence, the verdict, and the wakers of those who wait.
//!
//! Traffic writes evidence, the driver reads it and writes the verdict, everybody reads the
//! verdict. The link never holds anything that keeps the connection alive: services hold
//! [`Users`], futures and bodies a [`Shard`](in_flight::Shard), and those hold the link.

mod in_flight;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::Context,
};

pub use in_flight::InFlight;
pub(crate) use in_flight::{Users, in_flight, is_abandoned};

use futures_util::task::AtomicWaker;
use tracing::Span;

use crate::{
    config::Config,
    error::{Cause, Failure, HeartbeatError, Stage, panic_message},
    liveness::Standing,
    moment::{Clock, Moment},
    rtt::Rtt,
    wakers::{Key, WakerSet},
};

pub(crate) struct Link {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) span: Span,
    status: AtomicU8,
    signals: AtomicU8,
    cause: OnceLock<Arc<Cause>>,
    /// Why it takes no more calls, where that came from outside the machine. Not yet its end.
    departure: OnceLock<Arc<Cause>>,
    driver: AtomicWaker,
    /// Held `poll_ready` calls and whoever waits on a handle; futures in flight wait in shards.
    waiters: WakerSet,
    hooks: Mutex<Hooks>,
    figures: Mutex<Figures>,
    parties: Mutex<in_flight::Parties>,
}

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

/// What others tell the driver. `ARMED` is the driver's own bit: it sleeps past the next tick, so
/// the first signal has to wake it.
pub(crate) mod signal {
    pub(crate) const HEARD: u8 = 1;
    pub(crate) const USED: u8 = 2;
    pub(crate) const PING_WANTED: u8 = 4;
    pub(crate) const ARMED: u8 = 8;
}

/// What the driver publishes for handles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) can_ping: bool,
    pub(crate) heard_at: Moment,
    pub(crate) idle_since: Option<Moment>,
    pub(crate) rtt: Option<Rtt>,
    pub(crate) missed: u32,
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    pub(crate) suspect: bool,
}

type Hook = Box<dyn FnOnce(&HeartbeatError) + Send>;

enum Hooks {
    Waiting(Vec<Hook>),
    Ran,
}

impl Link {
    pub(crate) fn new(config: Arc<Config>, can_ping: bool) -> Link {
        let clock = Clock::start();
        let now = clock.now();
        Link {
            config,
            clock,
            span: tracing::info_span!(parent: None, "heartbeat", id = next_id()),
            status: AtomicU8::new(status::OPEN),
            signals: AtomicU8::new(0),
            cause: OnceLock::new(),
            departure: OnceLock::new(),
            driver: AtomicWaker::new(),
            waiters: WakerSet::new(),
            hooks: Mutex::new(Hooks::Waiting(Vec::new())),
            figures: Mutex::new(Figures {
                can_ping,
                heard_at: now,
                idle_since: Some(now),
                rtt: None,
                missed: 0,
                pings: 0,
                pongs: 0,
                suspect: false,
            }),
            parties: Mutex::new(in_flight::Parties::Users(Weak::new())),
        }
    }

    /// One relaxed load: what `poll_ready` and `call` ask on the hot path.
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
            self.cause.get()
        } else {
            None
        }
    }

    /// What a new call is told on a connection that takes no more.
    pub(crate) fn refusal(&self) -> HeartbeatError {
        let cause = match self.cause.get().or_else(|| self.departure.get()) {
            Some(cause) => Arc::clone(cause),
            None => Arc::new(self.with_figures(Cause {
                waited: self.config.idle_timeout.unwrap_or_default(),
                ..Cause::new(Failure::IdleTimeout)
            })),
        };
        HeartbeatError::shared(cause, Stage::NotSent)
    }

    #[inline]
    pub(crate) fn heard(&self) {
        self.signal(signal::HEARD);
    }

    #[inline]
    pub(crate) fn used(&self) {
        self.signal(signal::USED);
    }

    /// A load in the common case, where the driver has not looked since the last signal.
    #[inline]
    fn signal(&self, bit: u8) {
        if self.signals.load(Ordering::Relaxed) & bit == 0 {
            self.signal_first(bit);
        }
    }

    #[cold]
    fn signal_first(&self, bit: u8) {
        let before = self.signals.fetch_or(bit, Ordering::AcqRel);
        if before & signal::ARMED != 0 {
            self.driver.wake();
        }
    }

    pub(crate) fn want_ping(&self) {
        self.signals.fetch_or(signal::PING_WANTED, Ordering::AcqRel);
        self.driver.wake();
    }

    /// Has the driver look at the parties, or find the link ended.
    pub(crate) fn wake_driver(&self) {
        self.driver.wake();
    }

    pub(crate) fn take_signals(&self) -> u8 {
        self.signals.swap(0, Ordering::AcqRel)
    }

    pub(crate) fn peek_signals(&self) -> u8 {
        self.signals.load(Ordering::Relaxed)
    }

    /// Asks to be woken by the first signal. `false` if one is there already.
    pub(crate) fn arm(&self) -> bool {
        self.signals
            .compare_exchange(0, signal::ARMED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn register_driver(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
    }

    /// Registers a waiter, who then looks at what it waits for once more.
    pub(crate) fn wait(&self, key: &mut Key, cx: &Context<'_>) {
        let registered = self.waiters.register(key, cx, || false);
        debug_assert!(registered);
    }

    pub(crate) fn stop_waiting(&self, key: &mut Key) {
        self.waiters.remove(key);
    }

    pub(crate) fn wake_waiters(&self) {
        self.waiters.wake_all();
    }

    pub(crate) fn figures(&self) -> MutexGuard<'_, Figures> {
        lock(&self.figures)
    }

    /// Publishes how new calls are treated, and wakes those who were held if that changed for the better.
    pub(crate) fn publish(&self, standing: Standing) {
        let soft_limit = self.config.suspect_after.is_some();
        let next = match standing {
            Standing::Well => status::OPEN,
            // Whoever waits for a pong does so through a miss, soft limit or not.
            Standing::Suspect { unverified } if soft_limit || unverified => status::HELD,
            Standing::Suspect { .. } => status::OPEN,
            Standing::Unverified => status::UNVERIFIED,
            Standing::Leaving => status::LEAVING,
        };
        self.figures().suspect = matches!(standing, Standing::Suspect { .. });
        if self.raise_to(next) {
            self.wake_waiters();
        }
    }

    /// Takes no more calls; those in flight go on, and the driver ends the link after the last.
    #[cfg(feature = "hyper")]
    pub(crate) fn leave(&self, cause: Cause) {
        let cause = self.with_figures(cause);
        if self.departure.set(Arc::new(cause)).is_ok() {
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
        self.status() == status::LEAVING && self.departure.get().is_some()
    }

    /// The departure has come to pass; it says why.
    pub(crate) fn end_departed(&self) {
        let cause = match self.departure.get() {
            Some(departure) => Cause::clone(departure),
            None => Cause::new(Failure::Transport),
        };
        self.end(cause);
    }

    /// Ends the connection; only the first call counts. The cause is set before the transport is
    /// closed, and the transport before anybody wakes, so whoever wakes finds the cause whatever
    /// the inner service then says.
    pub(crate) fn end(&self, cause: Cause) {
        let cause = self
            .cause
            .get_or_init(|| Arc::new(self.with_figures(cause)));
        let cause = Arc::clone(cause);
        if self.status.swap(status::ENDED, Ordering::AcqRel) == status::ENDED {
            return;
        }
        self.report(&cause);
        let error = HeartbeatError::shared(cause, Stage::NotSent);
        let span = self.span.clone();
        let entered = span.enter();
        let hooks = std::mem::replace(&mut *lock(&self.hooks), Hooks::Ran);
        if let Hooks::Waiting(hooks) = hooks {
            for hook in hooks {
                run(hook, &error);
            }
        }
        drop(entered);
        self.wake_waiters();
        for shard in in_flight::shards(self) {
            shard.wake_all();
        }
        self.wake_driver();
    }

    /// Adds the figures of this moment to a cause that came from elsewhere than the machine.
    fn with_figures(&self, cause: Cause) -> Cause {
        if cause.by_machine {
            return cause;
        }
        let figures = *self.figures();
        Cause {
            missed: figures.missed,
            quiet_for: self.clock.now().since(figures.heard_at),
            smoothed_rtt: figures.rtt.map(|rtt| rtt.smoothed()),
            ..cause
        }
    }

    /// Runs `hook` at the end, before anybody wakes; at once if the end has been.
    pub(crate) fn on_end(&self, hook: Hook) {
        let mut hooks = lock(&self.hooks);
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
        let _entered = self.span.enter();
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
            .field("cause", &self.cause.get())
            .finish_non_exhaustive()
    }
}

/// Tells the connections of one process apart.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
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
