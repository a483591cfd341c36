//! Which settings are legal, and what follows from them.

use super::*;

const CLASSIC: Config = match Config::builder()
    .interval(Duration::from_secs(30))
    .pong_timeout(Duration::from_secs(10))
    .max_missed(3)
    .build()
{
    Ok(config) => config,
    Err(_) => panic!("illegal settings"),
};

const QUICK: Config = match Config::detect_within(Duration::from_secs(10)) {
    Ok(config) => config,
    Err(_) => panic!("illegal bound"),
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const NANOSECOND: Duration = Duration::from_nanos(1);

#[test]
fn the_defaults_are_legal_and_as_documented() {
    let defaults = Config {
        interval: secs(30),
        pong_timeout: secs(10),
        max_missed: 3,
        ready_timeout: secs(10),
        idle_timeout: None,
        quiet_timeout: None,
        verify_after_idle: None,
        suspect_after: None,
        max_local_pause: secs(5),
        jitter: 0,
        local_fault_share: 0,
        local_fault_connections: 8,
        ping_when: PingWhen::Quiet,
        evidence: Evidence::AnyTraffic,
        detector: Detector::Fixed,
        pong_floor: secs(10),
        phi_threshold: 8,
    };
    assert_eq!(Config::builder().build(), Ok(defaults));
    assert_eq!(Config::default(), defaults);
    assert_eq!(PingWhen::default(), PingWhen::Quiet);
    assert_eq!(Evidence::default(), Evidence::AnyTraffic);
    assert_eq!(Detector::default(), Detector::Fixed);
}

#[test]
fn settings_can_be_built_in_a_constant() {
    assert_eq!(CLASSIC, Config::default());
    assert_eq!(Ok(QUICK), Config::detect_within(secs(10)));
}

#[test]
fn every_setting_arrives() {
    let config = Config::builder()
        .interval(secs(61))
        .pong_timeout(secs(11))
        .max_missed(4)
        .ready_timeout(secs(12))
        .idle_timeout(secs(63))
        .quiet_timeout(secs(64))
        .verify_after_idle(secs(55))
        .suspect_after(secs(75))
        .max_local_pause(secs(6))
        .jitter(20)
        .local_fault_share(60)
        .local_fault_connections(30)
        .ping_when(PingWhen::NotBusy)
        .evidence(Evidence::PongOnly)
        .detector(Detector::PhiAccrual)
        .pong_floor(secs(2))
        .phi_threshold(12)
        .build();
    let expected = Config {
        interval: secs(61),
        pong_timeout: secs(11),
        max_missed: 4,
        ready_timeout: secs(12),
        idle_timeout: Some(secs(63)),
        quiet_timeout: Some(secs(64)),
        verify_after_idle: Some(secs(55)),
        suspect_after: Some(secs(75)),
        max_local_pause: secs(6),
        jitter: 20,
        local_fault_share: 60,
        local_fault_connections: 30,
        ping_when: PingWhen::NotBusy,
        evidence: Evidence::PongOnly,
        detector: Detector::PhiAccrual,
        pong_floor: secs(2),
        phi_threshold: 12,
    };
    assert_eq!(config, Ok(expected));
}

#[test]
fn what_depends_on_the_pong_wait_follows_it_unless_it_is_set() {
    let derived = build(Config::builder().pong_timeout(secs(8)));
    assert_eq!(derived.ready_timeout, secs(8));
    assert_eq!(derived.max_local_pause, secs(4));

    let least = build(Config::builder().pong_timeout(MILLISECOND));
    assert_eq!(least.max_local_pause, MILLISECOND);

    let set = Config::builder()
        .ready_timeout(Duration::ZERO)
        .max_local_pause(secs(1))
        .pong_timeout(secs(8));
    assert_eq!(build(set).ready_timeout, Duration::ZERO);
    assert_eq!(build(set).max_local_pause, secs(1));
}

#[test]
fn a_duration_has_to_be_one_that_a_timer_can_keep() {
    let setters: [(Setting, Duration, Setter); 10] = [
        (Setting::DetectWithin, millis(20), |b, d| b.detect_within(d)),
        (Setting::PongFloor, MILLISECOND, |b, d| b.pong_floor(d)),
        (Setting::Interval, MILLISECOND, |b, d| b.interval(d)),
        (Setting::PongTimeout, MILLISECOND, |b, d| b.pong_timeout(d)),
        (Setting::ReadyTimeout, Duration::ZERO, |b, d| {
            b.ready_timeout(d)
        }),
        (Setting::IdleTimeout, MILLISECOND, |b, d| b.idle_timeout(d)),
        (Setting::QuietTimeout, MILLISECOND, |b, d| {
            b.quiet_timeout(d)
        }),
        (Setting::VerifyAfterIdle, MILLISECOND, |b, d| {
            b.verify_after_idle(d).ping_when(PingWhen::WhileBusy)
        }),
        (Setting::SuspectAfter, MILLISECOND, |b, d| {
            b.suspect_after(d)
        }),
        (Setting::MaxLocalPause, MILLISECOND, |b, d| {
            b.max_local_pause(d)
        }),
    ];
    for (setting, least, set) in setters {
        let too_long = set(Config::builder(), YEAR + NANOSECOND).build();
        let most = YEAR;
        assert_eq!(too_long, Err(ConfigError::TooLong { setting, most }));
        let absurd = set(Config::builder(), Duration::MAX).build();
        assert_eq!(absurd, Err(ConfigError::TooLong { setting, most }));

        if least > Duration::ZERO {
            let too_short = set(Config::builder(), least - NANOSECOND).build();
            assert_eq!(too_short, Err(ConfigError::TooShort { setting, least }));
            let zero = set(Config::builder(), Duration::ZERO).build();
            assert_eq!(zero, Err(ConfigError::TooShort { setting, least }));
        }
        if setting != Setting::SuspectAfter {
            assert!(set(Config::builder(), least).build().is_ok(), "{setting}");
            assert!(set(Config::builder(), YEAR).build().is_ok(), "{setting}");
        }
    }
}

#[test]
fn a_number_has_to_be_in_its_range() {
    for max_missed in [1, 1_000] {
        assert!(Config::builder().max_missed(max_missed).build().is_ok());
    }
    for max_missed in [0, 1_001, u32::MAX] {
        let error = ConfigError::OutOfRange {
            setting: Setting::MaxMissed,
            least: 1,
            most: 1_000,
        };
        assert_eq!(refused(Config::builder().max_missed(max_missed)), error);
    }
    assert!(Config::builder().jitter(25).build().is_ok());
    for percent in [26, u8::MAX] {
        let error = ConfigError::OutOfRange {
            setting: Setting::Jitter,
            least: 0,
            most: 25,
        };
        assert_eq!(refused(Config::builder().jitter(percent)), error);
    }
}

#[test]
fn a_suspicion_has_to_be_one_that_can_be_told_from_certainty() {
    for phi in [1, 16] {
        assert!(Config::builder().phi_threshold(phi).build().is_ok());
    }
    for phi in [0, 17, u8::MAX] {
        let error = ConfigError::OutOfRange {
            setting: Setting::PhiThreshold,
            least: 1,
            most: 16,
        };
        assert_eq!(refused(Config::builder().phi_threshold(phi)), error);
    }
}

#[test]
fn the_least_pong_wait_lies_below_the_longest() {
    for detector in [Detector::RoundTrips, Detector::PhiAccrual] {
        let settings = Config::builder().detector(detector);
        let just_below = settings.pong_floor(secs(10) - NANOSECOND);
        assert_eq!(build(just_below).pong_floor(), secs(10) - NANOSECOND);
        let error = ConfigError::MustStayBelow {
            setting: Setting::PongFloor,
            other: Setting::PongTimeout,
            limit: secs(10),
        };
        assert_eq!(refused(settings.pong_floor(secs(10))), error);
        assert_eq!(error.other(), Some(Setting::PongTimeout));
    }
    // Useless, and no conflict.
    let fixed = build(Config::builder().pong_floor(secs(20)));
    assert_eq!(fixed.pong_floor(), secs(10));
}

#[test]
fn the_least_waits_for_a_verdict_are_a_second_in_all_unless_the_longest_are_shorter() {
    let adaptive = Config::builder().detector(Detector::RoundTrips);
    let floors = [(1, 1_000), (2, 500), (4, 250), (5, 200), (1_000, 200)];
    for (max_missed, floor) in floors {
        let config = build(adaptive.max_missed(max_missed));
        assert_eq!(config.pong_floor(), millis(floor));
        assert_eq!(config.max_local_pause(), millis(floor / 2));
    }
    let short = build(adaptive.pong_timeout(millis(100)));
    assert_eq!(short.pong_floor(), millis(100));
    assert_eq!(
        refused(adaptive.max_missed(0)).setting(),
        Setting::MaxMissed
    );
}

#[test]
fn the_bound_is_the_same_with_every_detector() {
    let fixed = build(within(secs(10)).local_fault_share(50));
    for detector in [Detector::RoundTrips, Detector::PhiAccrual] {
        let adaptive = build(within(secs(10)).local_fault_share(50).detector(detector));
        assert_eq!(
            adaptive.worst_case_detection(),
            fixed.worst_case_detection()
        );
    }
}

#[test]
fn the_soft_limit_lies_between_the_first_ping_and_the_verdict() {
    let settings = |limit| Config::builder().suspect_after(limit);
    let first_ping = millis(33_750);
    let verdict = millis(73_750);
    for limit in [MILLISECOND, first_ping] {
        let error = ConfigError::MustExceed {
            setting: Setting::SuspectAfter,
            other: Setting::Interval,
            limit: first_ping,
        };
        assert_eq!(refused(settings(limit)), error);
    }
    for limit in [verdict, YEAR] {
        let error = ConfigError::MustStayBelow {
            setting: Setting::SuspectAfter,
            other: Setting::MaxMissed,
            limit: verdict,
        };
        assert_eq!(refused(settings(limit)), error);
    }
    assert!(settings(first_ping + NANOSECOND).build().is_ok());
    assert!(settings(verdict - NANOSECOND).build().is_ok());
}

#[test]
fn verification_comes_before_the_ping_that_would_do_it() {
    let settings = |limit, ping_when| {
        Config::builder()
            .verify_after_idle(limit)
            .ping_when(ping_when)
    };
    for ping_when in [PingWhen::Always, PingWhen::Quiet, PingWhen::NotBusy] {
        let error = ConfigError::MustStayBelow {
            setting: Setting::VerifyAfterIdle,
            other: Setting::Interval,
            limit: secs(30),
        };
        assert_eq!(refused(settings(secs(30), ping_when)), error);
        assert!(settings(secs(30) - NANOSECOND, ping_when).build().is_ok());
    }
    assert!(settings(YEAR, PingWhen::WhileBusy).build().is_ok());
}

#[test]
fn verification_comes_before_the_idle_limit() {
    for ping_when in [PingWhen::Quiet, PingWhen::WhileBusy] {
        let settings = Config::builder()
            .idle_timeout(secs(20))
            .ping_when(ping_when);
        let error = ConfigError::MustStayBelow {
            setting: Setting::VerifyAfterIdle,
            other: Setting::IdleTimeout,
            limit: secs(20),
        };
        assert_eq!(refused(settings.verify_after_idle(secs(20))), error);
        let below = settings.verify_after_idle(secs(20) - NANOSECOND);
        assert!(below.build().is_ok());
    }
}

#[test]
fn a_setting_that_breaks_the_bound_asked_for_is_named() {
    let bound = secs(72);
    let (interval, eighth) = (secs(32), secs(9));
    let breaking: [(Setting, ConfigBuilder, Duration); 4] = [
        (
            Setting::Interval,
            within(bound).interval(interval + millis(8)),
            bound + millis(9),
        ),
        (
            Setting::PongTimeout,
            within(bound).pong_timeout(eighth + millis(1)),
            bound + millis(3),
        ),
        (Setting::MaxMissed, within(bound).max_missed(4), secs(81)),
        (
            Setting::ReadyTimeout,
            within(bound).ready_timeout(eighth + NANOSECOND),
            bound + NANOSECOND,
        ),
    ];
    for (other, settings, limit) in breaking {
        let error = ConfigError::MustExceed {
            setting: Setting::DetectWithin,
            other,
            limit,
        };
        assert_eq!(refused(settings), error);
    }
}

#[test]
fn settings_that_keep_the_bound_asked_for_may_follow_it() {
    let kept = build(
        within(secs(72))
            .ready_timeout(Duration::ZERO)
            .max_missed(4)
            .jitter(25)
            .ping_when(PingWhen::Always),
    );
    assert_eq!(kept.worst_case_detection(), secs(72));
}

#[test]
fn a_bound_is_kept_and_not_given_away() {
    let bounds = (20..2_000)
        .map(Duration::from_millis)
        .chain((1..5_000).map(|n| Duration::from_nanos(20_000_000 + n * 7_654_321)))
        .chain((2..5_000).map(Duration::from_secs))
        .chain([YEAR]);
    for bound in bounds {
        let config = Config::detect_within(bound).expect("legal");
        let worst = config.worst_case_detection();
        assert!(worst <= bound, "{worst:?} > {bound:?}");
        assert!(worst > bound * 9 / 10, "{worst:?} is far from {bound:?}");
        assert_eq!(config.max_missed, 3);
        assert_eq!(config.ready_timeout, config.pong_timeout);
    }
}

#[test]
fn a_local_fault_is_worth_one_more_window_of_the_bound() {
    let config = build(Config::builder().local_fault_share(50));
    let more = config.worst_case_detection() - CLASSIC.worst_case_detection();
    assert_eq!(more, config.pong_timeout);
}

#[test]
fn a_bound_makes_room_for_a_local_fault_in_either_order() {
    for bound in [millis(20), secs(1), secs(10), YEAR] {
        let after = build(within(bound).local_fault_share(50));
        let before = build(Config::builder().local_fault_share(50).detect_within(bound));
        assert_eq!(after, before);
        let worst = after.worst_case_detection();
        assert!(worst <= bound && worst > bound * 9 / 10, "{worst:?}");
        assert_eq!(after.pong_timeout, bound / 10);
        let off_again = build(within(bound).local_fault_share(50).local_fault_share(0));
        assert_eq!(
            Ok(off_again).map(|c| c.pong_timeout),
            Config::detect_within(bound).map(|c| c.pong_timeout)
        );
    }
    // What was set by hand stays as it is.
    let by_hand = within(secs(10))
        .ready_timeout(Duration::ZERO)
        .local_fault_share(50);
    assert_eq!(build(by_hand).ready_timeout, Duration::ZERO);
}

#[test]
fn the_bound_is_the_sum_of_what_passes_before_the_verdict() {
    let config = build(
        Config::builder()
            .interval(secs(16))
            .ready_timeout(secs(1))
            .pong_timeout(secs(5))
            .max_missed(4),
    );
    assert_eq!(config.worst_case_detection(), secs(16 + 2 + 1 + 4 * 5));
}

#[test]
fn the_bound_of_the_longest_settings_does_not_overflow() {
    let config = build(
        Config::builder()
            .interval(YEAR)
            .pong_timeout(YEAR)
            .max_missed(1_000),
    );
    assert_eq!(config.worst_case_detection(), YEAR * 1_002 + YEAR / 8);
}

#[test]
fn a_tick_is_an_eighth_of_the_shortest_limit_that_is_dated_by_it() {
    assert_eq!(CLASSIC.tick(), millis(3_750));
    let shorter = [
        Config::builder().idle_timeout(secs(8)),
        Config::builder().quiet_timeout(secs(8)),
        Config::builder().verify_after_idle(secs(8)),
        Config::builder()
            .idle_timeout(secs(20))
            .quiet_timeout(secs(8))
            .verify_after_idle(secs(16)),
    ];
    for settings in shorter {
        assert_eq!(build(settings).tick(), secs(1));
    }
    let longer = Config::builder()
        .idle_timeout(secs(80))
        .quiet_timeout(secs(80));
    assert_eq!(build(longer).tick(), millis(3_750));
}

#[test]
fn a_tick_is_at_least_a_millisecond() {
    let ticks = [
        (millis(8) - NANOSECOND, MILLISECOND),
        (millis(8), MILLISECOND),
        (
            millis(8) + Duration::from_nanos(8),
            MILLISECOND + NANOSECOND,
        ),
        (MILLISECOND, MILLISECOND),
    ];
    for (interval, tick) in ticks {
        assert_eq!(build(Config::builder().interval(interval)).tick(), tick);
    }
}

#[test]
fn an_error_names_its_settings_in_words() {
    let errors = [
        (
            refused(Config::builder().interval(Duration::ZERO)),
            "`interval` must be at least 1ms",
        ),
        (
            refused(Config::builder().idle_timeout(Duration::MAX)),
            "`idle_timeout` must be at most 31536000s",
        ),
        (
            refused(Config::builder().max_missed(0)),
            "`max_missed` must be from 1 to 1000",
        ),
        (
            refused(Config::builder().suspect_after(secs(30))),
            "`suspect_after` must be longer than 33.75s, to leave room for `interval`",
        ),
        (
            refused(Config::builder().verify_after_idle(secs(30))),
            "`verify_after_idle` must be shorter than 30s, because `interval` acts first",
        ),
    ];
    for (error, words) in errors {
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn every_setting_is_called_by_the_name_of_its_method() {
    let names = [
        (Setting::DetectWithin, "detect_within"),
        (Setting::Interval, "interval"),
        (Setting::PongTimeout, "pong_timeout"),
        (Setting::MaxMissed, "max_missed"),
        (Setting::ReadyTimeout, "ready_timeout"),
        (Setting::IdleTimeout, "idle_timeout"),
        (Setting::QuietTimeout, "quiet_timeout"),
        (Setting::VerifyAfterIdle, "verify_after_idle"),
        (Setting::SuspectAfter, "suspect_after"),
        (Setting::MaxLocalPause, "max_local_pause"),
        (Setting::Jitter, "jitter"),
        (Setting::LocalFaultShare, "local_fault_share"),
        (Setting::LocalFaultConnections, "local_fault_connections"),
        (Setting::PongFloor, "pong_floor"),
        (Setting::PhiThreshold, "phi_threshold"),
    ];
    for (setting, name) in names {
        assert_eq!(setting.to_string(), name);
    }
}

type Setter = fn(ConfigBuilder, Duration) -> ConfigBuilder;

fn within(bound: Duration) -> ConfigBuilder {
    Config::builder().detect_within(bound)
}

fn build(settings: ConfigBuilder) -> Config {
    settings.build().expect("legal")
}

fn refused(settings: ConfigBuilder) -> ConfigError {
    settings.build().expect_err("illegal")
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
