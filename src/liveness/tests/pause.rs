//! A late judge does not convict.

use super::*;

#[test]
fn a_pause_gives_the_last_window_a_fresh_pong_wait() {
    let mut machine = start_pinged(settings().max_missed(1));
    machine.on_local_pause(at(100));
    assert_eq!(machine.handle_timeout(at(100)), None);
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(80),
        missed: 1,
        quiet_for: secs(110),
    };
    assert_ends_at(&machine, at(110), ending);
}

#[test]
fn a_pause_that_is_noticed_during_the_last_look_excuses_too() {
    let mut machine = start_pinged(settings().max_missed(1));
    assert_eq!(machine.handle_timeout(at(100)), Some(Action::LookAgain));
    machine.on_local_pause(at(100));
    assert_eq!(machine.handle_timeout(at(100)), None);
    assert_due_at(&machine, at(110), Action::LookAgain);
}

#[test]
fn a_second_pause_in_the_same_window_excuses_nothing() {
    let mut machine = start_pinged(settings().max_missed(1));
    machine.on_local_pause(at(100));
    machine.on_local_pause(at(105));
    assert_due_at(&machine, at(110), Action::LookAgain);
}

#[test]
fn a_pause_never_shortens_a_window() {
    let mut machine = start_pinged(settings());
    machine.on_heard(at(31));
    machine.on_local_pause(at(40));
    assert_due_at(&machine, at(71), Action::Missed { missed: 1 });
}

#[test]
fn a_pause_moves_the_windows_after_it_too() {
    let mut machine = start_pinged(settings());
    machine.on_local_pause(at(100));
    assert_due_at(&machine, at(110), Action::Missed { missed: 1 });
    drain(&mut machine, at(110));
    assert_due_at(&machine, at(120), Action::Missed { missed: 2 });
}

#[test]
fn a_miss_gives_the_next_window_an_excuse_of_its_own() {
    let mut machine = start_pinged(settings());
    machine.on_local_pause(at(35));
    assert_eq!(
        drain(&mut machine, at(45)),
        [Action::Missed { missed: 1 }, suspect()]
    );
    machine.on_local_pause(at(80));
    assert_due_at(&machine, at(90), Action::Missed { missed: 2 });
}

#[test]
fn a_sign_of_life_gives_a_new_excuse() {
    let mut machine = start_pinged(settings().max_missed(1));
    machine.on_local_pause(at(35));
    machine.on_heard(at(36));
    machine.on_local_pause(at(200));
    assert_due_at(&machine, at(210), Action::LookAgain);
}

#[test]
fn a_pong_gives_the_next_ping_an_excuse_of_its_own() {
    let mut machine = start_pinged(settings().max_missed(1));
    machine.on_local_pause(at(35));
    machine.on_pong(at(36));
    send_ping(&mut machine, at(66));
    machine.on_local_pause(at(200));
    assert_due_at(&machine, at(210), Action::LookAgain);
}

#[test]
fn a_pause_gives_a_ping_on_its_way_out_a_fresh_wait() {
    let mut machine = start(settings());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_local_pause(at(100));
    assert_eq!(machine.handle_timeout(at(100)), None);
    assert_due_at(&machine, at(110), Action::LookAgain);
}

#[test]
fn a_ping_that_got_out_after_a_pause_has_an_excuse_of_its_own() {
    let mut machine = start(settings().max_missed(1));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_local_pause(at(34));
    machine.on_ping_sent(at(35));
    assert_due_at(&machine, at(45), Action::LookAgain);
    machine.on_local_pause(at(100));
    assert_due_at(&machine, at(110), Action::LookAgain);
}

#[test]
fn a_pause_gives_the_quiet_limit_a_fresh_pong_wait() {
    let mut machine = start_without_pings(settings().quiet_timeout(secs(20)));
    machine.on_request_start(at(5));
    machine.on_local_pause(at(100));
    assert_eq!(machine.handle_timeout(at(100)), None);
    assert_due_at(&machine, at(110), Action::LookAgain);
    machine.on_local_pause(at(105));
    assert_due_at(&machine, at(110), Action::LookAgain);
}

#[test]
fn a_pause_does_not_excuse_being_idle() {
    let mut machine = start(settings().idle_timeout(secs(20)));
    machine.on_local_pause(at(15));
    assert_due_at(&machine, at(20), leaving());
}

#[test]
fn a_pause_does_not_postpone_a_ping() {
    let mut machine = start(settings());
    machine.on_local_pause(at(29));
    assert_due_at(&machine, at(30), Action::Ping);
}

#[test]
fn a_ping_on_its_way_and_a_ping_that_is_out_are_judged_and_a_resting_one_is_not() {
    let mut machine = start(settings());
    assert!(!machine.is_judging());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    assert!(machine.is_judging());
    machine.on_ping_sent(at(30));
    assert!(machine.is_judging());
    machine.on_pong(at(31));
    assert!(!machine.is_judging());
}
