//! Invented moments, and a naive list beside them.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NANOSECOND: Duration = Duration::from_nanos(1);
/// After this many milliseconds their u32 begins anew.
const WRAP: u64 = 1 << 32;

#[test]
fn those_awake_are_due_at_their_moment_and_not_a_nanosecond_before() {
    let mut timers = timers(4);
    timers.set_awake(2, 2, at(3));
    timers.set_awake(3, 3, at(1));
    timers.set_awake(0, 0, at(1));
    timers.set_awake(1, 1, at(2));
    assert_eq!(timers.next(Slack::default()), at(1));
    assert_eq!(taken(&mut timers, at(1).before(NANOSECOND)), []);
    assert_eq!(taken(&mut timers, at(1)), [0, 3]);
    assert_eq!(timers.next(Slack::default()), at(2));
    assert_eq!(taken(&mut timers, at(5)), [1, 2]);
    assert_eq!(timers.next(Slack::default()), Moment::NEVER);
    assert_eq!(taken(&mut timers, Moment::NEVER), []);
}

#[test]
fn who_is_cleared_is_not_due() {
    let mut timers = timers(3);
    timers.set_awake(0, 0, at(1));
    timers.clear_awake(0);
    assert!(timers.set_rest(1, at(1), at(0)));
    assert!(timers.set_rest(2, at(2), at(0)));
    timers.clear_rest(1);
    assert_eq!(taken(&mut timers, at(1)), []);
    assert_eq!(timers.next(Slack::default()), at(2));
    assert_eq!(taken(&mut timers, at(2)), [2]);
    assert_eq!(timers.next(Slack::default()), Moment::NEVER);
}

#[test]
fn who_is_never_due_has_no_timer() {
    let mut timers = timers(2);
    timers.set_awake(0, 0, Moment::NEVER);
    timers.clear_awake(0);
    assert!(timers.set_rest(1, Moment::NEVER, at(0)));
    assert_eq!(timers.next(Slack::default()), Moment::NEVER);
    assert_eq!(taken(&mut timers, at(1_000_000)), []);
}

#[test]
fn those_at_rest_are_due_in_their_millisecond() {
    let due_at = at(1).after(Duration::from_micros(999));
    let mut timers = timers(1);
    assert!(timers.set_rest(0, due_at, at(0)));
    assert_eq!(timers.next(Slack::default()), at(1));
    assert_eq!(taken(&mut timers, at(1).before(NANOSECOND)), []);
    assert_eq!(taken(&mut timers, at(1)), [0]);
    assert_eq!(timers.next(Slack::default()), Moment::NEVER);
}

#[test]
fn who_is_due_within_two_milliseconds_does_not_rest() {
    let mut timers = timers(1);
    let now = at(1).after(Duration::from_micros(600));
    for soon in [at(0), at(1), now, at(1).after(Duration::from_micros(1_999))] {
        assert!(!timers.set_rest(0, soon, now));
    }
    assert_eq!(timers.next(Slack::default()), Moment::NEVER);
    assert!(timers.set_rest(0, at(1).after(Duration::from_millis(2)), now));
    assert_eq!(taken(&mut timers, now), []);
}

#[test]
fn the_millisecond_that_means_nobody_is_brought_forward() {
    let nobody = from_millis(u64::from(Millis::NONE.0));
    let mut timers = timers(1);
    assert!(timers.set_rest(0, nobody, nobody.before(SECOND)));
    let next = timers.next(Slack::default());
    assert!(nobody.before(Duration::from_millis(2)) < next && next <= nobody);
    assert_eq!(taken(&mut timers, nobody.before(2 * MILLIS)), []);
    assert_eq!(taken(&mut timers, nobody), [0]);
}

#[test]
fn milliseconds_may_wrap() {
    let wrap = from_millis(WRAP);
    let mut timers = timers(3);
    let now = wrap.before(10 * SECOND);
    assert!(timers.set_rest(0, wrap.before(SECOND), now));
    assert!(timers.set_rest(1, wrap, now));
    assert!(timers.set_rest(2, wrap.after(SECOND), now));
    assert_eq!(taken(&mut timers, now), []);
    assert_eq!(taken(&mut timers, wrap.before(SECOND)), [0]);
    assert_eq!(timers.next(Slack::default()), wrap);
    assert_eq!(taken(&mut timers, wrap), [1]);
    assert_eq!(timers.next(Slack::default()), wrap.after(SECOND));
    assert_eq!(taken(&mut timers, wrap.after(SECOND)), [2]);
}

#[test]
fn who_is_due_beyond_the_furthest_is_looked_at_then() {
    let furthest = Duration::from_millis(FURTHEST);
    for now in [at(0), at(3), from_millis(WRAP - 5), from_millis(7 * WRAP)] {
        let mut timers = timers(2);
        assert_eq!(taken(&mut timers, now), []);
        assert!(timers.set_rest(0, now.after(furthest * 3), now));
        assert!(timers.set_rest(1, now.after(furthest), now));
        assert_eq!(timers.next(Slack::default()), now.after(furthest));
        assert_eq!(taken(&mut timers, now.after(furthest / 2)), []);
        assert_eq!(taken(&mut timers, now.after(furthest)), [0, 1]);
    }
}

#[test]
fn a_driver_that_comes_days_late_finds_all() {
    let mut timers = timers(1);
    assert!(timers.set_rest(0, at(10), at(0)));
    assert_eq!(taken(&mut timers, at(24 * 24 * 3_600)), [0]);
}

#[test]
fn what_is_due_comes_together_within_the_slack() {
    let slack = Slack {
        rest: 4 * SECOND,
        awake: 2 * SECOND,
    };
    let mut awake = timers(3);
    awake.set_awake(0, 0, at(10));
    assert_eq!(awake.next(slack), at(10), "nobody was due lately");
    assert_eq!(taken(&mut awake, at(10)), [0]);
    awake.set_awake(1, 1, at(11));
    awake.set_awake(2, 2, at(13));
    assert_eq!(awake.next(slack), at(12));
    assert_eq!(awake.next(Slack::default()), at(11));
    assert_eq!(taken(&mut awake, at(12)), [1]);
    assert_eq!(awake.next(slack), at(14));

    let mut rest = timers(3);
    for (id, second) in [(0, 10), (1, 11), (2, 15)] {
        assert!(rest.set_rest(id, at(second), at(1)));
    }
    assert_eq!(rest.next(slack), at(10));
    assert_eq!(taken(&mut rest, at(10)), [0]);
    assert_eq!(rest.next(slack), at(14));
    assert_eq!(taken(&mut rest, at(14)), [1]);
    assert_eq!(rest.next(slack), at(18));
}

#[test]
fn a_look_that_finds_nobody_awake_puts_nothing_off() {
    let slack = Slack {
        awake: 2 * SECOND,
        ..Slack::default()
    };
    let mut timers = timers(1);
    timers.set_awake(0, 0, at(10));
    assert_eq!(taken(&mut timers, at(9)), []);
    assert_eq!(timers.next(slack), at(10));
}

#[test]
fn very_many_are_gone_through_in_parts() {
    let count = 3 * (BLOCK * BLOCKS_AT_MOST) as u32;
    let mut timers = timers(count);
    for id in 0..count {
        assert!(timers.set_rest(id, at(10 + u64::from(id % 2)), at(0)));
    }
    let (mut due, mut parts) = (Vec::new(), 1);
    while !timers.take_due(at(10), Slack::default(), |id| due.push(id)) {
        assert_eq!(timers.next(Slack::default()), at(10), "at once");
        if parts == 1 {
            // Where it has been, and where it has yet to come.
            for id in [0, count - 2] {
                assert!(timers.set_rest(id, at(10).after(SECOND / 2), at(10)));
            }
        }
        parts += 1;
    }
    assert_eq!(parts, 3);
    assert_eq!(due.len() as u32, count / 2 - 1);
    assert_eq!(timers.next(Slack::default()), at(10).after(SECOND / 2));
    assert_eq!(taken(&mut timers, at(10).after(SECOND / 2)), [0, count - 2]);
    assert_eq!(timers.next(Slack::default()), at(11));
    assert_eq!(taken(&mut timers, at(11)).len() as u32, count / 2);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn they_hand_out_what_a_naive_list_does(
        start in prop_oneof![Just(0), 0..3 * WRAP, WRAP - 100_000..WRAP + 100],
        ids in prop_oneof![Just(3_u32), Just(200)],
        script in prop::collection::vec((any::<u32>(), 0..4_u8, delays(), delays(), any::<bool>()), 1..80),
    ) {
        let mut pair = Pair::new(ids, from_millis(start));
        for (id, what, delay, pause, punctual) in script {
            pair.set(id % ids, what, delay);
            pair.advance(pause, punctual);
        }
        pair.advance(Duration::from_secs(365 * 24 * 3_600), true);
        prop_assert!(pair.list.is_empty());
    }
}

/// The timers and a list that says the same.
struct Pair {
    timers: Timers,
    list: Vec<Entry>,
    now: Moment,
}

struct Entry {
    id: u32,
    at: Moment,
    /// Until when it is at rest at most.
    rests_until: Option<Moment>,
}

impl Pair {
    fn new(ids: u32, now: Moment) -> Pair {
        Pair {
            timers: timers(ids),
            list: Vec::new(),
            now,
        }
    }

    /// Sets `id` anew, or clears it.
    fn set(&mut self, id: u32, what: u8, delay: Duration) {
        if let Some(index) = self.list.iter().position(|entry| entry.id == id) {
            let old = self.list.swap_remove(index);
            match old.rests_until {
                Some(_) => self.timers.clear_rest(id),
                None => self.timers.clear_awake(id as usize),
            }
        }
        let at = self.now.after(delay);
        let rests_until = match what {
            0 => return,
            1 => None,
            _ if self.timers.set_rest(id, at, self.now) => {
                let furthest = self.now.after(Duration::from_millis(FURTHEST));
                Some(at.min(furthest))
            }
            _ => {
                assert!(delay < 3 * MILLIS);
                None
            }
        };
        if rests_until.is_none() {
            self.timers.set_awake(id as usize, id, at);
        }
        self.list.push(Entry {
            id,
            at,
            rests_until,
        });
    }

    /// Lets time pass as a driver does: whenever they say so, or only at the end.
    fn advance(&mut self, pause: Duration, punctual: bool) {
        let until = self.now.after(pause);
        let may_be_late = pause < Duration::from_millis(FURTHEST);
        loop {
            let next = self.timers.next(Slack::default());
            for entry in &self.list {
                let due_at = entry.rests_until.unwrap_or(entry.at);
                assert!(next <= due_at, "nobody comes for {}", entry.id);
            }
            if next > until || (may_be_late && !punctual) {
                break;
            }
            self.now = self.now.max(next);
            self.take();
        }
        self.now = until;
        self.take();
    }

    fn take(&mut self) {
        let now = self.now;
        let taken = taken(&mut self.timers, now);
        for &id in &taken {
            let index = self.list.iter().position(|entry| entry.id == id);
            let entry = self.list.swap_remove(index.expect("it was set, and once"));
            match entry.rests_until {
                Some(until) => assert!(until.since(now) < 2 * MILLIS, "{id} came too early"),
                None => assert!(entry.at <= now, "{id} came too early"),
            }
        }
        for entry in &self.list {
            let due_at = entry.rests_until.unwrap_or(entry.at);
            assert!(due_at > now, "{} was left out", entry.id);
        }
    }
}

/// Nanoseconds, milliseconds, minutes, weeks: what is next to each other, and what wraps.
fn delays() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..3_000_000_u64).prop_map(Duration::from_nanos),
        (0..200_u64).prop_map(Duration::from_millis),
        (0..3_600_000_u64).prop_map(Duration::from_millis),
        (0..20 * 24 * 3_600_u64).prop_map(Duration::from_secs),
    ]
}

fn timers(ids: u32) -> Timers {
    let mut timers = Timers::new();
    for id in 0..ids {
        // The places are there, as after some time.
        timers.set_awake(id as usize, id, Moment::NEVER);
        timers.clear_rest(id);
    }
    timers
}

fn taken(timers: &mut Timers, now: Moment) -> Vec<u32> {
    let mut ids = Vec::new();
    while !timers.take_due(now, Slack::default(), |id| ids.push(id)) {}
    ids
}

fn at(seconds: u64) -> Moment {
    Moment::default().after(Duration::from_secs(seconds))
}

const MILLIS: Duration = Duration::from_millis(1);
