//! The pure machine of one connection: facts in, actions out. No clock, lock, waker or log.
//!
//! # Table
//!
//! | state | fact | next state | action |
//! |---|---|---|---|
//! | `Opening` | opened: the first request, or HTTP/2's preface and SETTINGS | `Serving` | |
//! | `Opening` | not opened for `handshake_timeout` | `Over(Handshake)` | `Force` |
//! | `Opening`, `Serving` | idle for `idle_timeout` | `Draining(Idle)`, `grace` runs from now | `Drain` |
//! | `Opening`, `Serving` | as old as its age | `Draining(Age)`, likewise | `Drain` |
//! | `Serving` | as old as its age, HTTP/1 and idle | `LastCall`, `grace` runs from now | |
//! | `LastCall` | a request begins, or `grace` is over | `Draining(Age)`, likewise | `Drain` |
//! | `LastCall` | idle for `idle_timeout` | `Draining(Idle)`, likewise | `Drain` |
//! | `Opening`, `Serving`, `LastCall` | told to drain | `Draining(Shutdown)`, likewise | `Drain` |
//! | any but `Over` | a body waited for, nothing read for `read_timeout` | `Over(Dead)` | `Force` |
//! | any but `Over` | something to write, no progress for `write_timeout` | `Over(Stalled)` | `Force` |
//! | any but `Over` | told to close, or policed | `Over` | `Force` |
//! | `Draining` | `grace` is over | `Over`, with the drain's reason | `Force` |
//! | `Opening`, `Serving`, `LastCall` | ended by itself | `Over`, with that reason | |
//! | `Draining` | ended by itself | `Over`, with the drain's reason | |
//! | `Over` | any | `Over` | |
//!
//! # What runs when
//!
//! | clock | runs while | restarted by |
//! |---|---|---|
//! | idle | no request, body or stream, and no write pending | |
//! | reading | a request's body is waited for, and each that has not ended is | any byte read |
//! | writing | a write pends, a response's body gave a frame and was not asked again, or a stream is open of which a service that counts knows no more | a part of a response that is written or taken |
//!
//! # Ties
//!
//! Facts come before `handle_timeout` with the same moment, so traffic wins. Of two limits that ran out the earlier
//! one speaks, and at one moment the one that closes before the one that drains.
//!
//! # Spurious calls
//!
//! An older `now` counts as the newest one seen. One nanosecond before `next_timeout` nothing is due; at it,
//! something is. An action is handed out once.

mod stopwatch;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::stopwatch::{Stopwatch, after};
use super::{limits::Limits, reason::Reason};
use crate::moment::Moment;

/// What the driver has to do to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Take no more requests, finish those in flight, then close.
    Drain(Reason),
    /// Close now.
    Force(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Opening {
        open_by: Moment,
    },
    Serving,
    /// The next response tells its client to come no more. A client of HTTP/1 whose connection is closed
    /// as it sends cannot know whether its request was begun.
    LastCall {
        by: Moment,
    },
    Draining {
        reason: Reason,
        close_by: Moment,
    },
    Over {
        reason: Reason,
        forced: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Machine {
    limits: Arc<Limits>,
    state: State,
    /// What the driver has yet to be told.
    untold: Option<Action>,
    /// The newest moment that any call brought.
    latest: Moment,
    begun_at: Moment,
    age_by: Moment,
    /// All requests that ever began.
    begun: u64,
    requests: u32,
    /// Request bodies that somebody has and that have not ended.
    uploads: u32,
    /// Request bodies that somebody waits for.
    awaited: u32,
    /// Response bodies that gave a frame and were not asked for the next.
    untaken: u32,
    /// Whether a write pends.
    blocked: bool,
    /// Whether an HTTP/2 stream is open.
    streams: bool,
    /// Whether requests come one after another, as HTTP/1's do.
    is_serial: bool,
    idle: Stopwatch,
    reading: Stopwatch,
    writing: Stopwatch,
    /// Whether a pause of our own was excused since something was last heard.
    excused: bool,
}

impl Machine {
    pub(super) fn new(limits: Arc<Limits>, now: Moment, random: u64) -> Machine {
        Machine {
            state: State::Opening {
                open_by: after(now, limits.handshake_timeout),
            },
            untold: None,
            latest: now,
            begun_at: now,
            age_by: after(now, limits.age(random)),
            begun: 0,
            requests: 0,
            uploads: 0,
            awaited: 0,
            untaken: 0,
            blocked: false,
            streams: false,
            is_serial: false,
            idle: Stopwatch::since(now),
            reading: Stopwatch::STOPPED,
            writing: Stopwatch::STOPPED,
            excused: false,
            limits,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The newest moment that any call brought.
    pub(super) fn latest(&self) -> Moment {
        self.latest
    }

    pub(super) fn begun_at(&self) -> Moment {
        self.begun_at
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// Since when nothing is in flight; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        self.idle.started_at()
    }

    /// Whether its client is told to come no more.
    pub(super) fn is_leaving(&self) -> bool {
        match self.state {
            State::LastCall { .. } | State::Draining { .. } => true,
            State::Opening { .. } | State::Serving | State::Over { .. } => false,
        }
    }

    /// Whether the time of bytes that are read matters.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.started_at().is_some() && self.limits.read_timeout.is_some()
    }

    /// Whether it matters that a response's bytes were written, where no write pended.
    pub(super) fn is_writing(&self) -> bool {
        let runs = self.writing.started_at().is_some() || self.excused;
        runs && self.limits.write_timeout.is_some()
    }

    /// HTTP/2's preface and SETTINGS are in. A first request says as much. Returns whether this was news.
    pub(super) fn on_opened(&mut self, now: Moment) -> bool {
        self.clamp(now);
        match self.state {
            State::Opening { .. } => {
                self.state = State::Serving;
                true
            }
            State::Serving
            | State::LastCall { .. }
            | State::Draining { .. }
            | State::Over { .. } => false,
        }
    }

    /// A request's head is in. That starts no clock but a drain's, so where its client was not told to
    /// [come no more](Machine::is_leaving) the [newest](Machine::latest) moment does.
    pub(super) fn on_request_start(&mut self, is_serial: bool, now: Moment) {
        self.begun += 1;
        self.is_serial = is_serial;
        self.excused = false;
        self.on_busy(now);
        if let State::LastCall { .. } = self.state {
            self.drain(Reason::Age, now);
        }
    }

    /// Something is in flight that is no request; it ends like one.
    pub(super) fn on_busy(&mut self, now: Moment) {
        self.requests += 1;
        self.settle(now);
    }

    pub(super) fn on_request_end(&mut self, now: Moment) {
        self.requests = self.requests.saturating_sub(1);
        self.settle(now);
    }

    /// Somebody has a request's body that has not ended.
    pub(super) fn on_upload_start(&mut self, now: Moment) {
        self.uploads += 1;
        self.settle(now);
    }

    pub(super) fn on_upload_end(&mut self, now: Moment) {
        self.uploads = self.uploads.saturating_sub(1);
        self.settle(now);
    }

    /// A request's body is waited for.
    pub(super) fn on_await_start(&mut self, now: Moment) {
        self.awaited += 1;
        self.settle(now);
    }

    pub(super) fn on_await_end(&mut self, now: Moment) {
        self.awaited = self.awaited.saturating_sub(1);
        self.settle(now);
    }

    /// A response's body gave a frame, which has yet to be taken.
    pub(super) fn on_untaken(&mut self, now: Moment) {
        self.untaken += 1;
        self.settle(now);
    }

    /// It was taken, or the body is gone.
    pub(super) fn on_taken(&mut self, now: Moment) {
        self.untaken = self.untaken.saturating_sub(1);
        self.writing = Stopwatch::STOPPED;
        self.excused = false;
        self.settle(now);
    }

    /// HTTP/2 streams are open, or none is.
    pub(super) fn on_streams(&mut self, open: bool, now: Moment) {
        self.streams = open;
        self.settle(now);
    }

    /// Bytes were read.
    pub(super) fn on_read(&mut self, now: Moment) {
        self.reading = Stopwatch::STOPPED;
        self.excused = false;
        self.settle(now);
    }

    /// A write pends.
    pub(super) fn on_blocked(&mut self, now: Moment) {
        self.blocked = true;
        self.settle(now);
    }

    /// A write was taken, and bytes of a response went out with it or not.
    pub(super) fn on_written(&mut self, progress: bool, now: Moment) {
        self.blocked = false;
        if progress {
            self.writing = Stopwatch::STOPPED;
            self.excused = false;
        }
        self.settle(now);
    }

    /// The driver was late by more than `max_local_pause`: what only a client is to blame for gets
    /// another chance.
    pub(super) fn on_local_pause(&mut self, now: Moment) {
        let now = self.clamp(now);
        if self.excused {
            return;
        }
        self.excused = true;
        if let State::Opening { open_by } = &mut self.state {
            *open_by = (*open_by).max(now.after(self.limits.max_local_pause));
        }
        for running in [&mut self.reading, &mut self.writing] {
            if running.started_at().is_some() {
                *running = Stopwatch::since(now);
            }
        }
    }

    /// The connection is to leave in good order.
    pub(super) fn drain(&mut self, reason: Reason, now: Moment) {
        let now = self.clamp(now);
        match self.state {
            State::Opening { .. } | State::Serving | State::LastCall { .. } => {
                self.state = State::Draining {
                    reason,
                    close_by: now.after(self.limits.grace),
                };
                self.untold = Some(Action::Drain(reason));
            }
            State::Draining { .. } | State::Over { .. } => {}
        }
    }

    /// The connection is to be closed now.
    pub(super) fn force(&mut self, reason: Reason) {
        match self.state {
            State::Opening { .. }
            | State::Serving
            | State::LastCall { .. }
            | State::Draining { .. } => {
                self.state = State::Over {
                    reason,
                    forced: true,
                };
                self.untold = Some(Action::Force(reason));
            }
            State::Over { .. } => {}
        }
    }

    /// The connection has ended, not by an action.
    pub(super) fn on_end(&mut self, reason: Reason) {
        let reason = match self.state {
            State::Opening { .. } | State::Serving | State::LastCall { .. } => reason,
            State::Draining { reason, .. } => reason,
            State::Over { .. } => return,
        };
        self.untold = None;
        self.state = State::Over {
            reason,
            forced: false,
        };
    }

    /// When `handle_timeout` next has something to do; never, if no limit runs.
    pub(super) fn next_timeout(&self) -> Moment {
        // The least of `charges`, which are not made up at each fact.
        let limits = &*self.limits;
        let silent = self.reading.reaches(limits.read_timeout);
        let silent = silent.min(self.writing.reaches(limits.write_timeout));
        let idle = self.idle.reaches(limits.idle_timeout);
        match self.state {
            State::Opening { open_by } => silent.min(idle).min(self.age_by).min(open_by),
            State::Serving => silent.min(idle).min(self.age_by),
            State::LastCall { by } => silent.min(idle).min(by),
            State::Draining { close_by, .. } => silent.min(close_by),
            State::Over { .. } => Moment::NEVER,
        }
    }

    /// Does what is due at `now`. Not to be called by the clock alone: once a timer has fired, the runtime has looked at
    /// its sockets as well.
    pub(super) fn handle_timeout(&mut self, now: Moment) {
        let now = self.clamp(now);
        let due = self
            .charges()
            .into_iter()
            .filter(|charge| charge.by != Moment::NEVER && charge.by <= now)
            .min_by_key(|charge| charge.by);
        match due.map(|charge| charge.action) {
            Some(Action::Drain(Reason::Age)) if self.may_say_last() => {
                self.state = State::LastCall {
                    by: now.after(self.limits.grace),
                };
            }
            Some(Action::Drain(reason)) => self.drain(reason, now),
            Some(Action::Force(reason)) => self.force(reason),
            None => {}
        }
    }

    /// Whether a client may be about to send a request that would get lost.
    fn may_say_last(&self) -> bool {
        self.is_serial && self.state == State::Serving && self.idle.started_at().is_some()
    }

    /// What to do, once.
    pub(super) fn action(&mut self) -> Option<Action> {
        self.untold.take()
    }

    /// What runs, those that close before those that drain; the rest is never due.
    fn charges(&self) -> [Charge; 5] {
        let limits = &*self.limits;
        let dead = self.reading.reaches(limits.read_timeout);
        let stalled = self.writing.reaches(limits.write_timeout);
        let idle = self.idle.reaches(limits.idle_timeout);
        let force = |reason, by| Charge {
            by,
            action: Action::Force(reason),
        };
        let drain = |reason, by| Charge {
            by,
            action: Action::Drain(reason),
        };
        let never = force(Reason::Closed, Moment::NEVER);
        match self.state {
            State::Opening { open_by } => [
                force(Reason::Handshake, open_by),
                force(Reason::Dead, dead),
                force(Reason::Stalled, stalled),
                drain(Reason::Idle, idle),
                drain(Reason::Age, self.age_by),
            ],
            State::Serving => [
                force(Reason::Dead, dead),
                force(Reason::Stalled, stalled),
                drain(Reason::Idle, idle),
                drain(Reason::Age, self.age_by),
                never,
            ],
            State::LastCall { by } => [
                force(Reason::Dead, dead),
                force(Reason::Stalled, stalled),
                drain(Reason::Idle, idle),
                drain(Reason::Age, by),
                never,
            ],
            State::Draining { reason, close_by } => [
                force(Reason::Dead, dead),
                force(Reason::Stalled, stalled),
                force(reason, close_by),
                never,
                never,
            ],
            State::Over { .. } => [never; 5],
        }
    }

    /// Starts and stops the clocks as the counts say.
    fn settle(&mut self, now: Moment) {
        let now = self.clamp(now);
        let in_hand = self.requests > 0 || self.uploads > 0;
        let busy = in_hand || self.streams || self.blocked;
        // Where nobody counts, the service may have the stream.
        let is_left = self.streams && !in_hand && self.begun > 0;
        let writing = self.blocked || self.untaken > 0 || is_left;
        // What nobody takes holds back all others by flow control.
        let reading = self.awaited > 0 && self.awaited == self.uploads;
        self.idle.run(!busy, now);
        self.reading.run(reading, now);
        self.writing.run(writing, now);
    }

    fn clamp(&mut self, now: Moment) -> Moment {
        self.latest = self.latest.max(now);
        self.latest
    }
}

/// A limit that runs, and what is done when it has run out.
#[derive(Clone, Copy)]
struct Charge {
    by: Moment,
    action: Action,
}
