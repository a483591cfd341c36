//! A peer that cannot be pinged: no more pings, and every other limit goes on.

use super::*;

#[test]
fn no_ping_follows_in_any_mode_wanted_or_not() {
    for ping_when in MODES {
        let mut machine = start(settings().ping_when(ping_when));
        send_wanted_ping(&mut machine, at(1));
        machine.on_ping_unsupported(at(3));
        assert_dormant(&machine);

        machine.on_heard(at(4));
        machine.bring_ping_forward(at(5));
        machine.on_ping_wanted(at(5));
        machine.on_request_start(at(6));
        machine.on_ping_wanted(at(7));
        assert_dormant(&machine);
        machine.on_request_end(at(8));
        assert_dormant(&machine);
    }
}

#[test]
fn an_answer_that_says_so_is_a_sign_of_life_under_every_evidence() {
    for evidence in [Evidence::AnyTraffic, Evidence::PongOnly] {
        let mut machine = start_pinged(settings().evidence(evidence));
        assert_eq!(drain(&mut machine, at(40)).len(), 2);
        machine.on_ping_unsupported(at(42));
        assert_eq!((machine.heard_at(), machine.missed()), (at(42), 0));
        assert_eq!(machine.rtt(), None, "it is no pong");
        assert_eq!(drain(&mut machine, at(42)), [well()]);
        assert_dormant(&machine);
    }
}

#[test]
fn a_ping_that_says_so_before_it_is_out_is_no_sign_of_life() {
    let mut sending = start(settings());
    assert_eq!(sending.handle_timeout(at(30)), Some(Action::Ping));
    let mut calling_off = sending.clone();
    calling_off.on_heard(at(31));
    for (mut machine, heard_at) in [(sending, at(0)), (calling_off, at(31))] {
        machine.on_ping_unsupported(at(32));
        assert_eq!(machine.heard_at(), heard_at);
        assert_eq!(drain(&mut machine, at(32)), []);
        assert_dormant(&machine);
    }
}

#[test]
fn nobody_is_held_back_for_a_pong_any_more() {
    let held = settings().verify_after_idle(secs(20));
    let mut unverified_one = start(held);
    assert_eq!(drain(&mut unverified_one, at(20)), [unverified()]);
    unverified_one.on_ping_wanted(at(21));
    assert_eq!(drain(&mut unverified_one, at(21)), [Action::Ping]);

    let mut suspect_one = start(settings().suspect_after(secs(50)));
    assert_eq!(suspect_one.handle_timeout(at(50)), Some(Action::Ping));
    assert_eq!(drain(&mut suspect_one, at(50)), [suspect()]);

    for mut machine in [unverified_one, suspect_one] {
        machine.on_ping_unsupported(at(51));
        assert_eq!(machine.next_timeout(), Some(at(51)));
        assert_eq!(drain(&mut machine, at(51)), [well()]);
        assert_dormant(&machine);
    }
}

#[test]
fn the_idle_limit_goes_on_from_where_it_was() {
    for sent in [false, true] {
        let mut machine = start(settings().idle_timeout(secs(60)));
        assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
        if sent {
            machine.on_ping_sent(at(30));
        }
        machine.on_ping_unsupported(at(31));
        assert_due_at(&machine, at(60), leaving());
    }
}

#[test]
fn a_connection_that_was_leaving_leaves() {
    let mut machine = start(settings().idle_timeout(secs(35)));
    send_ping(&mut machine, at(30));
    assert_eq!(machine.handle_timeout(at(35)), Some(leaving()));
    machine.on_ping_unsupported(at(35));
    let ended = drain(&mut machine, at(35));
    assert!(matches!(
        ended[..],
        [Action::LookAgain, Action::End(Ending { failure, .. })] if failure == Failure::IdleTimeout
    ));
}

#[test]
fn the_quiet_limit_goes_on_from_the_last_sign_of_life() {
    for (sent, heard_at) in [(false, 1), (true, 31)] {
        let mut machine = start(settings().quiet_timeout(secs(40)));
        machine.on_request_start(at(1));
        machine.on_heard(at(1));
        let due_at = machine.next_timeout().expect("a ping is due");
        assert_eq!(machine.handle_timeout(due_at), Some(Action::Ping));
        if sent {
            machine.on_ping_sent(at(31));
        }
        machine.on_ping_unsupported(at(31));
        let ending = Ending {
            failure: Failure::ReadTimeout,
            waited: secs(40),
            missed: 0,
            quiet_for: secs(40),
        };
        assert_ends_at(&machine, at(heard_at + 40), ending);
    }
}

#[test]
fn a_verdict_that_was_about_to_fall_does_not() {
    let mut waiting = start_pinged(settings().max_missed(1));
    assert_eq!(drain_to_look(&mut waiting, at(40)), Action::LookAgain);
    let mut sending = start(settings());
    assert_eq!(sending.handle_timeout(at(30)), Some(Action::Ping));
    assert_eq!(drain_to_look(&mut sending, at(35)), Action::LookAgain);
    for mut machine in [waiting, sending] {
        machine.on_ping_unsupported(at(40));
        assert_eq!(drain(&mut machine, at(40)), []);
        assert_dormant(&machine);
    }
}

#[test]
fn it_is_said_once_and_not_after_the_end() {
    let mut machine = start_pinged(settings().idle_timeout(secs(60)));
    machine.on_ping_unsupported(at(31));
    machine.on_ping_unsupported(at(32));
    machine.on_pong(at(33));
    assert_eq!(machine.heard_at(), at(31));
    assert_due_at(&machine, at(60), leaving());

    let mut ended = start_pinged(settings());
    assert!(ended.on_ping_failed(at(31)).is_some());
    ended.on_ping_unsupported(at(32));
    assert_eq!(ended.heard_at(), at(0));
    assert_dormant(&ended);
}

#[test]
fn a_rest_does_not_bring_the_pings_back() {
    for ping_when in MODES {
        let settings = settings().ping_when(ping_when).verify_after_idle(secs(20));
        let mut machine = start(settings);
        send_wanted_ping(&mut machine, at(1));
        machine.on_ping_unsupported(at(2));
        assert_eq!(drain(&mut machine, at(2)), []);
        let rest = machine.at_rest().expect("it rests");
        assert!(!rest.can_ping);
        let config = Arc::clone(&machine.config);
        // The link counts the pings that went out, whatever became of them.
        let rest = Rest { pings: 1, ..rest };
        let mut resumed = Liveness::resumed(config, rest, at(3));
        resumed.on_ping_wanted(at(3));
        assert_dormant(&resumed);
    }
}

fn send_wanted_ping(machine: &mut Liveness, now: Moment) {
    machine.on_ping_wanted(now);
    send_ping(machine, now);
}

fn drain_to_look(machine: &mut Liveness, now: Moment) -> Action {
    machine.handle_timeout(now).expect("a limit ran out")
}
