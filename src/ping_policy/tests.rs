//! Tests of the rule with invented instants.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::{
    PingPolicy,
    rule::{Rule, Verdict},
};
use crate::{
    config::{ConfigError, Setting},
    moment::Moment,
};

const SECOND: Duration = Duration::from_secs(1);
const NANOSECOND: Duration = Duration::from_nanos(1);
const START: Moment = Moment::from_nanos(7_000_000_000);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A rule whose reader finds each ping as it comes.
struct Prompt(Rule);

impl Prompt {
    fn new(policy: PingPolicy) -> Prompt {
        Prompt(Rule::new(policy, START))
    }

    fn ping(&mut self, after: Duration, is_idle: bool) -> Verdict {
        let now = START.after(after);
        let verdict = self.0.on_ping(now, is_idle);
        self.0.on_empty(now);
        verdict
    }

    fn ping_busy(&mut self, after: Duration) -> Verdict {
        self.ping(after, false)
    }
}

fn policy(min_interval: Duration) -> PingPolicy {
    PingPolicy::grpc()
        .min_interval(min_interval)
        .expect("legal")
}

#[test]
fn a_ping_is_early_until_the_interval_has_passed_to_the_nanosecond() {
    for is_idle in [false, true] {
        for policy in [policy(SECOND), policy(SECOND).while_idle(true)] {
            let interval = if is_idle && policy == self::policy(SECOND) {
                2 * HOUR
            } else {
                SECOND
            };
            for (after, verdict) in [
                (interval - NANOSECOND, Verdict::Strike),
                (interval, Verdict::Permitted),
                (interval + NANOSECOND, Verdict::Permitted),
            ] {
                let mut rule = Prompt::new(policy);
                assert_eq!(rule.ping(SECOND, is_idle), Verdict::Permitted);
                let second = rule.ping(SECOND + after, is_idle);
                assert_eq!(second, verdict, "{policy:?}, idle: {is_idle}, {after:?}");
            }
        }
    }
}

#[test]
fn while_idle_an_interval_of_more_than_two_hours_is_not_shortened() {
    let mut rule = Prompt::new(policy(3 * HOUR));
    assert_eq!(rule.ping(HOUR, true), Verdict::Permitted);
    assert_eq!(rule.ping(4 * HOUR - NANOSECOND, true), Verdict::Strike);
    let mut rule = Prompt::new(policy(3 * HOUR));
    assert_eq!(rule.ping(HOUR, true), Verdict::Permitted);
    assert_eq!(rule.ping(4 * HOUR, true), Verdict::Permitted);
}

#[test]
fn the_ping_after_the_last_strike_is_the_last() {
    for strikes in [0, 1, 2, 5] {
        let mut rule = Prompt::new(policy(SECOND).strikes(strikes));
        assert_eq!(rule.ping_busy(SECOND), Verdict::Permitted);
        for _ in 0..strikes {
            assert_eq!(rule.ping_busy(SECOND), Verdict::Strike);
        }
        assert_eq!(rule.ping_busy(SECOND), Verdict::SentOff, "{strikes}");
    }
}

#[test]
fn who_was_sent_off_stays_so_whatever_comes() {
    let mut rule = Prompt::new(policy(SECOND).strikes(0));
    assert_eq!(rule.ping_busy(SECOND), Verdict::Permitted);
    assert_eq!(rule.ping_busy(SECOND), Verdict::SentOff);
    rule.0.on_sent();
    assert_eq!(rule.ping_busy(10 * HOUR), Verdict::SentOff);
}

#[test]
fn permitted_pings_forgive_no_strike_and_what_is_sent_forgives_all() {
    let mut rule = Prompt::new(policy(SECOND));
    let mut now = SECOND;
    assert_eq!(rule.ping_busy(now), Verdict::Permitted);
    for _ in 0..2 {
        assert_eq!(rule.ping_busy(now), Verdict::Strike);
        now += SECOND;
        assert_eq!(rule.ping_busy(now), Verdict::Permitted);
    }
    let mut pardoned = Prompt(rule.0);
    assert_eq!(rule.ping_busy(now), Verdict::SentOff);

    pardoned.0.on_sent();
    let verdicts = [0; 4].map(|_| pardoned.ping_busy(now));
    let expected = [
        Verdict::Permitted,
        Verdict::Strike,
        Verdict::Strike,
        Verdict::SentOff,
    ];
    assert_eq!(verdicts, expected);
}

#[test]
fn a_ping_that_came_too_early_is_what_the_next_interval_runs_from() {
    let mut rule = Prompt::new(policy(SECOND));
    assert_eq!(rule.ping_busy(SECOND), Verdict::Permitted);
    assert_eq!(rule.ping_busy(SECOND * 3 / 2), Verdict::Strike);
    let early = SECOND * 5 / 2 - NANOSECOND;
    assert_eq!(rule.ping_busy(early), Verdict::Strike);
    assert_eq!(rule.ping_busy(early + SECOND), Verdict::Permitted);
}

#[test]
fn pings_that_were_found_together_may_have_come_since_nothing_lay_there() {
    let mut rule = Rule::new(policy(SECOND), START);
    let late = START.after(10 * SECOND + SECOND / 2);
    // The first at once, ten more in ten seconds and a half.
    for number in 0..=10 {
        assert_eq!(rule.on_ping(late, false), Verdict::Permitted, "{number}");
    }
    assert_eq!(rule.on_ping(late, false), Verdict::Strike);
    // They may have come at the ends of seconds, the early one as well.
    rule.on_empty(late);
    let next = START.after(11 * SECOND);
    assert_eq!(rule.on_ping(next, false), Verdict::Permitted);
    rule.on_empty(next);
    // This one came when it was found.
    let early = next.after(SECOND - NANOSECOND);
    assert_eq!(rule.on_ping(early, false), Verdict::Strike);
}

#[test]
fn of_pings_that_were_found_together_none_came_before_the_last_look() {
    for had_pinged in [false, true] {
        let room = |after: Duration| {
            let mut rule = Rule::new(policy(SECOND), START);
            if had_pinged {
                assert_eq!(rule.on_ping(START, false), Verdict::Permitted);
            }
            rule.on_empty(START.after(10 * SECOND));
            let found = START.after(10 * SECOND + after);
            [0; 3].map(|_| rule.on_ping(found, false))
        };
        let [first, second, third] = room(SECOND - NANOSECOND);
        assert_eq!(first, Verdict::Permitted);
        assert_eq!([second, third], [Verdict::Strike; 2]);
        let [first, second, third] = room(SECOND);
        assert_eq!([first, second], [Verdict::Permitted; 2]);
        assert_eq!(third, Verdict::Strike);
    }
}

#[test]
fn nor_did_one_that_came_too_early() {
    for (after, verdict) in [
        (SECOND - NANOSECOND, Verdict::Strike),
        (SECOND, Verdict::Permitted),
    ] {
        let mut rule = Prompt::new(policy(SECOND));
        assert_eq!(rule.ping_busy(Duration::ZERO), Verdict::Permitted);
        let looked_at = START.after(SECOND / 2);
        rule.0.on_empty(looked_at);
        let early = START.after(SECOND * 3 / 4);
        assert_eq!(rule.0.on_ping(early, false), Verdict::Strike);
        assert_eq!(rule.0.on_ping(looked_at.after(after), false), verdict);
    }
}

#[test]
fn settings_that_no_clock_can_keep_are_refused() {
    let millisecond = Duration::from_millis(1);
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    for legal in [millisecond, year] {
        assert_eq!(policy(legal).min_interval, legal);
    }
    for short in [Duration::ZERO, millisecond - NANOSECOND] {
        let error = PingPolicy::grpc().min_interval(short).expect_err("short");
        assert!(matches!(error, ConfigError::TooShort { least, .. } if least == millisecond));
        assert_eq!(error.setting(), Setting::MinInterval);
    }
    for long in [year + NANOSECOND, Duration::MAX] {
        let error = PingPolicy::grpc().min_interval(long).expect_err("long");
        assert!(matches!(error, ConfigError::TooLong { most, .. } if most == year));
        assert_eq!(
            error.to_string(),
            "`min_interval` must be at most 31536000s"
        );
    }
}

/// What happens, after some milliseconds.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Ping { is_idle: bool },
    Sent,
    Empty,
}

fn facts() -> impl Strategy<Value = Vec<(u64, Fact)>> {
    let fact = prop_oneof![
        6 => any::<bool>().prop_map(|is_idle| Fact::Ping { is_idle }),
        1 => Just(Fact::Sent),
        2 => Just(Fact::Empty),
    ];
    let wait = prop_oneof![3 => 0..3_000_u64, 1 => 0..9_000_000_u64];
    vec((wait, fact), 0..60)
}

fn policies() -> impl Strategy<Value = PingPolicy> {
    (1..3_000_u64, any::<bool>(), 0..4_u32).prop_map(|(millis, while_idle, strikes)| {
        policy(Duration::from_millis(millis))
            .while_idle(while_idle)
            .strikes(strikes)
    })
}

/// As grpc-go's `handlePing` counts, but for the longer of two intervals.
struct GrpcGo {
    policy: PingPolicy,
    last_at: Option<Moment>,
    strikes: u32,
}

impl GrpcGo {
    fn is_flooded(&mut self, now: Moment, is_idle: bool) -> bool {
        let least = if is_idle && !self.policy.while_idle {
            self.policy.min_interval.max(2 * HOUR)
        } else {
            self.policy.min_interval
        };
        if self.last_at.is_some_and(|last| last.after(least) > now) {
            self.strikes += 1;
        }
        self.last_at = Some(now);
        self.strikes > self.policy.strikes
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pings_that_are_found_as_they_come_are_judged_as_grpc_go_does(
        policy in policies(),
        facts in facts(),
    ) {
        let mut rule = Prompt::new(policy);
        let mut oracle = GrpcGo { policy, last_at: None, strikes: 0 };
        let mut now = Duration::ZERO;
        for (wait, fact) in facts {
            now += Duration::from_millis(wait);
            match fact {
                Fact::Ping { is_idle } => {
                    let verdict = rule.ping(now, is_idle);
                    let expected = oracle.is_flooded(START.after(now), is_idle);
                    prop_assert_eq!(verdict == Verdict::SentOff, expected);
                    if expected {
                        break;
                    }
                }
                Fact::Sent => {
                    rule.0.on_sent();
                    oracle = GrpcGo { policy, last_at: None, strikes: 0 };
                }
                Fact::Empty => rule.0.on_empty(START.after(now)),
            }
        }
    }

    #[test]
    fn one_late_look_costs_who_keeps_the_interval_one_strike_at_most(
        policy in policies(),
        gaps in vec(0..2_000_u64, 2..60),
        late in 0..60_usize,
        by in 0..60_000_u64,
    ) {
        let arrivals = gaps.into_iter().scan(START, |at, gap| {
            *at = at.after(policy.min_interval + Duration::from_millis(gap));
            Some(*at)
        });
        let arrivals: Vec<_> = arrivals.collect();
        let late = arrivals[late % arrivals.len()];
        let mut rule = Rule::new(policy.strikes(1), START);
        let mut looked_at = START;
        for at in arrivals {
            let now = if at < late { at } else { at.max(late.after(Duration::from_millis(by))) };
            if now > looked_at {
                rule.on_empty(looked_at);
            }
            looked_at = now;
            prop_assert_ne!(rule.on_ping(now, false), Verdict::SentOff);
        }
    }

    #[test]
    fn looks_that_find_several_pings_each_cost_who_keeps_the_interval_nothing(
        policy in policies(),
        looks in vec(2..6_u32, 1..30),
    ) {
        let mut rule = Rule::new(policy, START);
        let (mut at, half) = (START, policy.min_interval / 2);
        for pings in looks {
            at = at.after(policy.min_interval * pings);
            for _ in 0..pings {
                prop_assert_eq!(rule.on_ping(at.after(half), false), Verdict::Permitted);
            }
            rule.on_empty(at.after(half));
        }
    }

    #[test]
    fn of_a_flood_no_more_passes_than_the_time_since_its_begin_has_room_for(
        policy in policies(),
        facts in facts(),
    ) {
        let mut rule = Rule::new(policy, START);
        let (mut now, mut begun_at, mut passed) = (START, START, 0);
        for (wait, fact) in facts {
            now = now.after(Duration::from_millis(wait));
            match fact {
                Fact::Ping { is_idle } => {
                    if rule.on_ping(now, is_idle) != Verdict::SentOff {
                        passed += 1;
                    }
                    let intervals = now.since(begun_at).as_nanos() / policy.min_interval.as_nanos();
                    prop_assert!(passed <= 1 + u128::from(policy.strikes) + intervals);
                }
                Fact::Sent => {
                    rule.on_sent();
                    (begun_at, passed) = (now, 0);
                    rule.on_empty(now);
                }
                Fact::Empty => rule.on_empty(now),
            }
        }
    }

    #[test]
    fn no_instant_makes_it_panic(policy in policies(), nanos in vec(any::<u64>(), 0..20)) {
        let mut rule = Rule::new(policy, START);
        for nanos in nanos {
            rule.on_empty(Moment::from_nanos(nanos));
            rule.on_ping(Moment::from_nanos(!nanos), nanos % 2 == 0);
        }
    }
}
