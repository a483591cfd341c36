//! The pure machine: facts in, actions out. No clock, lock, waker or log.
//!
//! # Table
//!
//! The ping's side. *Quiet* modes are all but `Always`; *wanted* means that somebody asked for a
//! ping (`ping_now`, a held `poll_ready`); *asleep* means that the ping mode forbids pings now, or
//! that the peer is *full*: as many requests are in flight as it works on at a time.
//! A fact that has no row changes nothing in that state.
//!
//! | state | fact | next state | action |
//! |---|---|---|---|
//! | `Resting` | heard | `Resting`, due `interval` from now (quiet modes) | |
//! | `Resting` | brought forward | `Resting`, due now, unless never | |
//! | `Resting` | due, or wanted | `Sending`, ready wait runs | `Ping` |
//! | `Resting` | falls asleep / wakes | never due / due `interval` from the last sign of life | |
//! | `Sending` | ping sent | `Waiting`, a pong wait as long as its detector says runs from now | |
//! | `Sending` | heard | `CallingOff`; if wanted or `Always`, the ready wait ends `interval + ready_timeout` from now | |
//! | `Sending` | falls asleep (and not wanted, or serial, or full) | `CallingOff` | |
//! | `Sending` | ready wait over | `Ended` | `LookAgain`, then `End(PingBlocked)` |
//! | `CallingOff` | any timeout call | `Resting` | `CallOff` |
//! | `CallingOff` | ping sent after all | `Waiting`, as from `Sending` | |
//! | all but `Waiting`, `Ended` | wanted | the same, and the next ping is due now, also while asleep (unless serial and busy, or full) | |
//! | `Waiting` | heard | `Waiting`, no misses, window ends `interval` and one more wait from now | |
//! | `Waiting` | pong | `Resting`; one more round-trip sample, which after a local pause is only shown | |
//! | `Waiting` | window over, not the last | `Waiting`, one more miss and a window of twice the wait, as far as the detector lets it grow | `Missed` |
//! | `Waiting` | last window over | `Ended` | `LookAgain`, then `End(PongTimeout)` |
//! | `Waiting` | local fault, last window over | `Waiting`, one more window of `pong_timeout`: once a ping | |
//! | `Waiting` | ping unsupported | `Resting`, never due again, after what `heard` does | |
//! | `Resting`, `Sending`, `CallingOff` | ping unsupported | `Resting`, never due again | |
//! | any but `Ended` | ping failed | `Ended` | `End(PingFailed)` |
//!
//! Beside it, in every state but `Ended`:
//!
//! | fact | effect | action |
//! |---|---|---|
//! | quiet for `verify_after_idle` | standing `Unverified` | `Standing` |
//! | a miss, or quiet for `suspect_after` while pings are made | standing `Suspect` | `Standing` |
//! | heard, pong | standing `Well`, after what it was | `Standing` |
//! | busy and quiet for `quiet_timeout` | `Ended` | `LookAgain`, then `End(ReadTimeout)` |
//! | idle for `idle_timeout` | standing `Leaving` (for good), then `Ended` once idle | `Standing`, `LookAgain`, `End(IdleTimeout)` |
//! | ping unsupported | no ping, no suspicion and no verification from here on; `Well` again, after what it was | `Standing` |
//! | local pause | the running window, ready wait or quiet limit ends no earlier than `pong_timeout` from now; each once | |
//!
//! # Ties
//!
//! The driver reports facts before it calls `handle_timeout` with the same `now`, so traffic wins.
//! `LookAgain` asks it to let the transport read what lies there, report it, and call again:
//! no verdict falls on unread input.
//!
//! # Spurious calls
//!
//! An older `now` counts as the newest one seen. Repeated facts and early `handle_timeout` calls
//! change nothing. One nanosecond before `next_timeout` nothing is due; at it, something is.

mod action;
mod detector;
mod limits;
mod pings;
mod rest;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use action::{Action, Ending, Standing};
use detector::Patience;
use limits::Charge;
use pings::Pings;
pub(crate) use rest::Rest;

use crate::{
    config::{Config, Evidence, PingWhen},
    error::Failure,
    moment::Moment,
    rtt::Rtt,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Resting {
        ping_at: Moment,
    },
    Sending {
        due_at: Moment,
        ready_by: Moment,
    },
    CallingOff,
    Waiting {
        sent_at: Moment,
        pong_by: Moment,
        missed: u32,
        /// How many misses make it dead.
        max_missed: u32,
        patience: Patience,
        /// Whether the driver was late meanwhile, so that the round trip is not only the peer's.
        late: bool,
    },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    Idle { since: Moment },
    Busy { since: Moment, full: bool },
}

/// The liveness of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Liveness {
    config: Arc<Config>,
    state: State,
    usage: Usage,
    standing: Standing,
    /// The newest moment that any call brought; no moment before it is "now".
    latest: Moment,
    heard_at: Moment,
    /// When pings were last free to be made; the soft limit doesn't count the sleep before it.
    awake_since: Moment,
    /// `None` where there is no way to ping.
    pings: Option<Pings>,
    /// When `LookAgain` was last handed out, until the look paid off.
    looked_at: Option<Moment>,
    /// When the driver was last late beyond `max_local_pause`, until the ping's window or ready
    /// wait that it excused is over.
    excused_at: Option<Moment>,
    /// The same for the quiet limit, which runs beside them.
    quiet_excused_at: Option<Moment>,
    rtt: Option<Rtt>,
}

impl Liveness {
    pub(crate) fn new(config: Arc<Config>, now: Moment, can_ping: bool, seed: u64) -> Liveness {
        let mut machine = Liveness {
            state: State::Resting {
                ping_at: Moment::NEVER,
            },
            usage: Usage::Idle { since: now },
            standing: Standing::Well,
            latest: now,
            heard_at: now,
            awake_since: now,
            pings: can_ping.then(|| Pings::new(&config, now, seed)),
            looked_at: None,
            excused_at: None,
            quiet_excused_at: None,
            rtt: None,
            config,
        };
        machine.rest();
        machine
    }

    /// The same connection with its first ping brought forward by `part` of the interval, in
    /// 2^-32: connections that were made together then don't ping together.
    pub(crate) fn spread(mut self, part: u32) -> Liveness {
        self.pings = self.pings.map(|pings| pings.spread(&self.config, part));
        if let State::Resting { .. } = self.state {
            self.rest();
        }
        self
    }

    pub(crate) fn heard_at(&self) -> Moment {
        self.heard_at
    }

    /// Since when no request is in flight; `None` while one is.
    pub(crate) fn idle_since(&self) -> Option<Moment> {
        match self.usage {
            Usage::Idle { since } => Some(since),
            Usage::Busy { .. } => None,
        }
    }

    pub(crate) fn rtt(&self) -> Option<Rtt> {
        self.rtt
    }

    pub(crate) fn missed(&self) -> u32 {
        match self.state {
            State::Waiting { missed, .. } => missed,
            State::Resting { .. } | State::Sending { .. } | State::CallingOff | State::Ended => 0,
        }
    }

    /// Whether a ping is to be brought out.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending { .. })
    }

    /// Whether a limit runs that a pause of the driver itself could falsify.
    pub(crate) fn is_judging(&self) -> bool {
        match self.state {
            State::Sending { .. } | State::Waiting { .. } => true,
            State::Resting { .. } | State::CallingOff => self.quiet_limit().is_some(),
            State::Ended => false,
        }
    }

    /// A sign of life came in.
    pub(crate) fn on_heard(&mut self, now: Moment) {
        let now = self.clamp(now);
        match self.config.evidence {
            Evidence::AnyTraffic => self.hear(now),
            Evidence::PongOnly => {}
        }
    }

    /// The first request is in flight.
    pub(crate) fn on_request_start(&mut self, now: Moment) {
        let now = self.clamp(now);
        if let Usage::Idle { .. } = self.usage {
            let slept = self.asleep();
            self.usage = Usage::Busy {
                since: now,
                full: false,
            };
            self.quiet_excused_at = None;
            self.follow_usage(slept, now);
        }
    }

    /// As many requests are in flight as the peer works on at a time, or fewer again: whether a ping
    /// would wait behind them.
    pub(crate) fn on_full(&mut self, full: bool, now: Moment) {
        let now = self.clamp(now);
        if let Usage::Busy {
            since,
            full: before,
        } = self.usage
            && full != before
        {
            let slept = self.asleep();
            self.usage = Usage::Busy { since, full };
            self.follow_usage(slept, now);
        }
    }

    /// The last request in flight, and its body, have ended.
    pub(crate) fn on_request_end(&mut self, now: Moment) {
        let now = self.clamp(now);
        if let Usage::Busy { .. } = self.usage {
            let slept = self.asleep();
            self.usage = Usage::Idle { since: now };
            self.follow_usage(slept, now);
        }
    }

    /// Somebody waits for a pong. A ping that is already out serves as well.
    pub(crate) fn on_ping_wanted(&mut self, now: Moment) {
        let now = self.clamp(now);
        match self.state {
            State::Resting { .. } | State::Sending { .. } | State::CallingOff => {
                if let Some(pings) = &mut self.pings {
                    pings.wanted_at.get_or_insert(now);
                }
            }
            State::Waiting { .. } | State::Ended => {}
        }
    }

    /// The next ping of its own accord is to come now, if there is one: a machine whose pings sleep
    /// stays asleep.
    pub(crate) fn bring_ping_forward(&mut self, now: Moment) {
        let now = self.clamp(now);
        if let State::Resting { ping_at } = &mut self.state
            && *ping_at != Moment::NEVER
        {
            *ping_at = now.min(*ping_at);
        }
    }

    /// The ping is out.
    pub(crate) fn on_ping_sent(&mut self, now: Moment) {
        let now = self.clamp(now);
        match self.state {
            State::Sending { .. } | State::CallingOff => {
                if self.asleep() {
                    self.awake_since = now;
                }
                if let Some(pings) = &mut self.pings {
                    pings.went_out(&self.config, now);
                }
                self.excused_at = None;
                let patience = Patience::of(&self.config, self.rtt);
                self.state = State::Waiting {
                    sent_at: now,
                    pong_by: now.after(patience.wait()),
                    missed: 0,
                    max_missed: self.config.max_missed,
                    patience,
                    late: false,
                };
            }
            State::Resting { .. } | State::Waiting { .. } | State::Ended => {}
        }
    }

    /// The answer to the ping that is out came in.
    pub(crate) fn on_pong(&mut self, now: Moment) {
        let now = self.clamp(now);
        match self.state {
            State::Waiting { sent_at, late, .. } => {
                let sample = now.since(sent_at);
                self.rtt = Some(match self.rtt {
                    Some(rtt) if late => rtt.late(sample),
                    Some(rtt) => rtt.next(sample),
                    // Of a late one is better than nothing: it only makes the next waits too long.
                    None => Rtt::first(sample),
                });
                self.hear(now);
                self.rest();
            }
            State::Resting { .. } | State::Sending { .. } | State::CallingOff | State::Ended => {}
        }
    }

    /// The ping, or its answer, was an error. `None` if the connection has ended before.
    pub(crate) fn on_ping_failed(&mut self, now: Moment) -> Option<Action> {
        let now = self.clamp(now);
        let since = match self.state {
            State::Waiting { sent_at, .. } => sent_at,
            State::Sending { due_at, .. } => due_at,
            State::Resting { .. } | State::CallingOff => now,
            State::Ended => return None,
        };
        Some(self.end(Charge {
            by: now,
            failure: Failure::PingFailed,
            since,
        }))
    }

    /// The peer cannot be pinged. Where a ping is out, its answer said so: a sign of life.
    pub(crate) fn on_ping_unsupported(&mut self, now: Moment) {
        let now = self.clamp(now);
        if let State::Waiting { .. } = self.state {
            self.hear(now);
        }
        self.lose_pings();
    }

    /// No ping can be made any more.
    pub(crate) fn lose_pings(&mut self) {
        if self.pings.take().is_some() && self.state != State::Ended {
            self.rest();
        }
    }

    /// The driver itself was late by more than `max_local_pause`.
    pub(crate) fn on_local_pause(&mut self, now: Moment) {
        let now = self.clamp(now);
        if let State::Waiting { late, .. } = &mut self.state {
            *late = true;
        }
        let fresh = now.after(self.config.pong_timeout);
        let limit = match self.state {
            State::Sending { ready_by, .. } => ready_by,
            State::Waiting { pong_by, .. } => pong_by,
            State::Resting { .. } | State::CallingOff | State::Ended => Moment::NEVER,
        };
        // A pause that a limit survives anyway doesn't use its excuse up.
        if limit < fresh {
            self.excused_at.get_or_insert(now);
        }
        if self.quiet_limit().is_some_and(|(_, by)| by < fresh) {
            self.quiet_excused_at.get_or_insert(now);
        }
    }

    /// So many others miss as well that the fault seems to be on this side.
    pub(crate) fn on_local_fault(&mut self, now: Moment) {
        let now = self.clamp(now);
        let over = self.is_last_window() && self.window_ends_at() <= now;
        if let State::Waiting {
            max_missed,
            patience,
            ..
        } = &mut self.state
            && over
        {
            *patience = Patience::full(&self.config);
            // Once: from the second time on it is one more than that already.
            *max_missed = self.config.max_missed.saturating_add(1);
        }
    }

    /// Whether the next verdict would be on a pong that didn't come.
    pub(crate) fn is_out_of_windows(&self) -> bool {
        self.is_last_window() && self.window_ends_at() <= self.latest
    }

    /// When `handle_timeout` next has something to do, `None` if no limit runs.
    pub(crate) fn next_timeout(&self) -> Option<Moment> {
        if let State::Ended = self.state {
            return None;
        }
        let step_at = match self.state {
            State::Resting { .. } => self.ping_due_at(),
            State::CallingOff => self.latest,
            State::Waiting { .. } if !self.is_last_window() => self.window_ends_at(),
            State::Waiting { .. } | State::Sending { .. } | State::Ended => Moment::NEVER,
        };
        let charge_at = match self.first_charge() {
            Some(charge) => self.looked_at.map_or(charge.by, |at| at.max(charge.by)),
            None => Moment::NEVER,
        };
        let next = step_at.min(charge_at).min(self.standing_changes_at());
        (next != Moment::NEVER).then_some(next)
    }

    /// Does the next thing that is due at `now`; call it until it returns `None`, carrying out
    /// each action, and after every fact.
    pub(crate) fn handle_timeout(&mut self, now: Moment) -> Option<Action> {
        let now = self.clamp(now);
        if let State::Ended = self.state {
            return None;
        }
        let charge = self.first_charge().filter(|charge| charge.by <= now);
        if charge.is_none() {
            self.looked_at = None;
        }
        let leaving = matches!(&charge, Some(c) if c.failure == Failure::IdleTimeout);
        if leaving && self.standing != Standing::Leaving {
            self.standing = Standing::Leaving;
            return Some(Action::Standing(Standing::Leaving));
        }
        if let Some(action) = self.step(now, leaving) {
            return Some(action);
        }
        let standing = self.standing_at(now);
        if standing != self.standing {
            self.standing = standing;
            return Some(Action::Standing(standing));
        }
        let charge = charge?;
        // A look for a limit that was rescued since doesn't count for the next one.
        if self.looked_at.is_none_or(|at| at < charge.by) {
            self.looked_at = Some(now);
            return Some(Action::LookAgain);
        }
        Some(self.end(charge))
    }

    fn step(&mut self, now: Moment, leaving: bool) -> Option<Action> {
        match self.state {
            State::Resting { .. } if !leaving && self.ping_due_at() <= now => {
                self.excused_at = None;
                self.state = State::Sending {
                    due_at: now,
                    ready_by: now.after(self.config.ready_timeout),
                };
                Some(Action::Ping)
            }
            State::CallingOff => {
                self.rest();
                Some(Action::CallOff)
            }
            State::Waiting {
                sent_at,
                missed,
                max_missed,
                patience,
                late,
                ..
            } if !self.is_last_window() && self.window_ends_at() <= now => {
                let missed = missed + 1;
                let patience = patience.doubled();
                self.state = State::Waiting {
                    sent_at,
                    // From the window's end, not from now: a late call must not stretch the bound.
                    pong_by: self.window_ends_at().after(patience.wait()),
                    missed,
                    max_missed,
                    patience,
                    late,
                };
                self.excused_at = None;
                Some(Action::Missed { missed })
            }
            State::Resting { .. }
            | State::Sending { .. }
            | State::Waiting { .. }
            | State::Ended => None,
        }
    }

    fn hear(&mut self, now: Moment) {
        self.heard_at = now;
        self.excused_at = None;
        self.quiet_excused_at = None;
        let always = self.config.ping_when == PingWhen::Always;
        match self.state {
            State::Resting { .. } => self.rest(),
            State::Sending { due_at, .. } if always || self.ping_wanted() => {
                self.state = State::Sending {
                    due_at,
                    // As if it were due after this sign of life.
                    ready_by: now
                        .after(self.config.interval)
                        .after(self.config.ready_timeout),
                };
            }
            State::Sending { .. } => self.state = State::CallingOff,
            State::Waiting {
                sent_at,
                patience,
                late,
                ..
            } => {
                self.state = State::Waiting {
                    sent_at,
                    pong_by: now.after(self.config.interval).after(patience.wait()),
                    missed: 0,
                    max_missed: self.config.max_missed,
                    patience,
                    late,
                };
            }
            State::CallingOff | State::Ended => {}
        }
    }

    /// Enters `Resting`, or corrects its deadline.
    fn rest(&mut self) {
        let ping_at = match &self.pings {
            Some(pings) if !self.asleep() => match self.config.ping_when {
                PingWhen::Always => pings.last_at.after(pings.interval),
                PingWhen::Quiet | PingWhen::WhileBusy | PingWhen::NotBusy => {
                    self.heard_at.after(pings.interval)
                }
            },
            Some(_) | None => Moment::NEVER,
        };
        self.state = State::Resting { ping_at };
    }

    fn follow_usage(&mut self, slept: bool, now: Moment) {
        // A ping that is out was never put to sleep.
        if slept && !self.asleep() && !matches!(self.state, State::Waiting { .. }) {
            self.awake_since = now;
        }
        match self.state {
            State::Resting { .. } => self.rest(),
            State::Sending { .. }
                if self.asleep() && !(self.ping_wanted() && self.may_ping_if_wanted()) =>
            {
                self.state = State::CallingOff;
            }
            State::Sending { .. } | State::CallingOff | State::Waiting { .. } | State::Ended => {}
        }
    }

    fn end(&mut self, charge: Charge) -> Action {
        let missed = match charge.failure {
            Failure::PongTimeout => self.missed() + 1,
            _ => self.missed(),
        };
        self.state = State::Ended;
        Action::End(Ending {
            failure: charge.failure,
            waited: self.latest.since(charge.since),
            missed,
            quiet_for: self.latest.since(self.heard_at),
        })
    }

    fn asleep(&self) -> bool {
        match (self.config.ping_when, self.usage) {
            (_, Usage::Busy { full: true, .. })
            | (PingWhen::WhileBusy, Usage::Idle { .. })
            | (PingWhen::NotBusy, Usage::Busy { .. }) => true,
            (PingWhen::Always | PingWhen::Quiet, _)
            | (PingWhen::WhileBusy, Usage::Busy { .. })
            | (PingWhen::NotBusy, Usage::Idle { .. }) => false,
        }
    }

    fn ping_wanted(&self) -> bool {
        matches!(&self.pings, Some(pings) if pings.wanted_at.is_some())
    }

    /// A serial transport that is busy can't carry a ping, however wanted; nor one that is full.
    fn may_ping_if_wanted(&self) -> bool {
        let no_room = matches!(
            (self.config.ping_when, self.usage),
            (PingWhen::NotBusy, Usage::Busy { .. }) | (_, Usage::Busy { full: true, .. })
        );
        !no_room
    }

    fn clamp(&mut self, now: Moment) -> Moment {
        self.latest = self.latest.max(now);
        self.latest
    }
}
