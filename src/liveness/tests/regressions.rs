//! Where the machine once contradicted its own table.
use super::*;

#[test]
fn nothing_follows_the_end() {
    let mut machine = start_pinged(settings());
    assert!(matches!(
        drain(&mut machine, at(60)).last(),
        Some(Action::End(_))
    ));
    assert_eq!(machine.handle_timeout(at(60)), None);
}

#[test]
fn a_ping_that_goes_out_leaves_the_quiet_limit_its_fresh_wait() {
    let mut machine = start(settings().quiet_timeout(secs(40)));
    machine.on_request_start(at(0));
    machine.on_local_pause(at(100));
    send_ping(&mut machine, at(100));
    assert_eq!(machine.handle_timeout(at(100)), None);
}

#[test]
fn a_busy_connection_with_a_quiet_limit_is_judged() {
    let mut machine = start(settings().quiet_timeout(secs(40)));
    machine.on_request_start(at(0));
    assert!(machine.is_judging());
}

#[test]
fn a_pause_in_an_earlier_ready_wait_does_not_use_up_the_excuse_of_this_one() {
    let mut machine = start(settings().ping_when(PingWhen::WhileBusy));
    machine.on_request_start(at(0));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_local_pause(at(32));
    machine.on_request_end(at(33));
    assert_eq!(machine.handle_timeout(at(33)), Some(Action::CallOff));
    machine.on_request_start(at(100));
    assert_eq!(machine.handle_timeout(at(100)), Some(Action::Ping));
    machine.on_local_pause(at(200));
    assert_eq!(machine.handle_timeout(at(200)), None);
}

#[test]
fn a_pause_while_no_limit_runs_does_not_use_up_an_excuse() {
    let mut machine = start(settings());
    machine.on_local_pause(at(20));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_local_pause(at(100));
    assert_eq!(machine.handle_timeout(at(100)), None);
}

#[test]
fn a_pause_before_a_request_does_not_use_up_the_excuse_of_its_quiet_limit() {
    let mut machine = start_without_pings(settings().quiet_timeout(secs(20)));
    machine.on_request_start(at(0));
    machine.on_local_pause(at(5));
    machine.on_request_end(at(6));
    machine.on_request_start(at(50));
    machine.on_local_pause(at(100));
    assert_eq!(machine.handle_timeout(at(100)), None);
}

#[test]
fn a_request_does_not_take_suspicion_back_while_a_pong_is_owed() {
    let mut machine = start(
        settings()
            .suspect_after(secs(35))
            .ping_when(PingWhen::WhileBusy),
    );
    machine.on_request_start(at(0));
    send_ping(&mut machine, at(30));
    assert_eq!(drain(&mut machine, at(35)), [suspect()]);
    machine.on_request_end(at(36));
    assert_eq!(drain(&mut machine, at(36)), []);
    machine.on_request_start(at(37));
    assert_eq!(drain(&mut machine, at(37)), []);
}

#[test]
fn a_wanted_ping_out_of_sleep_does_not_make_the_peer_suspect_at_once() {
    let mut machine = start(
        settings()
            .suspect_after(secs(35))
            .verify_after_idle(secs(20))
            .ping_when(PingWhen::WhileBusy),
    );
    assert_eq!(drain(&mut machine, at(1_000)), [unverified()]);
    machine.on_ping_wanted(at(1_000));
    assert_eq!(drain(&mut machine, at(1_000)), [Action::Ping]);
    machine.on_ping_sent(at(1_000));
    assert_eq!(drain(&mut machine, at(1_000)), []);
}

#[test]
fn a_rescue_takes_the_look_back_even_if_nobody_calls() {
    let mut machine = start_pinged(settings().max_missed(1));
    assert_eq!(machine.handle_timeout(at(40)), Some(Action::LookAgain));
    machine.on_heard(at(40));
    assert_eq!(machine.handle_timeout(at(80)), Some(Action::LookAgain));
}

#[test]
fn an_excuse_that_moved_nothing_is_not_used_up() {
    let mut machine = start_pinged(settings().max_missed(1));
    machine.on_heard(at(31));
    machine.on_local_pause(at(38));
    machine.on_local_pause(at(500));
    assert_eq!(machine.handle_timeout(at(500)), None);
}
