//! Facts that come twice, calls that come early, clocks that go back.

use super::*;

#[test]
fn an_early_call_changes_nothing() {
    let machines = [
        start(settings()),
        start_pinged(settings()),
        start(settings().idle_timeout(secs(40))),
    ];
    for machine in machines {
        let mut called = machine.clone();
        for now in (31..35).map(at) {
            let early = just_before(machine.next_timeout().expect("a limit runs")).min(now);
            assert_eq!(called.handle_timeout(early), None);
        }
        assert_eq!(called.next_timeout(), machine.next_timeout());
    }
}

#[test]
fn an_older_now_counts_as_the_newest_seen() {
    let mut machine = start(settings());
    machine.on_heard(at(20));
    machine.on_heard(at(10));
    assert_eq!(machine.heard_at(), at(20));
    assert_due_at(&machine, at(50), Action::Ping);

    assert_eq!(machine.handle_timeout(at(50)), Some(Action::Ping));
    machine.on_ping_sent(at(40));
    assert_due_at(&machine, at(60), Action::Missed { missed: 1 });

    machine.on_pong(at(45));
    assert_eq!(machine.rtt(), Some(Rtt::first(Duration::ZERO)));
    assert_due_at(&machine, at(80), Action::Ping);
}

#[test]
fn an_older_now_does_not_undo_a_limit_that_ran_out() {
    let mut machine = start(settings());
    assert_eq!(machine.handle_timeout(just_before(at(30))), None);
    machine.on_request_start(at(30));
    assert_eq!(machine.handle_timeout(at(3)), Some(Action::Ping));
}

#[test]
fn an_older_now_dates_use_to_the_newest_seen() {
    let mut machine = start_without_pings(settings().idle_timeout(secs(20)));
    machine.on_request_start(at(10));
    machine.on_request_end(at(5));
    assert_eq!(machine.idle_since(), Some(at(10)));
    assert_due_at(&machine, at(30), leaving());
}

#[test]
fn a_ping_reported_sent_that_nobody_asked_for_changes_nothing() {
    let mut machine = start(settings());
    machine.on_ping_sent(at(10));
    assert_due_at(&machine, at(30), Action::Ping);
}

#[test]
fn a_ping_reported_sent_twice_is_out_since_the_first_time() {
    let mut machine = start_pinged(settings());
    machine.on_ping_sent(at(35));
    assert_due_at(&machine, at(40), Action::Missed { missed: 1 });
}

#[test]
fn a_pong_reported_twice_counts_once() {
    let mut machine = start_pinged(settings());
    machine.on_pong(at(32));
    machine.on_pong(at(35));
    assert_eq!(machine.heard_at(), at(32));
    assert_due_at(&machine, at(62), Action::Ping);
}

#[test]
fn a_request_start_reported_twice_is_the_first() {
    let mut machine = start_without_pings(settings().quiet_timeout(secs(20)));
    machine.on_request_start(at(5));
    machine.on_request_start(at(15));
    assert_due_at(&machine, at(25), Action::LookAgain);
}

#[test]
fn a_request_end_reported_twice_is_the_first() {
    let mut machine = start_without_pings(settings().idle_timeout(secs(20)));
    machine.on_request_start(at(5));
    machine.on_request_end(at(8));
    machine.on_request_end(at(15));
    assert_due_at(&machine, at(28), leaving());
}

#[test]
fn a_repeated_sign_of_life_calls_off_once() {
    let mut machine = start(settings());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_heard(at(31));
    machine.on_heard(at(31));
    assert_eq!(drain(&mut machine, at(31)), [Action::CallOff]);
}

#[test]
fn no_fact_revives_a_connection_that_has_ended() {
    let mut machine = start_pinged(settings().max_missed(1).idle_timeout(secs(1_000)));
    assert_eq!(drain(&mut machine, at(40)).len(), 2);

    machine.on_heard(at(41));
    machine.on_pong(at(42));
    machine.on_ping_wanted(at(43));
    machine.on_ping_sent(at(44));
    machine.on_request_start(at(45));
    machine.on_request_end(at(46));
    machine.on_local_pause(at(47));
    assert_eq!(machine.on_ping_failed(at(48)), None);
    assert_eq!(machine.next_timeout(), None);
    assert_eq!(machine.handle_timeout(at(1_000_000)), None);
}
