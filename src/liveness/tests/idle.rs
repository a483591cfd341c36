//! The limits of use: `idle_timeout` and `quiet_timeout`.

use super::*;

#[test]
fn a_connection_that_was_never_used_leaves_and_ends_when_its_idle_time_is_over() {
    let machine = start(idle_settings());
    assert_eq!(machine.idle_since(), Some(at(0)));
    assert_due_at(&machine, at(20), leaving());
    assert_eq!(
        drain(&mut machine.clone(), at(20)),
        [leaving(), Action::LookAgain, idle_end(20, 20)]
    );
}

#[test]
fn idle_time_counts_from_the_end_of_the_last_request() {
    let mut machine = start(idle_settings());
    machine.on_request_start(at(5));
    assert_eq!(machine.idle_since(), None);
    machine.on_heard(at(6));
    machine.on_request_end(at(9));
    assert_eq!(machine.idle_since(), Some(at(9)));
    assert_due_at(&machine, at(29), leaving());
    assert_eq!(
        drain(&mut machine, at(29)),
        [leaving(), Action::LookAgain, idle_end(20, 23)]
    );
}

#[test]
fn a_request_at_the_very_moment_of_the_idle_limit_wins() {
    let mut machine = start(idle_settings());
    machine.on_request_start(at(20));
    assert_eq!(machine.handle_timeout(at(20)), None);
}

#[test]
fn pings_and_pongs_are_not_use() {
    let mut machine = start(settings().idle_timeout(secs(100)));
    send_ping(&mut machine, at(30));
    machine.on_pong(at(31));
    send_ping(&mut machine, at(61));
    machine.on_pong(at(62));
    send_ping(&mut machine, at(92));
    machine.on_pong(at(93));
    assert_due_at(&machine, at(100), leaving());
}

#[test]
fn wanted_pings_and_traffic_are_not_use_either() {
    let mut machine = start(idle_settings());
    machine.on_ping_wanted(at(3));
    send_ping(&mut machine, at(3));
    machine.on_pong(at(4));
    machine.on_heard(at(19));
    assert_due_at(&machine, at(20), leaving());
}

#[test]
fn the_idle_limit_never_acts_with_a_request_in_flight() {
    let mut machine = start(idle_settings());
    machine.on_request_start(at(1));
    for now in (2..1_000).map(at) {
        machine.on_heard(now);
        assert_eq!(machine.handle_timeout(now), None);
    }
}

#[test]
fn without_an_idle_limit_an_idle_connection_lives_on() {
    let machine = start_without_pings(settings());
    assert_dormant(&machine);
}

#[test]
fn no_ping_is_made_at_the_end_of_the_idle_time() {
    let mut machine = start(settings().idle_timeout(INTERVAL));
    assert_eq!(
        drain(&mut machine, at(30)),
        [leaving(), Action::LookAgain, idle_end(30, 30)]
    );
}

#[test]
fn the_idle_limit_takes_a_ping_that_is_out_with_it() {
    let mut machine = start_pinged(settings().idle_timeout(secs(35)));
    assert_eq!(
        drain(&mut machine, at(35)),
        [leaving(), Action::LookAgain, idle_end(35, 35)]
    );
}

#[test]
fn a_miss_at_the_idle_limit_is_still_told() {
    let mut machine = start_pinged(settings().idle_timeout(secs(40)));
    let ending = Ending {
        failure: Failure::IdleTimeout,
        waited: secs(40),
        missed: 1,
        quiet_for: secs(40),
    };
    assert_eq!(
        drain(&mut machine, at(40)),
        [
            leaving(),
            Action::Missed { missed: 1 },
            Action::LookAgain,
            Action::End(ending)
        ]
    );
}

#[test]
fn the_limit_that_ran_out_first_is_the_cause() {
    let mut blocked_first = start(settings().idle_timeout(secs(37)));
    assert_eq!(blocked_first.handle_timeout(at(30)), Some(Action::Ping));
    assert_eq!(
        last_failure(&mut blocked_first, at(40)),
        Failure::PingBlocked
    );

    let mut idle_first = start(settings().idle_timeout(secs(33)));
    assert_eq!(idle_first.handle_timeout(at(30)), Some(Action::Ping));
    assert_eq!(last_failure(&mut idle_first, at(40)), Failure::IdleTimeout);
}

#[test]
fn a_limit_of_use_wins_a_tie_with_one_of_the_ping() {
    let mut machine = start(settings().idle_timeout(secs(35)));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    assert_eq!(last_failure(&mut machine, at(35)), Failure::IdleTimeout);
}

#[test]
fn a_request_that_sneaks_in_finishes_and_then_the_connection_ends_at_once() {
    let mut machine = start(idle_settings());
    assert_eq!(machine.handle_timeout(at(20)), Some(leaving()));
    machine.on_request_start(at(20));
    assert_eq!(machine.handle_timeout(at(20)), None);
    machine.on_heard(at(25));
    assert_eq!(machine.handle_timeout(at(25)), None);

    machine.on_request_end(at(28));
    assert_eq!(machine.next_timeout(), Some(at(28)));
    assert_eq!(
        drain(&mut machine, at(28)),
        [Action::LookAgain, idle_end(0, 3)]
    );
}

#[test]
fn a_request_that_sneaks_in_during_the_last_look_finishes_too() {
    let mut machine = start(idle_settings());
    assert_eq!(machine.handle_timeout(at(20)), Some(leaving()));
    assert_eq!(machine.handle_timeout(at(20)), Some(Action::LookAgain));
    machine.on_request_start(at(20));
    assert_eq!(machine.handle_timeout(at(20)), None);

    machine.on_request_end(at(28));
    assert_eq!(
        drain(&mut machine, at(28)),
        [Action::LookAgain, idle_end(0, 28)]
    );
}

#[test]
fn a_request_that_sneaks_in_is_watched_to_its_end() {
    let mut machine = start(idle_settings().max_missed(1));
    assert_eq!(machine.handle_timeout(at(20)), Some(leaving()));
    machine.on_request_start(at(20));
    assert_due_at(&machine, at(30), Action::Ping);
    send_ping(&mut machine, at(30));
    assert_eq!(last_failure(&mut machine, at(40)), Failure::PongTimeout);
}

#[test]
fn no_sign_of_life_takes_leaving_back() {
    let mut machine = start(idle_settings().verify_after_idle(secs(8)));
    assert_eq!(drain(&mut machine, at(8)), [unverified()]);
    assert_eq!(machine.handle_timeout(at(20)), Some(leaving()));
    machine.on_request_start(at(20));
    machine.on_heard(at(21));
    assert_eq!(machine.handle_timeout(at(21)), None);
    assert_eq!(machine.handle_timeout(at(29)), None);
}

#[test]
fn a_quiet_peer_ends_a_busy_connection() {
    let mut machine = start(quiet_settings());
    machine.on_request_start(at(5));
    let ending = Ending {
        failure: Failure::ReadTimeout,
        waited: secs(20),
        missed: 0,
        quiet_for: secs(25),
    };
    assert_ends_at(&machine, at(25), ending);
}

#[test]
fn a_sign_of_life_restarts_the_quiet_limit() {
    let mut machine = start(quiet_settings());
    machine.on_request_start(at(5));
    machine.on_heard(at(8));
    let ending = Ending {
        failure: Failure::ReadTimeout,
        waited: secs(20),
        missed: 0,
        quiet_for: secs(20),
    };
    assert_ends_at(&machine, at(28), ending);
}

#[test]
fn the_quiet_limit_sleeps_while_idle() {
    let mut machine = start_without_pings(quiet_settings());
    assert_dormant(&machine);
    machine.on_request_start(at(100));
    assert_due_at(&machine, at(120), Action::LookAgain);
    machine.on_request_end(at(110));
    assert_dormant(&machine);
}

#[test]
fn a_ping_does_not_restart_the_quiet_limit_but_its_pong_does() {
    let mut machine = start(quiet_settings());
    machine.on_request_start(at(5));
    machine.on_ping_wanted(at(10));
    send_ping(&mut machine, at(10));
    assert_eq!(machine.clone().handle_timeout(just_before(at(20))), None);
    assert_eq!(
        drain(&mut machine, at(20)),
        [Action::Missed { missed: 1 }, suspect()]
    );
    let mut unanswered = machine.clone();
    assert_eq!(last_failure(&mut unanswered, at(25)), Failure::ReadTimeout);

    machine.on_pong(at(22));
    assert_eq!(drain(&mut machine, at(22)), [well()]);
    assert_due_at(&machine, at(42), Action::LookAgain);
}

#[test]
fn a_sign_of_life_during_the_last_look_rescues_from_the_quiet_limit() {
    let mut machine = start(quiet_settings());
    machine.on_request_start(at(5));
    assert_eq!(machine.handle_timeout(at(25)), Some(Action::LookAgain));
    machine.on_heard(at(25));
    assert_eq!(machine.handle_timeout(at(25)), None);
    assert_due_at(&machine, at(45), Action::LookAgain);
}

#[test]
fn a_request_that_ends_during_the_last_look_rescues_from_the_quiet_limit() {
    let mut machine = start(quiet_settings());
    machine.on_request_start(at(5));
    assert_eq!(machine.handle_timeout(at(25)), Some(Action::LookAgain));
    machine.on_request_end(at(25));
    assert_eq!(machine.handle_timeout(at(25)), None);
    assert_due_at(&machine, at(30), Action::Ping);
}

#[test]
fn traffic_does_not_restart_the_quiet_limit_where_only_a_pong_counts() {
    let mut machine = start(quiet_settings().evidence(Evidence::PongOnly));
    machine.on_request_start(at(5));
    machine.on_heard(at(20));
    assert_due_at(&machine, at(25), Action::LookAgain);
}

fn idle_settings() -> ConfigBuilder {
    settings().idle_timeout(secs(20))
}

fn quiet_settings() -> ConfigBuilder {
    settings().quiet_timeout(secs(20))
}

fn idle_end(waited: u64, quiet_for: u64) -> Action {
    Action::End(Ending {
        failure: Failure::IdleTimeout,
        waited: secs(waited),
        missed: 0,
        quiet_for: secs(quiet_for),
    })
}

fn last_failure(machine: &mut Liveness, now: Moment) -> Failure {
    match drain(machine, now).last() {
        Some(Action::End(ending)) => ending.failure,
        other => panic!("no end but {other:?}"),
    }
}
