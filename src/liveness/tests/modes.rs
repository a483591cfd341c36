//! `PingWhen` and `Evidence`: when pings sleep, and what wakes them.

use super::*;

#[test]
fn quiet_pings_with_and_without_requests() {
    let mut machine = start(settings());
    machine.on_request_start(at(3));
    assert_due_at(&machine, at(30), Action::Ping);
    machine.on_request_end(at(4));
    assert_due_at(&machine, at(30), Action::Ping);
}

#[test]
fn while_busy_is_dormant_while_idle() {
    let mut machine = start(while_busy());
    assert_dormant(&machine);
    machine.on_request_start(at(3));
    machine.on_request_end(at(4));
    assert_dormant(&machine);
    machine.on_heard(at(5));
    assert_dormant(&machine);
}

#[test]
fn while_busy_pings_an_interval_after_the_last_sign_of_life() {
    let mut machine = start(while_busy());
    machine.on_heard(at(12));
    machine.on_request_start(at(20));
    assert_due_at(&machine, at(42), Action::Ping);
}

#[test]
fn while_busy_pings_at_once_when_it_wakes_after_more_than_an_interval_of_quiet() {
    let mut just_short = start(while_busy());
    just_short.on_request_start(just_before(at(30)));
    assert_due_at(&just_short, at(30), Action::Ping);

    for woken_at in [at(30), just_after(at(30)), at(3_000)] {
        let mut machine = start(while_busy());
        machine.on_request_start(woken_at);
        assert_eq!(machine.handle_timeout(woken_at), Some(Action::Ping));
    }
}

#[test]
fn while_busy_calls_its_ping_off_when_the_request_ends() {
    let mut machine = start(while_busy());
    machine.on_request_start(at(3));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_request_end(at(31));
    assert_eq!(machine.next_timeout(), Some(at(31)));
    assert_eq!(drain(&mut machine, at(31)), [Action::CallOff]);
    assert_dormant(&machine);

    machine.on_request_start(at(40));
    assert_eq!(drain(&mut machine, at(40)), [Action::Ping]);
}

#[test]
fn while_busy_keeps_a_wanted_ping_when_the_request_ends() {
    let mut machine = start(while_busy());
    machine.on_request_start(at(3));
    machine.on_ping_wanted(at(4));
    assert_eq!(machine.handle_timeout(at(4)), Some(Action::Ping));
    machine.on_request_end(at(5));
    assert_eq!(machine.handle_timeout(at(5)), None);
    assert_due_at(&machine, at(9), Action::LookAgain);
}

#[test]
fn while_busy_judges_a_ping_that_is_out_although_the_request_ended() {
    let mut machine = start(while_busy().max_missed(1));
    machine.on_request_start(at(3));
    send_ping(&mut machine, at(30));
    machine.on_request_end(at(31));
    assert_eq!(machine.handle_timeout(at(31)), None);
    assert_due_at(&machine, at(40), Action::LookAgain);

    machine.on_pong(at(32));
    assert_dormant(&machine);
}

#[test]
fn while_busy_makes_a_wanted_ping_even_in_its_sleep() {
    let mut machine = start(while_busy());
    machine.on_ping_wanted(at(4));
    send_ping(&mut machine, at(4));
    assert_due_at(&machine, at(14), Action::Missed { missed: 1 });
    machine.on_pong(at(5));
    assert_dormant(&machine);
}

#[test]
fn not_busy_is_dormant_while_a_request_is_in_flight() {
    let mut machine = start(not_busy());
    assert_due_at(&machine, at(30), Action::Ping);
    machine.on_request_start(at(3));
    assert_dormant(&machine);
}

#[test]
fn not_busy_pings_an_interval_after_the_last_sign_of_life() {
    let mut machine = start(not_busy());
    machine.on_request_start(at(3));
    machine.on_heard(at(12));
    machine.on_request_end(at(13));
    assert_due_at(&machine, at(42), Action::Ping);
}

#[test]
fn not_busy_pings_at_once_after_a_request_that_heard_nothing_for_an_interval() {
    let mut machine = start(not_busy());
    machine.on_request_start(at(3));
    machine.on_request_end(at(50));
    assert_eq!(drain(&mut machine, at(50)), [Action::Ping]);
}

#[test]
fn not_busy_calls_its_ping_off_for_a_request() {
    let mut machine = start(not_busy());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_request_start(at(31));
    assert_eq!(drain(&mut machine, at(31)), [Action::CallOff]);
    assert_dormant(&machine);
}

#[test]
fn not_busy_calls_even_a_wanted_ping_off_and_makes_it_after_the_request() {
    let mut machine = start(not_busy());
    machine.on_ping_wanted(at(4));
    assert_eq!(machine.handle_timeout(at(4)), Some(Action::Ping));
    machine.on_request_start(at(5));
    assert_eq!(drain(&mut machine, at(5)), [Action::CallOff]);
    assert_dormant(&machine);

    machine.on_request_end(at(8));
    assert_eq!(drain(&mut machine, at(8)), [Action::Ping]);
}

#[test]
fn not_busy_keeps_a_wanted_ping_waiting_for_the_end_of_the_request() {
    let mut machine = start(not_busy());
    machine.on_request_start(at(3));
    machine.on_ping_wanted(at(4));
    assert_dormant(&machine);
    machine.on_heard(at(7));
    machine.on_request_end(at(8));
    assert_eq!(drain(&mut machine, at(8)), [Action::Ping]);
}

#[test]
fn not_busy_judges_a_ping_that_is_out_although_a_request_began() {
    let mut machine = start_pinged(not_busy().max_missed(1));
    machine.on_request_start(at(31));
    assert_due_at(&machine, at(40), Action::LookAgain);
}

#[test]
fn a_full_peer_is_not_pinged_in_any_mode() {
    for mode in [PingWhen::Always, PingWhen::Quiet, PingWhen::WhileBusy] {
        let mut machine = start(settings().ping_when(mode));
        machine.on_request_start(at(3));
        machine.on_full(true, at(3));
        assert_dormant(&machine);
    }
}

#[test]
fn a_peer_with_room_again_is_pinged_an_interval_after_the_last_sign_of_life() {
    let mut machine = full();
    machine.on_heard(at(12));
    machine.on_full(false, at(13));
    assert_due_at(&machine, at(42), Action::Ping);
}

#[test]
fn a_peer_that_was_full_and_quiet_for_an_interval_is_pinged_at_once() {
    let mut machine = full();
    machine.on_full(false, at(50));
    assert_eq!(drain(&mut machine, at(50)), [Action::Ping]);

    let mut machine = full();
    machine.on_request_end(at(50));
    assert_eq!(drain(&mut machine, at(50)), [Action::Ping]);
}

#[test]
fn being_full_ends_with_the_last_request() {
    let mut machine = full();
    machine.on_request_end(at(5));
    machine.on_request_start(at(6));
    assert_due_at(&machine, at(30), Action::Ping);
}

#[test]
fn an_idle_peer_is_never_full() {
    let mut machine = start(settings());
    machine.on_full(true, at(3));
    assert_due_at(&machine, at(30), Action::Ping);
}

#[test]
fn a_ping_that_is_not_out_yet_is_called_off_for_a_full_peer() {
    let mut machine = start(settings());
    machine.on_request_start(at(3));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_full(true, at(31));
    assert!(!machine.is_sending());
    assert_eq!(drain(&mut machine, at(31)), [Action::CallOff]);
    assert_dormant(&machine);
}

#[test]
fn a_full_peer_keeps_even_a_wanted_ping_waiting() {
    let mut machine = full();
    machine.on_ping_wanted(at(4));
    assert_dormant(&machine);
    machine.on_full(false, at(8));
    assert_eq!(machine.handle_timeout(at(8)), Some(Action::Ping));
    machine.on_full(true, at(9));
    assert_eq!(drain(&mut machine, at(9)), [Action::CallOff]);
    assert_dormant(&machine);
}

#[test]
fn a_ping_that_is_out_is_judged_although_the_peer_is_full() {
    let mut machine = start_pinged(settings().max_missed(1));
    machine.on_request_start(at(31));
    machine.on_full(true, at(31));
    assert_due_at(&machine, at(40), Action::LookAgain);
}

#[test]
fn a_full_peer_is_watched_by_the_quiet_limit_and_by_no_soft_one() {
    let suspicious = settings().suspect_after(secs(40)).quiet_timeout(secs(60));
    let mut machine = start(suspicious);
    machine.on_request_start(at(3));
    machine.on_full(true, at(3));
    assert_due_at(&machine, at(63), Action::LookAgain);
    // From when there is room again.
    machine.on_full(false, at(50));
    assert_eq!(drain(&mut machine, at(50)), [Action::Ping]);
    machine.on_ping_sent(at(50));
    assert_due_at(&machine, at(60), Action::Missed { missed: 1 });
}

#[test]
fn where_only_a_pong_counts_traffic_does_not_postpone_the_ping() {
    let mut machine = start(settings().evidence(Evidence::PongOnly));
    machine.on_heard(at(29));
    assert_due_at(&machine, at(30), Action::Ping);
}

/// With as many requests in flight as the peer works on, from 3 s on.
fn full() -> Liveness {
    let mut machine = start(settings());
    machine.on_request_start(at(3));
    machine.on_full(true, at(3));
    machine
}

fn while_busy() -> ConfigBuilder {
    settings().ping_when(PingWhen::WhileBusy)
}

fn not_busy() -> ConfigBuilder {
    settings().ping_when(PingWhen::NotBusy)
}
