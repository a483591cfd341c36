//! When the bytes of one IO have stood still for too long, and the timer that tells.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Sleep;

use super::{
    handle::Shared,
    limits::{Limits, ReadWhen},
};
use crate::{
    error::{Cause, Failure},
    lanes::Lane,
    moment::{Clock, Moment},
};

pub(super) struct Watch {
    limits: Limits,
    clock: Clock,
    pub(super) shared: Arc<Shared>,
    /// Since when the lane is pending.
    read_since: Option<Moment>,
    write_since: Option<Moment>,
    moved_at: Moment,
    read_at: Moment,
    /// Whether the last byte that moved was a written one.
    owed: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer fires; never, if it was not set since it fired.
    armed: Moment,
    /// What the timer was last armed for when it fired. Only limits that ran out by then are
    /// judged: the runtime has looked at its sockets since, so what looks pending is.
    fired: Moment,
    /// Whether a lane left the verdict to the other one since the timer fired.
    asked: bool,
}

impl Watch {
    pub(super) fn new(limits: Limits) -> Watch {
        let clock = Clock::start();
        let now = clock.now();
        Watch {
            limits,
            clock,
            shared: Arc::default(),
            read_since: None,
            write_since: None,
            moved_at: now,
            read_at: now,
            owed: false,
            timer: None,
            armed: Moment::NEVER,
            fired: now,
            asked: false,
        }
    }

    /// The lane's IO was ready, and bytes moved or not.
    pub(super) fn ready(&mut self, lane: Lane, moved: bool) {
        if self.limits.are_off() {
            if moved && lane == Lane::Write {
                self.shared.wrote.store(true, Ordering::Relaxed);
            }
            return;
        }
        match lane {
            Lane::Read => self.read_since = None,
            Lane::Write => self.write_since = None,
        }
        if !moved {
            return;
        }
        let now = self.clock.now();
        self.moved_at = now;
        self.owed = lane == Lane::Write;
        match lane {
            Lane::Read => self.read_at = now,
            Lane::Write => self.shared.wrote.store(true, Ordering::Relaxed),
        }
        // hyper parks its read before it writes: the limit that this write starts is the parked
        // read's, and no poll of it comes by to arm the timer.
        if self.has_fired(now) {
            self.shared.lanes.wake();
        }
    }

    /// The lane's IO is pending: registers its waker, and fails if a limit has run out.
    pub(super) fn pending(&mut self, lane: Lane, cx: &Context<'_>) -> Poll<io::Error> {
        self.shared.lanes.register(lane, cx.waker());
        // After registering: an end that came before it wakes nobody.
        if let Some(error) = self.shared.failed() {
            return Poll::Ready(error);
        }
        if self.limits.are_off() {
            return Poll::Pending;
        }
        let now = self.clock.now();
        match lane {
            Lane::Read => self.read_since.get_or_insert(now),
            Lane::Write => self.write_since.get_or_insert(now),
        };
        loop {
            if let Some((failure, start)) = self.verdict(lane) {
                self.timer = None;
                self.shared.end(Cause {
                    waited: now.since(start),
                    quiet_for: now.since(self.read_at),
                    by_machine: true,
                    ..Cause::new(failure)
                });
                return self.shared.failed().map_or(Poll::Pending, Poll::Ready);
            }
            if !self.has_fired(now) {
                return Poll::Pending;
            }
        }
    }

    /// What this lane may say: of a stalled write the writer only, which has just tried, and of
    /// silence nobody before a pending other lane was given the chance to try.
    fn verdict(&mut self, lane: Lane) -> Option<(Failure, Moment)> {
        let is_over =
            |&(_, start, limit): &(Failure, Moment, Duration)| start.after(limit) <= self.fired;
        if lane == Lane::Write
            && let Some((failure, start, _)) = self.write_limit().filter(is_over)
        {
            return Some((failure, start));
        }
        let read = self.read_limit().filter(|_| lane == Lane::Read);
        let (failure, start, _) = read
            .filter(is_over)
            .or_else(|| self.idle_limit().filter(is_over))?;
        if self.since(lane.other()).is_some() && !self.asked {
            self.asked = true;
            // This lane as well: the other one may have been given up, and then nobody else looks.
            self.shared.lanes.wake();
            return None;
        }
        Some((failure, start))
    }

    fn since(&self, lane: Lane) -> Option<Moment> {
        match lane {
            Lane::Read => self.read_since,
            Lane::Write => self.write_since,
        }
    }

    fn read_limit(&self) -> Option<(Failure, Moment, Duration)> {
        let runs = match self.limits.read_when {
            ReadWhen::Pending => true,
            ReadWhen::AfterWrite => self.owed,
        };
        let since = self.read_since.filter(|_| runs)?;
        let start = since.max(self.moved_at);
        Some((Failure::ReadTimeout, start, self.limits.read_timeout?))
    }

    fn write_limit(&self) -> Option<(Failure, Moment, Duration)> {
        let since = self.write_since?;
        Some((Failure::WriteTimeout, since, self.limits.write_timeout?))
    }

    fn idle_limit(&self) -> Option<(Failure, Moment, Duration)> {
        let since = match (self.read_since, self.write_since) {
            (Some(read), Some(write)) => read.min(write),
            (read, write) => read.or(write)?,
        };
        let start = since.max(self.moved_at);
        Some((Failure::IdleTimeout, start, self.limits.idle_timeout?))
    }

    /// The next moment at which a limit runs out that has not yet.
    fn next(&self) -> Moment {
        [self.read_limit(), self.write_limit(), self.idle_limit()]
            .into_iter()
            .flatten()
            .map(|(_, start, limit)| start.after(limit))
            // Earlier ones wait for a lane to look, and both were woken for that.
            .filter(|by| *by > self.fired)
            .min()
            .unwrap_or(Moment::NEVER)
    }

    /// Keeps the timer on the next limit, and tells whether it has fired. One that is set too
    /// early, because bytes moved, stays: when it fires it is set anew.
    fn has_fired(&mut self, now: Moment) -> bool {
        let next = self.next();
        if next < self.armed {
            let Some(instant) = self.clock.instant(next) else {
                return false;
            };
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(instant),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(instant))),
            }
            self.armed = next;
        } else if self.armed == Moment::NEVER || now < self.armed {
            return false;
        }
        let Some(timer) = &mut self.timer else {
            return false;
        };
        let waker = Waker::from(Arc::clone(&self.shared));
        if timer
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            return false;
        }
        self.fired = self.armed;
        self.armed = Moment::NEVER;
        self.asked = false;
        true
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.end(Cause::new(Failure::Closed));
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("limits", &self.limits)
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}
