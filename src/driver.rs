//! Joins one connection's machine with time, pings and wakers.
//!
//! # Order
//!
//! One poll reads the clock once, then repeats: facts (signals, requests in flight, the ping's
//! progress), the machine's next action, until there is none; then it sleeps. Traffic is reported
//! before time, so it wins a tie.
//!
//! # Sleep
//!
//! While requests are in flight, or traffic came since the last tick, it looks again every tick.
//! Otherwise it sleeps to the machine's next timeout and arms the link, so that the first signal
//! wakes it; sparse traffic is dated exactly, dense traffic to a tick.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use crate::{
    error::{Cause, Failure},
    link::{Link, in_flight, is_abandoned, signal},
    liveness::{Action, Ending, Liveness, Standing},
    moment::Moment,
    ping::{Ping, PingError},
};

/// Watches one connection: makes its pings and ends it when a limit runs out.
///
/// [`HeartbeatLayer::layer`](crate::HeartbeatLayer) spawns it by itself;
/// [`pair`](crate::HeartbeatLayer::pair) hands it out. It completes when the connection has
/// ended, or when its last user is gone.
///
/// It runs in a tokio runtime.
///
/// # Panics
///
/// When it is polled in a runtime whose time is not enabled. Where the driver was spawned by the
/// layer, the users of the connection see that as
/// [`Failure::MonitorGone`](crate::Failure::MonitorGone).
///
/// # Cancel safety
///
/// Dropping it ends the connection with [`Failure::MonitorGone`](crate::Failure::MonitorGone):
/// nobody would watch it any more.
#[must_use = "a connection is watched only while its driver is polled"]
pub struct Driver<P: Ping> {
    link: Arc<Link>,
    machine: Liveness,
    ping: Option<P>,
    phase: Phase<P::Pong>,
    sleep: Option<Pin<Box<Sleep>>>,
    wake_at: Option<Moment>,
    /// Whether traffic came since the last sleep began.
    traffic: bool,
    /// How many more turns the runtime gets to read before a verdict.
    looks: u8,
    began: bool,
}

/// Where the one ping is. Mirrors the machine's `Sending` and `Waiting`.
enum Phase<F> {
    Resting,
    Readying,
    /// Boxed once a ping: the driver then needs no pinning, and rests small.
    Out(Pin<Box<F>>),
}

/// What to do after the machine's actions were carried out.
enum Next {
    Look,
    Sleep,
    Finish,
}

impl<P: Ping> Driver<P> {
    pub(crate) fn new(link: Arc<Link>, ping: Option<P>) -> Self {
        let now = link.clock.now();
        Driver {
            machine: Liveness::new(Arc::clone(&link.config), now, ping.is_some(), seed(&link)),
            link,
            ping,
            phase: Phase::Resting,
            sleep: None,
            wake_at: None,
            traffic: false,
            looks: 0,
            began: false,
        }
    }

    /// The connection counts from the first poll: one that was wrapped outside a runtime is not
    /// idle, nor quiet, before anybody can watch or use it.
    fn begin(&mut self, now: Moment) {
        self.began = true;
        self.machine = self.machine.begun_at(now);
        self.publish();
    }

    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before anything is looked at: a signal from here on wakes this task again.
        self.link.register_driver(cx);
        let now = self.link.clock.now();
        if !self.began {
            self.begin(now);
        }
        if let Some(wake_at) = self.wake_at.take()
            && now.since(wake_at) > self.link.config.max_local_pause.saturating_add(TIMER_SLACK)
        {
            self.machine.on_local_pause(now);
        }
        loop {
            match self.advance(now, cx) {
                Next::Finish => {
                    // Whoever keeps a finished driver doesn't keep the connection with it.
                    self.phase = Phase::Resting;
                    self.ping = None;
                    return Poll::Ready(());
                }
                Next::Look => {
                    yield_to_the_transport(cx);
                    return Poll::Pending;
                }
                Next::Sleep => {}
            }
            if self.sleep(now, cx) {
                self.publish();
                return Poll::Pending;
            }
        }
    }

    fn advance(&mut self, now: Moment, cx: &mut Context<'_>) -> Next {
        loop {
            if self.link.ended().is_some() {
                return Next::Finish;
            }
            if is_abandoned(&self.link) {
                self.link.end(Cause::new(Failure::Closed));
                return Next::Finish;
            }
            // Before the facts: a call that it doesn't turn away is in flight by now.
            let leaving = self.link.is_leaving_by_itself();
            self.take_facts(now);
            if leaving && self.see_off() {
                return Next::Finish;
            }
            self.poll_ping(now, cx);
            if self.looks > 0 {
                self.looks -= 1;
                if self.looks > 0 {
                    return Next::Look;
                }
            }
            match self.machine.handle_timeout(now) {
                Some(Action::LookAgain) => {
                    self.looks = LOOKS;
                    return Next::Look;
                }
                Some(action) => self.carry_out(action),
                None => return Next::Sleep,
            }
        }
    }

    fn take_facts(&mut self, now: Moment) {
        let signals = self.link.take_signals();
        self.traffic |= signals & (signal::HEARD | signal::USED) != 0;
        if signals & signal::HEARD != 0 {
            self.machine.on_heard(now);
        }
        if signals & signal::USED != 0 {
            self.machine.on_request_start(now);
        }
        match in_flight(&self.link) {
            Some(0) => self.machine.on_request_end(now),
            Some(_) => self.machine.on_request_start(now),
            // The last service is just going; its drop wakes this task.
            None => {}
        }
        if signals & signal::PING_WANTED != 0 {
            self.machine.on_ping_wanted(now);
        }
    }

    fn poll_ping(&mut self, now: Moment, cx: &mut Context<'_>) {
        let Some(ping) = &mut self.ping else { return };
        if matches!(self.phase, Phase::Readying) && self.machine.is_sending() {
            match caught(|| ping.poll_ready(cx)) {
                Poll::Ready(Ok(())) => match caught(|| Poll::Ready(Ok(Box::pin(ping.ping())))) {
                    Poll::Ready(Ok(pong)) => {
                        self.phase = Phase::Out(pong);
                        self.machine.on_ping_sent(now);
                        self.link.figures().pings += 1;
                        tracing::trace!("ping");
                    }
                    Poll::Ready(Err(error)) => return self.fail(error, now),
                    Poll::Pending => {}
                },
                Poll::Ready(Err(error)) => return self.fail(error, now),
                Poll::Pending => {}
            }
        }
        if let Phase::Out(pong) = &mut self.phase {
            match caught(|| pong.as_mut().poll(cx)) {
                Poll::Ready(Ok(())) => {
                    self.phase = Phase::Resting;
                    self.machine.on_pong(now);
                    self.publish();
                    self.link.figures().pongs += 1;
                    tracing::trace!(rtt = ?self.machine.rtt().map(|rtt| rtt.last()), "pong");
                    self.link.wake_waiters();
                }
                Poll::Ready(Err(error)) => self.fail(error, now),
                Poll::Pending => {}
            }
        }
    }

    fn fail(&mut self, error: PingError, now: Moment) {
        if self.link.is_leaving_by_itself() {
            // A transport that takes no more requests takes no pings either.
            return;
        }
        if let Some(Action::End(ending)) = self.machine.on_ping_failed(now) {
            self.end(ending, Some(error));
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Ping => self.phase = Phase::Readying,
            Action::CallOff => {
                self.phase = Phase::Resting;
                if let Some(ping) = &mut self.ping {
                    // A panic here has nothing to answer for; the next phase would show it again.
                    drop(catch_unwind(AssertUnwindSafe(|| ping.call_off())));
                }
            }
            Action::Missed { missed } => {
                tracing::warn!(
                    missed,
                    max_missed = self.link.config.max_missed,
                    "ping missed"
                );
            }
            Action::Standing(standing) => {
                if matches!(standing, Standing::Suspect { .. }) {
                    tracing::debug!("connection is suspect");
                }
                self.link.publish(standing);
            }
            Action::End(ending) => self.end(ending, None),
            Action::LookAgain => unreachable!("handled before it is carried out"),
        }
    }

    fn end(&mut self, ending: Ending, error: Option<PingError>) {
        self.publish();
        // The machine has ended and counts no more.
        self.link.figures().missed = ending.missed;
        self.link.end(Cause {
            failure: ending.failure,
            waited: ending.waited,
            missed: ending.missed,
            quiet_for: ending.quiet_for,
            smoothed_rtt: self.machine.rtt().map(|rtt| rtt.smoothed()),
            source: error.map(PingError::into_source),
            by_machine: true,
        });
    }

    /// The transport takes no more calls: those in flight end as they may, and are the last.
    /// Only the quiet limit still watches them.
    fn see_off(&mut self) -> bool {
        self.phase = Phase::Resting;
        self.ping = None;
        self.machine.lose_pings();
        let over = self.machine.idle_since().is_some();
        if over {
            self.link.end_departed();
        }
        over
    }

    /// Sleeps until the next thing can be due, unless a signal came meanwhile.
    fn sleep(&mut self, now: Moment, cx: &mut Context<'_>) -> bool {
        let config = &self.link.config;
        let busy = self.machine.idle_since().is_none();
        let ticking = busy || self.traffic;
        let mut wake_at = self.machine.next_timeout().unwrap_or(Moment::NEVER);
        if ticking {
            wake_at = wake_at.min(now.after(config.tick()));
        }
        if self.machine.is_judging() {
            // Short enough steps to notice a pause of this process in the middle of a wait.
            wake_at = wake_at.min(now.after(config.max_local_pause));
        }
        if !ticking && !self.link.arm() {
            return false;
        }
        self.traffic = false;
        self.wake_at = Some(wake_at);
        let Some(instant) = self.link.clock.instant(wake_at) else {
            self.sleep = None;
            return true;
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != instant {
                    sleep.as_mut().reset(instant);
                }
                sleep
            }
            None => self
                .sleep
                .insert(Box::pin(tokio::time::sleep_until(instant))),
        };
        if sleep.as_mut().poll(cx).is_ready() {
            // Due already, by a clock newer than `now`.
            cx.waker().wake_by_ref();
        }
        true
    }

    fn publish(&self) {
        let mut figures = self.link.figures();
        figures.heard_at = self.machine.heard_at();
        figures.idle_since = self.machine.idle_since();
        figures.rtt = self.machine.rtt();
        figures.missed = self.machine.missed();
    }
}

impl<P: Ping> Future for Driver<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let span = self.link.span.clone();
        let _entered = span.enter();
        // Beside other work in one task its budget may be spent: a pong that is there would look pending.
        let link = std::future::poll_fn(|cx| self.poll_link(cx));
        pin!(tokio::task::unconstrained(link)).poll(cx)
    }
}

/// Nothing in it is pinned but what is boxed.
impl<P: Ping> Unpin for Driver<P> {}

impl<P: Ping> Drop for Driver<P> {
    fn drop(&mut self) {
        let failure = if is_abandoned(&self.link) {
            Failure::Closed
        } else {
            Failure::MonitorGone
        };
        self.link.end(Cause::new(failure));
    }
}

impl<P: Ping> fmt::Debug for Driver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("link", &self.link)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

/// A panicking ping is a failed ping: the driver and its connection outlive it.
fn caught<T>(poll: impl FnOnce() -> Poll<Result<T, PingError>>) -> Poll<Result<T, PingError>> {
    let caught: Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(poll));
    caught.unwrap_or_else(|panic| Poll::Ready(Err(PingError::panicked(&*panic))))
}

/// A plain self-wake would come back before the runtime has looked at its sockets; this one comes after.
fn yield_to_the_transport(cx: &mut Context<'_>) {
    let polled = pin!(tokio::task::yield_now()).poll(cx);
    debug_assert!(polled.is_pending());
}

/// What the runtime's timer adds by itself is no pause: it rounds up to a millisecond.
const TIMER_SLACK: Duration = Duration::from_millis(5);

/// From socket to pong is a chain of tasks (connection, stream, ping), one turn each; twice that.
const LOOKS: u8 = 8;

fn seed(link: &Arc<Link>) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Arc::as_ptr(link) as usize)
}
