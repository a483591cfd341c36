//! How new calls are to be treated: `verify_after_idle`, `suspect_after`, misses.

use super::*;

#[test]
fn a_quiet_peer_is_unverified() {
    assert_due_at(&start(verifying()), at(20), unverified());
    assert_eq!(drain(&mut start(verifying()), at(20)), [unverified()]);
}

#[test]
fn a_sign_of_life_puts_verification_off() {
    let mut machine = start(verifying());
    machine.on_heard(at(15));
    assert_due_at(&machine, at(35), unverified());
}

#[test]
fn a_wanted_pong_verifies() {
    let mut machine = start(verifying());
    assert_eq!(drain(&mut machine, at(20)), [unverified()]);
    machine.on_ping_wanted(at(25));
    send_ping(&mut machine, at(25));
    machine.on_pong(at(26));
    assert_eq!(machine.next_timeout(), Some(at(26)));
    assert_eq!(drain(&mut machine, at(26)), [well()]);
    assert_due_at(&machine, at(46), unverified());
}

#[test]
fn traffic_verifies_as_well_and_calls_the_ping_off_unless_it_is_wanted() {
    let mut machine = start(verifying());
    assert_eq!(drain(&mut machine, at(20)), [unverified()]);
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_heard(at(31));
    assert_eq!(drain(&mut machine, at(31)), [Action::CallOff, well()]);
}

#[test]
fn pings_that_sleep_leave_an_idle_peer_unverified() {
    let machine = start(verifying().ping_when(PingWhen::WhileBusy));
    assert_due_at(&machine, at(20), unverified());
}

#[test]
fn a_peer_that_cannot_be_pinged_is_neither_verified_nor_suspect() {
    let mut machine = start_without_pings(verifying().suspect_after(secs(35)));
    machine.on_request_start(at(1));
    assert_dormant(&machine);
}

#[test]
fn a_peer_past_the_soft_limit_is_suspect() {
    let mut machine = start_pinged(suspecting());
    assert_due_at(&machine, at(35), suspect());
    assert_eq!(drain(&mut machine, at(35)), [suspect()]);

    assert_eq!(drain(&mut machine, at(40)), [Action::Missed { missed: 1 }]);
    machine.on_heard(at(41));
    assert_eq!(drain(&mut machine, at(41)), [well()]);
}

#[test]
fn the_soft_limit_does_not_wait_for_the_ping_to_be_out() {
    let mut machine = start(suspecting().ready_timeout(secs(9)));
    assert_eq!(drain(&mut machine, at(30)), [Action::Ping]);
    assert_due_at(&machine, at(35), suspect());
}

#[test]
fn an_unverified_peer_becomes_suspect_and_then_well() {
    let mut machine = start(verifying().suspect_after(secs(35)));
    assert_eq!(drain(&mut machine, at(20)), [unverified()]);
    send_ping(&mut machine, at(30));
    let suspect = Action::Standing(Standing::Suspect { unverified: true });
    assert_due_at(&machine, at(35), suspect);
    assert_eq!(drain(&mut machine, at(35)), [suspect]);
    machine.on_pong(at(36));
    assert_eq!(drain(&mut machine, at(36)), [well()]);
}

#[test]
fn a_miss_makes_a_peer_suspect_before_the_soft_limit() {
    let mut machine = start_pinged(settings().suspect_after(secs(45)));
    assert_eq!(
        drain(&mut machine, at(40)),
        [Action::Missed { missed: 1 }, suspect()]
    );
    assert_eq!(drain(&mut machine, at(45)), []);
}

#[test]
fn the_soft_limit_sleeps_with_the_pings_and_counts_from_their_waking() {
    let mut machine = start(suspecting().ping_when(PingWhen::WhileBusy));
    assert_dormant(&machine);
    machine.on_request_start(at(100));
    send_ping(&mut machine, at(100));
    assert_eq!(
        drain(&mut machine, at(110)),
        [Action::Missed { missed: 1 }, suspect()]
    );

    let mut long_waits = start(
        suspecting()
            .ping_when(PingWhen::WhileBusy)
            .pong_timeout(secs(60)),
    );
    long_waits.on_request_start(at(100));
    send_ping(&mut long_waits, at(100));
    assert_due_at(&long_waits, at(135), suspect());
}

#[test]
fn the_soft_limit_counts_from_a_sign_of_life_after_the_waking() {
    let mut machine = start(suspecting().ping_when(PingWhen::NotBusy));
    machine.on_request_start(at(1));
    machine.on_request_end(at(5));
    machine.on_heard(at(8));
    send_ping(&mut machine, at(38));
    assert_due_at(&machine, at(43), suspect());
}

#[test]
fn a_request_while_pings_are_awake_does_not_move_the_soft_limit() {
    let mut machine = start_pinged(suspecting());
    machine.on_request_start(at(31));
    machine.on_request_end(at(32));
    assert_due_at(&machine, at(35), suspect());
}

#[test]
fn a_peer_is_no_longer_suspect_when_pings_fall_asleep_before_one_is_out() {
    let settings = suspecting()
        .ping_when(PingWhen::WhileBusy)
        .ready_timeout(secs(9));
    let mut machine = start(settings);
    machine.on_request_start(at(0));
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    assert_eq!(drain(&mut machine, at(35)), [suspect()]);
    machine.on_request_end(at(36));
    assert_eq!(drain(&mut machine, at(36)), [Action::CallOff, well()]);
}

#[test]
fn a_peer_that_owes_a_pong_stays_suspect_when_pings_fall_asleep() {
    let mut machine = start(suspecting().ping_when(PingWhen::WhileBusy));
    machine.on_request_start(at(0));
    send_ping(&mut machine, at(30));
    machine.on_request_end(at(31));
    assert_due_at(&machine, at(35), suspect());
    assert_eq!(drain(&mut machine, at(35)), [suspect()]);
}

#[test]
fn traffic_does_not_recover_where_only_a_pong_counts() {
    let mut machine = start_pinged(suspecting().evidence(Evidence::PongOnly));
    assert_eq!(drain(&mut machine, at(35)), [suspect()]);
    machine.on_heard(at(36));
    assert_eq!(machine.handle_timeout(at(36)), None);
    machine.on_pong(at(37));
    assert_eq!(drain(&mut machine, at(37)), [well()]);
}

fn verifying() -> ConfigBuilder {
    settings().verify_after_idle(secs(20))
}

fn suspecting() -> ConfigBuilder {
    settings().suspect_after(secs(35))
}
