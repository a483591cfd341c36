//! When each connection of a driver is due.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::moment::Moment;

/// Two tables, for two sizes: connections at rest, of which there may be a million, have four bytes
/// each, to the millisecond; those that are looked at have their exact moment.
///
/// Setting a place is two stores. In exchange all places are gone through when one is due, so many
/// connections let what is due come together first: see [`Slack`].
#[derive(Debug)]
pub(super) struct Timers {
    /// By id.
    rest: Table<Millis>,
    /// By the key among those that are awake; the id stands beside it.
    awake: Table<Moment>,
    ids: Vec<u32>,
}

/// How long a driver lets what is due come together, so that many connections cost few wake-ups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slack {
    pub(super) rest: Duration,
    pub(super) awake: Duration,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers {
            rest: Table::new(),
            awake: Table::new(),
            ids: Vec::new(),
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
        self.rest
            .set(id as usize, Millis::wrapped(due), from_millis(due));
        true
    }

    pub(super) fn clear_rest(&mut self, id: u32) {
        self.rest.clear(id as usize);
    }

    /// The connection that is awake as `key` is due at `at`.
    pub(super) fn set_awake(&mut self, key: usize, id: u32, at: Moment) {
        if self.ids.len() <= key {
            self.ids.resize(key + 1, id);
        }
        self.ids[key] = id;
        self.awake.set(key, at, at);
    }

    pub(super) fn clear_awake(&mut self, key: usize) {
        self.awake.clear(key);
    }

    /// Hands `due` the ids of those that are due at `now`, and forgets when that was. `false` if
    /// there are so many places that it has to be called again for the rest of them.
    #[must_use]
    pub(super) fn take_due(&mut self, now: Moment, slack: Slack, mut due: impl FnMut(u32)) -> bool {
        if self.awake.begins(now, false, now, slack.awake) {
            let ids = &self.ids;
            if let Some(nearest) = self.awake.go_on(|key| due(ids[key])) {
                self.awake.from = self.awake.from.min(nearest);
            }
        }
        let millis = whole_millis(now);
        // So long after it was due, a wrapped time says nothing any more.
        let all = millis.saturating_sub(whole_millis(self.rest.from)) > FURTHEST;
        if self
            .rest
            .begins(Millis(millis as u32), all, now, slack.rest)
            && let Some(nearest) = self.rest.go_on(|id| due(id as u32))
        {
            let until = Millis(millis as u32).until(nearest);
            if nearest != Millis::NONE {
                let nearest = from_millis(millis.saturating_add_signed(until.into()));
                self.rest.from = self.rest.from.min(nearest);
            }
        }
        self.awake.pass.is_none() && self.rest.pass.is_none()
    }

    /// When to come back.
    pub(super) fn next(&self, slack: Slack) -> Moment {
        self.awake.next(slack.awake).min(self.rest.next(slack.rest))
    }

    /// Gives back what a burst took.
    pub(super) fn shrink_rest(&mut self, ids: usize) {
        self.rest.shrink(ids);
    }

    /// The same for those that are awake.
    pub(super) fn shrink_awake(&mut self, keys: usize) {
        self.ids.truncate(keys);
        self.ids.shrink_to_fit();
        self.awake.shrink(keys);
    }
}

/// When each is due, and the earliest of each block of them.
#[derive(Debug)]
struct Table<T> {
    places: Vec<T>,
    /// Nobody in the block is due before this.
    blocks: Vec<T>,
    /// Nobody at all is due before this.
    from: Moment,
    /// When it was last gone through.
    seen: Moment,
    pass: Option<Pass<T>>,
}

/// How far it has been gone through.
#[derive(Clone, Copy, Debug)]
struct Pass<T> {
    now: T,
    /// Whether whoever has a time is due.
    all: bool,
    block: usize,
    nearest: T,
}

/// A time that has an order and a value for "never".
trait Time: Copy + PartialEq {
    const NONE: Self;

    fn is_by(self, now: Self) -> bool;
}

impl<T: Time> Table<T> {
    fn new() -> Table<T> {
        Table {
            places: Vec::new(),
            blocks: Vec::new(),
            from: Moment::NEVER,
            seen: Moment::default(),
            pass: None,
        }
    }

    fn set(&mut self, place: usize, time: T, from: Moment) {
        if self.places.len() <= place {
            self.places.resize(place + 1, T::NONE);
            self.blocks.resize(place / BLOCK + 1, T::NONE);
        }
        self.places[place] = time;
        let block = &mut self.blocks[place / BLOCK];
        *block = earlier(*block, time);
        self.from = self.from.min(from);
    }

    /// What is known of its block may now be too early, which costs a look at it.
    fn clear(&mut self, place: usize) {
        if let Some(time) = self.places.get_mut(place) {
            *time = T::NONE;
        }
    }

    /// Whether it is to be gone through, or still is.
    fn begins(&mut self, now: T, all: bool, at: Moment, slack: Duration) -> bool {
        if self.pass.is_none() && self.next(slack) <= at {
            // Whoever is set meanwhile may be set where the pass has been.
            self.from = Moment::NEVER;
            self.seen = at;
            self.pass = Some(Pass {
                now,
                all,
                block: 0,
                nearest: T::NONE,
            });
        }
        self.pass.is_some()
    }

    /// Goes on for some blocks; after the last it returns when the next place is due.
    fn go_on(&mut self, mut due: impl FnMut(usize)) -> Option<T> {
        let mut pass = self.pass.take()?;
        let last = self.blocks.len().min(pass.block + BLOCKS_AT_MOST);
        for number in pass.block..last {
            let block = &mut self.blocks[number];
            if *block == T::NONE {
                continue;
            }
            if pass.all || block.is_by(pass.now) {
                *block = T::NONE;
                let end = self.places.len().min((number + 1) * BLOCK);
                for place in number * BLOCK..end {
                    let time = &mut self.places[place];
                    if *time == T::NONE {
                        continue;
                    }
                    if pass.all || time.is_by(pass.now) {
                        *time = T::NONE;
                        due(place);
                    } else {
                        *block = earlier(*block, *time);
                    }
                }
            }
            pass.nearest = earlier(pass.nearest, *block);
        }
        if last == self.blocks.len() {
            return Some(pass.nearest);
        }
        pass.block = last;
        self.pass = Some(pass);
        None
    }

    fn next(&self, slack: Duration) -> Moment {
        if self.pass.is_some() {
            return self.seen;
        }
        match self.from {
            Moment::NEVER => Moment::NEVER,
            from => from.max(self.seen.after(slack)),
        }
    }

    fn shrink(&mut self, places: usize) {
        if self.pass.is_some() {
            return;
        }
        self.places.truncate(places);
        self.places.shrink_to_fit();
        self.blocks.truncate(places.div_ceil(BLOCK));
        self.blocks.shrink_to_fit();
    }
}

fn earlier<T: Time>(a: T, b: T) -> T {
    if b == T::NONE || (a != T::NONE && a.is_by(b)) {
        a
    } else {
        b
    }
}

impl Time for Moment {
    const NONE: Moment = Moment::NEVER;

    fn is_by(self, now: Moment) -> bool {
        self <= now
    }
}

/// A millisecond of the clock, wrapping. Only those that are near each other can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Millis(u32);

impl Millis {
    fn wrapped(millis: u64) -> Millis {
        match Millis(millis as u32) {
            // A millisecond early is looked at and put off again.
            Millis::NONE => Millis(u32::MAX - 1),
            millis => millis,
        }
    }

    fn until(self, later: Millis) -> i32 {
        later.0.wrapping_sub(self.0) as i32
    }
}

impl Time for Millis {
    const NONE: Millis = Millis(u32::MAX);

    fn is_by(self, now: Millis) -> bool {
        self.until(now) >= 0
    }
}

fn whole_millis(at: Moment) -> u64 {
    at.as_nanos() / MILLISECOND
}

fn from_millis(millis: u64) -> Moment {
    Moment::default().after(Duration::from_millis(millis))
}

const MILLISECOND: u64 = 1_000_000;

/// Half of what wraps, less a margin: whoever is due later is looked at then, and put off again.
const FURTHEST: u64 = (i32::MAX / 2) as u64;

/// How many blocks are gone through at a time: a fraction of a millisecond's work.
const BLOCKS_AT_MOST: usize = 8_192;

/// So few that most blocks have nobody due when the others are gone through.
const BLOCK: usize = 8;
