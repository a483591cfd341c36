//! For how long something has been so.

use std::time::Duration;

use crate::moment::Moment;

/// Since when something is so; never, where it is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch(Moment);

impl Stopwatch {
    pub(super) const STOPPED: Stopwatch = Stopwatch(Moment::NEVER);

    pub(super) fn since(now: Moment) -> Stopwatch {
        Stopwatch(now)
    }

    pub(super) fn started_at(self) -> Option<Moment> {
        (self.0 != Moment::NEVER).then_some(self.0)
    }

    /// Starts it, unless it runs, or stops it.
    pub(super) fn run(&mut self, runs: bool, now: Moment) {
        self.0 = match self.started_at() {
            Some(started_at) if runs => started_at,
            None if runs => now,
            Some(_) | None => Moment::NEVER,
        };
    }

    /// When it will have run for so long.
    pub(super) fn reaches(self, limit: Option<Duration>) -> Moment {
        after(self.0, limit)
    }
}

pub(super) fn after(since: Moment, limit: Option<Duration>) -> Moment {
    limit.map_or(Moment::NEVER, |limit| since.after(limit))
}
