//! When a ping is due, and what its answer does.

use super::*;

#[test]
fn a_ping_is_due_at_interval_and_not_a_nanosecond_before() {
    assert_due_at(&start(settings()), at(30), Action::Ping);
}

#[test]
fn a_sign_of_life_postpones_the_ping() {
    let mut machine = start(settings());
    machine.on_heard(at(10));
    assert_due_at(&machine, at(40), Action::Ping);

    machine.on_heard(just_before(at(40)));
    assert_due_at(&machine, just_before(at(70)), Action::Ping);
}

#[test]
fn a_sign_of_life_at_the_very_moment_of_the_ping_wins() {
    let mut machine = start(settings());
    machine.on_heard(at(30));
    assert_eq!(machine.handle_timeout(at(30)), None);
    assert_due_at(&machine, at(60), Action::Ping);
}

#[test]
fn always_is_not_postponed_by_traffic() {
    let mut machine = start(settings().ping_when(PingWhen::Always));
    machine.on_heard(just_before(at(30)));
    assert_due_at(&machine, at(30), Action::Ping);
    machine.on_heard(at(30));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
}

#[test]
fn always_counts_from_the_moment_the_last_ping_was_out() {
    let mut machine = start(settings().ping_when(PingWhen::Always));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_ping_sent(at(32));
    machine.on_pong(at(35));
    machine.on_heard(at(40));
    assert_due_at(&machine, at(62), Action::Ping);
}

#[test]
fn always_pings_at_once_when_the_pong_took_longer_than_the_interval() {
    let mut machine = start(
        settings()
            .ping_when(PingWhen::Always)
            .interval(secs(10))
            .pong_timeout(secs(20)),
    );
    send_ping(&mut machine, at(10));
    machine.on_pong(at(25));
    assert_eq!(drain(&mut machine, at(25)), [Action::Ping]);
}

#[test]
fn a_pong_rests_the_ping_for_an_interval() {
    let mut machine = start_pinged(settings());
    machine.on_pong(at(32));
    assert_eq!(machine.handle_timeout(at(32)), None);
    assert_due_at(&machine, at(62), Action::Ping);
}

#[test]
fn a_pong_is_heard_under_every_evidence() {
    for evidence in [Evidence::AnyTraffic, Evidence::PongOnly] {
        let mut machine = start_pinged(settings().evidence(evidence));
        machine.on_pong(at(32));
        assert_eq!(machine.heard_at(), at(32));
    }
}

#[test]
fn a_wanted_ping_is_due_at_once() {
    let mut machine = start(settings());
    machine.on_ping_wanted(at(3));
    assert_eq!(machine.next_timeout(), Some(at(3)));
    assert_eq!(drain(&mut machine, at(3)), [Action::Ping]);
}

#[test]
fn a_ping_wanted_twice_is_made_once() {
    let mut machine = start(settings());
    machine.on_ping_wanted(at(3));
    machine.on_ping_wanted(at(3));
    send_ping(&mut machine, at(3));
    machine.on_pong(at(4));
    assert_due_at(&machine, at(34), Action::Ping);
}

#[test]
fn the_ping_that_is_out_serves_those_who_want_one() {
    let mut machine = start_pinged(settings());
    machine.on_ping_wanted(at(31));
    assert_eq!(machine.handle_timeout(at(31)), None);
    machine.on_pong(at(32));
    assert_due_at(&machine, at(62), Action::Ping);
}

#[test]
fn no_second_ping_is_made_while_one_is_out() {
    for ping_when in [PingWhen::Quiet, PingWhen::Always] {
        let mut machine = start_pinged(settings().ping_when(ping_when));
        for now in (31..1_000).map(at) {
            machine.on_heard(now);
            assert_eq!(machine.handle_timeout(now), None);
        }
    }
}

#[test]
fn a_connection_that_cannot_ping_never_does() {
    for ping_when in [PingWhen::Quiet, PingWhen::Always, PingWhen::WhileBusy] {
        let mut machine = start_without_pings(settings().ping_when(ping_when));
        machine.on_ping_wanted(at(1));
        machine.on_request_start(at(2));
        machine.on_heard(at(3));
        assert_dormant(&machine);
    }
}

#[test]
fn a_failed_ping_ends_the_connection() {
    let mut machine = start_pinged(settings());
    assert_eq!(drain(&mut machine, at(40)).len(), 2);
    let ending = Ending {
        failure: Failure::PingFailed,
        waited: secs(12),
        missed: 1,
        quiet_for: secs(42),
    };
    assert_eq!(machine.on_ping_failed(at(42)), Some(Action::End(ending)));
    assert_eq!(machine.next_timeout(), None);
    assert_eq!(machine.on_ping_failed(at(43)), None);
}

#[test]
fn a_ping_that_fails_on_its_way_out_has_waited_since_it_was_due() {
    let mut machine = start(settings());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    let ending = Ending {
        failure: Failure::PingFailed,
        waited: secs(2),
        missed: 0,
        quiet_for: secs(32),
    };
    assert_eq!(machine.on_ping_failed(at(32)), Some(Action::End(ending)));
}

#[test]
fn a_ping_that_fails_after_it_was_answered_still_ends_the_connection() {
    let mut machine = start_pinged(settings());
    machine.on_pong(at(31));
    let ending = Ending {
        failure: Failure::PingFailed,
        waited: Duration::ZERO,
        missed: 0,
        quiet_for: secs(1),
    };
    assert_eq!(machine.on_ping_failed(at(32)), Some(Action::End(ending)));
}

#[test]
fn every_pong_is_a_round_trip_sample() {
    let mut machine = start_pinged(settings());
    assert_eq!(machine.rtt(), None);
    machine.on_pong(at(32));
    assert_eq!(machine.rtt(), Some(Rtt::first(secs(2))));

    send_ping(&mut machine, at(62));
    machine.on_heard(at(63));
    machine.on_pong(at(66));
    assert_eq!(machine.rtt(), Some(Rtt::first(secs(2)).next(secs(4))));
}

#[test]
fn a_pong_that_nobody_asked_for_changes_nothing() {
    let mut machine = start(settings());
    machine.on_pong(at(10));
    assert_due_at(&machine, at(30), Action::Ping);

    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_pong(at(31));
    assert_due_at(&machine, at(35), Action::LookAgain);
    assert_eq!(machine.rtt(), None);
}
