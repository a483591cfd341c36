//! When each connection of a driver is due.

use std::{collections::BTreeSet, time::Duration};

use crate::moment::Moment;

/// Two kinds, for two sizes: connections at rest, of which there may be a million, have four
/// bytes each and are gone through all at once; the few that are looked at have an exact place.
///
/// Whoever goes through them does so seldom: see [`Slack`].
#[derive(Debug)]
pub(super) struct Timers {
    /// By id: the millisecond in which it is due, wrapping; `NONE` where it isn't at rest.
    rest: Vec<u32>,
    /// No connection at rest is due before this.
    rest_from: Moment,
    /// When those at rest were last gone through.
    rest_seen: Moment,
    awake: BTreeSet<(Moment, u32)>,
    /// When one that is awake was last due.
    awake_seen: Moment,
}

/// How long a driver lets what is due come together, so that many connections cost few wake-ups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slack {
    pub(super) rest: Duration,
    pub(super) awake: Duration,
}

const NONE: u32 = u32::MAX;
/// Half of what wraps, less a margin: whoever is due later is looked at then, and put off again.
const FURTHEST: u64 = (i32::MAX / 2) as u64;

impl Timers {
    pub(super) fn new() -> Timers {
        Timers {
            rest: Vec::new(),
            rest_from: Moment::NEVER,
            rest_seen: Moment::default(),
            awake: BTreeSet::new(),
            awake_seen: Moment::default(),
        }
    }

    /// Makes room for `id`.
    pub(super) fn admit(&mut self, id: u32) {
        let length = id as usize + 1;
        if self.rest.len() < length {
            self.rest.resize(length, NONE);
        }
    }

    /// A connection at rest is due at `at`, or up to two milliseconds before. `false` if that is
    /// too soon for it to rest until then.
    #[must_use]
    pub(super) fn set_rest(&mut self, id: u32, at: Moment, now: Moment) -> bool {
        if at == Moment::NEVER {
            return true;
        }
        let due = whole_millis(at).min(whole_millis(now) + FURTHEST);
        if due < whole_millis(now) + 2 {
            return false;
        }
        self.rest[id as usize] = match due as u32 {
            NONE => NONE - 1,
            due => due,
        };
        self.rest_from = self.rest_from.min(from_millis(due));
        true
    }

    pub(super) fn clear_rest(&mut self, id: u32) {
        self.rest[id as usize] = NONE;
    }

    /// A connection that is awake is due at `at`.
    pub(super) fn set_awake(&mut self, id: u32, at: Moment) {
        if at != Moment::NEVER {
            self.awake.insert((at, id));
        }
    }

    /// It was due at `at`, if it still is.
    pub(super) fn clear_awake(&mut self, id: u32, at: Moment) {
        if at != Moment::NEVER {
            self.awake.remove(&(at, id));
        }
    }

    /// Hands `due` whoever is due at `now`, and forgets when that was.
    pub(super) fn take_due(&mut self, now: Moment, mut due: impl FnMut(u32)) {
        while let Some(&(at, id)) = self.awake.first()
            && at <= now
        {
            self.awake.pop_first();
            self.awake_seen = now;
            due(id);
        }
        if self.rest_from <= now {
            self.take_rested(now, due);
        }
    }

    fn take_rested(&mut self, now: Moment, mut due: impl FnMut(u32)) {
        let now_millis = whole_millis(now);
        let left = |at: u32| at.wrapping_sub(now_millis as u32) as i32;
        let mut nearest = i32::MAX;
        for (block, places) in self.rest.chunks_mut(BLOCK).enumerate() {
            // Most blocks have nobody due; the least of each is found without a branch.
            let least = places
                .iter()
                .map(|&at| if at == NONE { i32::MAX } else { left(at) })
                .fold(i32::MAX, i32::min);
            if least > 0 {
                nearest = nearest.min(least);
                continue;
            }
            for (at, id) in places.iter_mut().zip(block * BLOCK..) {
                if *at == NONE {
                    continue;
                }
                if left(*at) <= 0 {
                    *at = NONE;
                    due(id as u32);
                } else {
                    nearest = nearest.min(left(*at));
                }
            }
        }
        self.rest_seen = now;
        self.rest_from = match nearest {
            i32::MAX => Moment::NEVER,
            millis => from_millis(now_millis + u64::from(millis.unsigned_abs())),
        };
    }

    /// When to come back.
    pub(super) fn next(&self, slack: Slack) -> Moment {
        let awake = match self.awake.first() {
            Some(&(at, _)) => at.max(self.awake_seen.after(slack.awake)),
            None => Moment::NEVER,
        };
        let rest = match self.rest_from {
            Moment::NEVER => Moment::NEVER,
            at => at.max(self.rest_seen.after(slack.rest)),
        };
        awake.min(rest)
    }
}

const BLOCK: usize = 64;
const MILLISECOND: u64 = 1_000_000;

fn whole_millis(at: Moment) -> u64 {
    at.as_nanos() / MILLISECOND
}

fn from_millis(millis: u64) -> Moment {
    Moment::default().after(Duration::from_millis(millis))
}
