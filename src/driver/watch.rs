//! One connection that is looked at: facts, its ping, the machine's actions, in that order.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{faults::Faults, pinger::Pinger};
use crate::{
    config::PingWhen,
    error::{Cause, Failure},
    event::Event,
    link::{Link, in_flight, is_abandoned, meet_calls, status},
    liveness::{Action, Ending, Liveness, Standing},
    moment::Moment,
    ping::PingError,
    signals,
};

/// A connection's machine while there is more to it than a rest.
pub(super) struct Watch {
    machine: Liveness,
    phase: Phase,
    /// Whether traffic came since the driver last slept.
    traffic: bool,
    /// Until which turn of the runtime a verdict waits.
    looks_until: Option<u64>,
    /// When the next ping is brought forward to, after one that many others shared.
    apart_at: Option<Moment>,
}

/// Where the one ping is. Mirrors the machine's `Sending` and `Waiting`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Resting,
    Readying,
    Out,
}

/// What a look at one connection came to.
pub(super) enum Next {
    /// A verdict is due; the runtime first gets to read.
    Look,
    /// Nothing to do before then, unless a signal comes.
    Sleep(Moment),
    /// The same, and what the link keeps of it is all there is.
    Rest(Moment),
    /// It is over.
    Finish,
}

/// This moment's circumstances, the same for all connections of a driver.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Moment,
    /// Counts how often the runtime got to do everything else.
    pub(super) turn: u64,
    /// How often a connection with traffic is looked at.
    pub(super) tick: Duration,
    /// The connection's own part of an interval, in 2^-32.
    pub(super) spread: u32,
}

impl Watch {
    pub(super) fn new(machine: Liveness) -> Watch {
        Watch {
            machine,
            phase: Phase::Resting,
            traffic: false,
            looks_until: None,
            apart_at: None,
        }
    }

    pub(super) fn machine(&self) -> &Liveness {
        &self.machine
    }

    /// The driver itself was late.
    pub(super) fn on_local_pause(&mut self, now: Moment) {
        self.machine.on_local_pause(now);
    }

    pub(super) fn look<G>(
        &mut self,
        link: &Arc<Link>,
        pinger: &mut G,
        now: Now,
        faults: &mut Faults,
        cx: &mut Context<'_>,
    ) -> Next
    where
        G: Pinger,
    {
        if let Some(next) = self.advance(link, pinger, now, faults, cx) {
            return next;
        }
        let next = self.sleep(link, now);
        link.keep(&self.machine);
        next
    }

    /// Does all there is to do at `now`; `None` where that is not the end.
    fn advance<G>(
        &mut self,
        link: &Arc<Link>,
        pinger: &mut G,
        now: Now,
        faults: &mut Faults,
        cx: &mut Context<'_>,
    ) -> Option<Next>
    where
        G: Pinger,
    {
        // Before any fact is looked at, and once a look: whatever this look misses raises a signal, and
        // a verdict takes several.
        let raised = link.take_signals();
        if link.ended().is_some() {
            return Some(Next::Finish);
        }
        if is_abandoned(link) {
            link.end(Cause::new(Failure::Closed));
            return Some(Next::Finish);
        }
        // Before the facts: a call that it doesn't turn away is in flight by now.
        let leaving = link.is_leaving_by_itself();
        if link.status() >= status::LEAVING {
            meet_calls(link);
        }
        self.take_facts(link, raised, now.at);
        self.look_for_room(link, pinger, now.at);
        if leaving && self.see_off(link, pinger) {
            return Some(Next::Finish);
        }
        loop {
            if self.poll_ping(link, pinger, now.at, cx) {
                faults.on_answer(now.at);
                self.apart_at = faults
                    .is_recent(now.at)
                    .then(|| now.at.after(rest_of(link.config().interval, now.spread)));
            }
            if link.ended().is_some() {
                return Some(Next::Finish);
            }
            if self.apart_at.is_some_and(|at| at <= now.at) {
                self.apart_at = None;
                self.machine.bring_ping_forward(now.at);
            }
            if self.looks_until.is_some_and(|turn| now.turn < turn) {
                return Some(Next::Look);
            }
            let looked = self.looks_until.take().is_some();
            if looked && self.machine.is_out_of_windows() && faults.is_suspected(now.at) {
                self.machine.on_local_fault(now.at);
            }
            match self.machine.handle_timeout(now.at) {
                Some(Action::LookAgain) => {
                    if self.machine.is_out_of_windows() {
                        faults.on_miss(now.at);
                    }
                    self.looks_until = Some(now.turn + LOOKS);
                    return Some(Next::Look);
                }
                Some(action) => {
                    if let Action::Missed { missed } = action
                        && missed < link.config().max_missed
                    {
                        faults.on_miss(now.at);
                    }
                    self.carry_out(action, link, pinger);
                }
                None => return None,
            }
        }
    }

    fn take_facts(&mut self, link: &Arc<Link>, raised: u8, now: Moment) {
        self.traffic |= raised & (signals::HEARD | signals::USED) != 0;
        if raised & signals::HEARD != 0 {
            self.machine.on_heard(now);
        }
        if raised & signals::USED != 0 {
            self.machine.on_request_start(now);
        }
        match in_flight(link) {
            0 => self.machine.on_request_end(now),
            _ => self.machine.on_request_start(now),
        }
        if raised & signals::PING_WANTED != 0 {
            self.machine.on_ping_wanted(now);
        }
    }

    /// A ping among more requests than the peer works on would wait behind them, and count as sent.
    fn look_for_room<G>(&mut self, link: &Arc<Link>, pinger: &G, now: Moment)
    where
        G: Pinger,
    {
        let limit = pinger.max_concurrent_requests();
        let full = limit.is_some_and(|limit| in_flight(link) >= to_usize(limit));
        if full {
            // One may have come in since the facts were taken.
            self.machine.on_request_start(now);
        }
        self.machine.on_full(full, now);
    }

    /// `true` if the peer answered.
    fn poll_ping<G>(
        &mut self,
        link: &Arc<Link>,
        pinger: &mut G,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> bool
    where
        G: Pinger,
    {
        if self.phase == Phase::Readying && self.machine.is_sending() {
            match pinger.poll_send(cx) {
                Poll::Ready(Ok(())) => self.send(link, pinger, now),
                Poll::Ready(Err(error)) => self.fail(error, link, pinger, now),
                Poll::Pending => {}
            }
        }
        if self.phase == Phase::Out {
            match pinger.poll_pong(cx) {
                Poll::Ready(Ok(())) => {
                    self.phase = Phase::Resting;
                    self.machine.on_pong(now);
                    link.keep(&self.machine);
                    link.pong_came(self.machine.rtt());
                    return true;
                }
                Poll::Ready(Err(error)) => {
                    let answered = error.is_unsupported();
                    self.fail(error, link, pinger, now);
                    return answered;
                }
                Poll::Pending => {}
            }
        }
        false
    }

    fn send<G>(&mut self, link: &Arc<Link>, pinger: &G, now: Moment)
    where
        G: Pinger,
    {
        // A call of another thread may stand before the ping in the transport's queue. A serial
        // transport has none, and a ping that it let in must not be dropped.
        if link.config().ping_when != PingWhen::NotBusy {
            self.look_for_room(link, pinger, now);
        }
        if self.machine.is_sending() {
            self.phase = Phase::Out;
            self.machine.on_ping_sent(now);
            link.ping_is_out();
        }
    }

    fn fail<G>(&mut self, error: PingError, link: &Arc<Link>, pinger: &mut G, now: Moment)
    where
        G: Pinger,
    {
        if link.is_leaving_by_itself() {
            // A transport that takes no more requests takes no pings either.
            return;
        }
        if error.is_unsupported() {
            self.phase = Phase::Resting;
            self.machine.on_ping_unsupported(now);
            pinger.lose();
            tracing::warn!(source = %error, "peer cannot be pinged");
            link.lose_pings();
            link.tell(&Event::Unsupported);
        } else if let Some(Action::End(ending)) = self.machine.on_ping_failed(now) {
            self.end(ending, link, Some(error));
        }
    }

    fn carry_out<G>(&mut self, action: Action, link: &Arc<Link>, pinger: &mut G)
    where
        G: Pinger,
    {
        match action {
            Action::Ping => self.phase = Phase::Readying,
            Action::CallOff => {
                self.phase = Phase::Resting;
                pinger.call_off();
            }
            Action::Missed { missed } => {
                tracing::warn!(missed, max_missed = link.config().max_missed, "ping missed");
                link.ping_is_missed(missed);
            }
            Action::Standing(standing) => {
                let was_suspect = link.is_suspect();
                if matches!(standing, Standing::Suspect { .. }) {
                    tracing::debug!("connection is suspect");
                }
                link.publish(standing);
                match standing {
                    Standing::Suspect { .. } if !was_suspect => link.tell(&Event::Suspect),
                    Standing::Well | Standing::Unverified if was_suspect => {
                        link.tell(&Event::Recovered);
                    }
                    Standing::Suspect { .. }
                    | Standing::Well
                    | Standing::Unverified
                    | Standing::Leaving => {}
                }
            }
            Action::End(ending) => self.end(ending, link, None),
            Action::LookAgain => unreachable!("handled before it is carried out"),
        }
    }

    fn end(&mut self, ending: Ending, link: &Arc<Link>, error: Option<PingError>) {
        link.keep(&self.machine);
        // The machine has ended and counts no more.
        link.set_missed(ending.missed);
        if ending.failure == Failure::PongTimeout {
            link.ping_is_missed(ending.missed);
        }
        link.end(Cause {
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
    fn see_off<G>(&mut self, link: &Arc<Link>, pinger: &mut G) -> bool
    where
        G: Pinger,
    {
        self.phase = Phase::Resting;
        pinger.lose();
        self.machine.lose_pings();
        link.ping_is_given_up();
        let over = self.machine.idle_since().is_some();
        if over {
            link.end_departed();
        }
        over
    }

    /// Until when there is nothing to do, unless a signal comes.
    ///
    /// While requests are in flight, or traffic came since the last tick, that is a tick at most.
    /// Otherwise the link is armed, so that the first signal ends the sleep: sparse traffic is dated
    /// exactly, dense traffic to a tick.
    fn sleep(&mut self, link: &Arc<Link>, now: Now) -> Next {
        let ticking = self.machine.idle_since().is_none() || self.traffic;
        let wake_at = self.machine.next_timeout().unwrap_or(Moment::NEVER);
        let wake_at = self.apart_at.map_or(wake_at, |at| at.min(wake_at));
        if ticking {
            self.traffic = false;
            return Next::Sleep(wake_at.min(now.at.after(now.tick)));
        }
        if !link.arm() {
            // One came during this look. In the inbox it waits its turn, like everybody's.
            link.wake_driver();
            return Next::Sleep(wake_at);
        }
        match (self.machine.at_rest(), self.apart_at) {
            (Some(_), None) => Next::Rest(wake_at),
            (None, _) | (_, Some(_)) => Next::Sleep(wake_at),
        }
    }
}

fn to_usize(limit: NonZeroU32) -> usize {
    usize::try_from(limit.get()).unwrap_or(usize::MAX)
}

/// What is left of `interval` without `part`, in 2^-32.
fn rest_of(interval: Duration, part: u32) -> Duration {
    interval.mul_f64(1.0 - f64::from(part) / 2_f64.powi(32))
}

/// From socket to pong is a chain of tasks (connection, stream, ping), one turn each; twice that.
const LOOKS: u64 = 8;
