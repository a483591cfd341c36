//! A ping on its way out: the ready wait, and calling it off.

use super::*;

#[test]
fn a_ping_that_is_not_out_after_the_ready_wait_is_blocked() {
    let machine = sending(settings());
    let ending = Ending {
        failure: Failure::PingBlocked,
        waited: secs(5),
        missed: 0,
        quiet_for: secs(35),
    };
    assert_ends_at(&machine, at(35), ending);
}

#[test]
fn the_ready_wait_runs_from_the_moment_the_ping_was_asked_for() {
    let mut machine = start(settings());
    assert_eq!(machine.handle_timeout(at(32)), Some(Action::Ping));
    assert_due_at(&machine, at(37), Action::LookAgain);
}

#[test]
fn without_a_ready_wait_a_ping_has_to_go_out_at_once() {
    let settings = settings().ready_timeout(Duration::ZERO);
    let ending = Ending {
        failure: Failure::PingBlocked,
        waited: Duration::ZERO,
        missed: 0,
        quiet_for: secs(30),
    };
    assert_eq!(
        drain(&mut start(settings), at(30)),
        [Action::Ping, Action::LookAgain, Action::End(ending)]
    );

    let sent_at_once = start_pinged(settings);
    assert_due_at(&sent_at_once, at(40), Action::Missed { missed: 1 });
}

#[test]
fn a_ping_that_goes_out_at_the_last_moment_is_not_blocked() {
    let mut machine = sending(settings());
    machine.on_ping_sent(at(35));
    assert_eq!(machine.handle_timeout(at(35)), None);
    assert_due_at(&machine, at(45), Action::Missed { missed: 1 });
}

#[test]
fn a_ping_that_goes_out_during_the_last_look_is_not_blocked() {
    let mut machine = sending(settings());
    assert_eq!(machine.handle_timeout(at(35)), Some(Action::LookAgain));
    machine.on_ping_sent(at(35));
    assert_eq!(machine.handle_timeout(at(35)), None);
    assert_due_at(&machine, at(45), Action::Missed { missed: 1 });
}

#[test]
fn a_sign_of_life_calls_the_ping_off() {
    let mut machine = sending(settings());
    machine.on_heard(at(33));
    assert_eq!(machine.next_timeout(), Some(at(33)));
    assert_eq!(drain(&mut machine, at(33)), [Action::CallOff]);
    assert_due_at(&machine, at(63), Action::Ping);
}

#[test]
fn a_sign_of_life_during_the_last_look_calls_the_ping_off() {
    let mut machine = sending(settings());
    assert_eq!(machine.handle_timeout(at(35)), Some(Action::LookAgain));
    machine.on_heard(at(35));
    assert_eq!(drain(&mut machine, at(35)), [Action::CallOff]);
    assert_due_at(&machine, at(65), Action::Ping);
}

#[test]
fn a_ping_that_slips_out_before_it_is_called_off_is_out() {
    let mut machine = sending(settings());
    machine.on_heard(at(33));
    machine.on_ping_sent(at(33));
    assert_eq!(machine.handle_timeout(at(33)), None);
    assert_due_at(&machine, at(43), Action::Missed { missed: 1 });
    machine.on_pong(at(34));
    assert_due_at(&machine, at(64), Action::Ping);
}

#[test]
fn a_wanted_ping_is_not_called_off() {
    let mut machine = start(settings());
    machine.on_ping_wanted(at(3));
    assert_eq!(machine.handle_timeout(at(3)), Some(Action::Ping));
    machine.on_heard(at(6));
    assert_eq!(machine.handle_timeout(at(6)), None);

    let ending = Ending {
        failure: Failure::PingBlocked,
        waited: secs(38),
        missed: 0,
        quiet_for: secs(35),
    };
    assert_ends_at(&machine, at(41), ending);
}

#[test]
fn a_ping_that_is_wanted_only_on_its_way_out_is_not_called_off_either() {
    let mut machine = sending(settings());
    machine.on_ping_wanted(at(31));
    machine.on_heard(at(32));
    assert_eq!(machine.handle_timeout(at(32)), None);
    assert_due_at(&machine, at(67), Action::LookAgain);
}

#[test]
fn a_ping_wanted_while_it_is_called_off_is_made_anew() {
    let mut machine = sending(settings());
    machine.on_heard(at(33));
    machine.on_ping_wanted(at(33));
    assert_eq!(drain(&mut machine, at(33)), [Action::CallOff, Action::Ping]);
}

#[test]
fn a_wish_is_fulfilled_by_the_ping_that_went_out() {
    let mut machine = start(settings());
    machine.on_ping_wanted(at(3));
    send_ping(&mut machine, at(3));
    machine.on_pong(at(4));

    assert_eq!(machine.handle_timeout(at(34)), Some(Action::Ping));
    machine.on_heard(at(35));
    assert_eq!(drain(&mut machine, at(35)), [Action::CallOff]);
}

#[test]
fn always_does_not_call_off_its_ping() {
    let mut machine = sending(settings().ping_when(PingWhen::Always));
    machine.on_heard(at(33));
    assert_eq!(machine.handle_timeout(at(33)), None);
    assert_due_at(&machine, at(68), Action::LookAgain);
}

#[test]
fn traffic_rescues_a_blocked_ping_that_has_no_ready_wait() {
    let settings = settings()
        .ping_when(PingWhen::Always)
        .ready_timeout(Duration::ZERO);
    let mut machine = start(settings);
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::LookAgain));
    machine.on_heard(at(30));
    assert_eq!(machine.handle_timeout(at(30)), None);
    assert_due_at(&machine, at(60), Action::LookAgain);
}

#[test]
fn traffic_leaves_a_blocked_ping_blocked_where_only_a_pong_counts() {
    let mut machine = sending(settings().evidence(Evidence::PongOnly));
    machine.on_heard(at(33));
    assert_due_at(&machine, at(35), Action::LookAgain);
}

#[test]
fn a_ping_is_on_its_way_until_it_is_out_or_called_off() {
    let mut machine = start(settings());
    assert!(!machine.is_sending());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    assert!(machine.is_sending());

    let mut out = machine.clone();
    out.on_ping_sent(at(31));
    assert!(!out.is_sending());

    machine.on_heard(at(31));
    assert!(!machine.is_sending());
}

/// A machine that asked for its ping at 30 s, and doesn't get it out.
fn sending(settings: ConfigBuilder) -> Liveness {
    let mut machine = start(settings);
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine
}
