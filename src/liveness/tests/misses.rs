//! The windows of a ping that is out: misses, recovery, death.

use super::*;

#[test]
fn a_window_without_a_sign_of_life_is_a_miss() {
    let mut machine = start_pinged(settings());
    assert_due_at(&machine, at(40), Action::Missed { missed: 1 });
    assert_eq!(
        drain(&mut machine, at(40)),
        [Action::Missed { missed: 1 }, suspect()]
    );
    assert_eq!(machine.missed(), 1);

    assert_due_at(&machine, at(50), Action::Missed { missed: 2 });
    assert_eq!(drain(&mut machine, at(50)), [Action::Missed { missed: 2 }]);
    assert_eq!(machine.missed(), 2);
}

#[test]
fn the_last_window_ends_the_connection_after_one_more_look() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(50));
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(30),
        missed: 3,
        quiet_for: secs(60),
    };
    assert_ends_at(&machine, at(60), ending);
}

#[test]
fn with_one_window_the_first_miss_is_the_end() {
    let machine = start_pinged(settings().max_missed(1));
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(10),
        missed: 1,
        quiet_for: secs(40),
    };
    assert_ends_at(&machine, at(40), ending);
}

#[test]
fn the_pong_wait_runs_from_the_moment_the_ping_is_out() {
    let mut machine = start(settings());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    machine.on_ping_sent(at(33));
    assert_due_at(&machine, at(43), Action::Missed { missed: 1 });
}

#[test]
fn a_late_call_does_not_stretch_the_bound() {
    let mut machine = start_pinged(settings());
    assert_eq!(
        drain(&mut machine, at(44)),
        [Action::Missed { missed: 1 }, suspect()]
    );
    assert_due_at(&machine, at(50), Action::Missed { missed: 2 });
}

#[test]
fn a_very_late_call_reports_every_window() {
    let mut machine = start_pinged(settings());
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(31),
        missed: 3,
        quiet_for: secs(61),
    };
    assert_eq!(
        drain(&mut machine, at(61)),
        [
            Action::Missed { missed: 1 },
            Action::Missed { missed: 2 },
            suspect(),
            Action::LookAgain,
            Action::End(ending),
        ]
    );
}

#[test]
fn a_pong_after_misses_recovers() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(50));
    machine.on_pong(at(59));
    assert_eq!(machine.missed(), 0);
    assert_eq!(machine.next_timeout(), Some(at(59)));
    assert_eq!(drain(&mut machine, at(59)), [well()]);
    assert_due_at(&machine, at(89), Action::Ping);
}

#[test]
fn a_pong_at_the_very_moment_of_the_verdict_wins() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(50));
    machine.on_pong(at(60));
    assert_eq!(drain(&mut machine, at(60)), [well()]);
    assert_due_at(&machine, at(90), Action::Ping);
}

#[test]
fn traffic_rescues_a_ping_that_is_out() {
    let mut machine = start_pinged(settings());
    machine.on_heard(at(35));
    assert_eq!(machine.handle_timeout(at(35)), None);
    assert_due_at(&machine, at(75), Action::Missed { missed: 1 });
}

#[test]
fn traffic_takes_the_misses_back() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(50));
    machine.on_heard(at(55));
    assert_eq!(machine.missed(), 0);
    assert_eq!(drain(&mut machine, at(55)), [well()]);

    assert_eq!(
        drain(&mut machine, at(95)),
        [Action::Missed { missed: 1 }, suspect()]
    );
    assert_eq!(drain(&mut machine, at(105)), [Action::Missed { missed: 2 }]);
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(85),
        missed: 3,
        quiet_for: secs(60),
    };
    assert_ends_at(&machine, at(115), ending);
}

#[test]
fn a_pong_that_comes_during_the_last_look_rescues() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(50));
    assert_eq!(machine.handle_timeout(at(60)), Some(Action::LookAgain));
    machine.on_pong(at(60));
    assert_eq!(drain(&mut machine, at(60)), [well()]);
    assert_due_at(&machine, at(90), Action::Ping);
}

#[test]
fn traffic_that_comes_during_the_last_look_rescues() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(50));
    assert_eq!(machine.handle_timeout(at(60)), Some(Action::LookAgain));
    machine.on_heard(at(60));
    assert_eq!(drain(&mut machine, at(60)), [well()]);
    assert_due_at(&machine, at(100), Action::Missed { missed: 1 });
}

#[test]
fn every_verdict_has_a_look_of_its_own() {
    let mut machine = start_pinged(settings().max_missed(1));
    assert_eq!(machine.handle_timeout(at(40)), Some(Action::LookAgain));
    machine.on_heard(at(40));
    assert_eq!(machine.handle_timeout(at(40)), None);
    assert_due_at(&machine, at(80), Action::LookAgain);
}

#[test]
fn the_verdict_is_due_at_once_after_the_last_look() {
    let mut machine = start_pinged(settings().max_missed(1));
    assert_eq!(machine.handle_timeout(at(43)), Some(Action::LookAgain));
    assert_eq!(machine.next_timeout(), Some(at(43)));
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(14),
        missed: 1,
        quiet_for: secs(44),
    };
    assert_eq!(machine.handle_timeout(at(44)), Some(Action::End(ending)));
    assert_eq!(machine.next_timeout(), None);
}

#[test]
fn traffic_does_not_rescue_where_only_a_pong_counts() {
    let mut machine = start_pinged(settings().max_missed(1).evidence(Evidence::PongOnly));
    machine.on_heard(at(35));
    assert_eq!(machine.heard_at(), at(0));
    assert_due_at(&machine, at(40), Action::LookAgain);
    assert_eq!(machine.handle_timeout(at(40)), Some(Action::LookAgain));
    machine.on_heard(at(40));
    assert!(matches!(
        machine.handle_timeout(at(40)),
        Some(Action::End(Ending {
            failure: Failure::PongTimeout,
            ..
        }))
    ));
}

#[test]
fn a_local_fault_gives_the_last_window_one_more_and_no_second_one() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(50));
    // Before the last window is over there is nothing to put off.
    machine.on_local_fault(just_before(at(60)));
    assert!(!machine.is_out_of_windows());
    assert_eq!(machine.handle_timeout(at(60)), Some(Action::LookAgain));
    assert!(machine.is_out_of_windows());
    machine.on_local_fault(at(61));
    assert!(!machine.is_out_of_windows());
    assert_eq!(
        machine.handle_timeout(at(61)),
        Some(Action::Missed { missed: 3 })
    );
    assert_eq!(machine.handle_timeout(at(61)), None);
    assert_eq!(machine.handle_timeout(at(70)), Some(Action::LookAgain));
    machine.on_local_fault(at(70));
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(40),
        missed: 4,
        quiet_for: secs(70),
    };
    assert_eq!(machine.handle_timeout(at(70)), Some(Action::End(ending)));
}

#[test]
fn a_sign_of_life_takes_the_window_of_a_local_fault_back() {
    let mut machine = start_pinged(settings());
    drain(&mut machine, at(59));
    assert_eq!(machine.handle_timeout(at(60)), Some(Action::LookAgain));
    machine.on_local_fault(at(60));
    drain(&mut machine, at(65));
    machine.on_heard(at(65));
    drain(&mut machine, at(124));
    assert_eq!(machine.missed(), 2);
    assert_eq!(machine.handle_timeout(at(125)), Some(Action::LookAgain));
    let ended = machine.handle_timeout(at(125));
    assert!(matches!(ended, Some(Action::End(end)) if end.missed == 3));
}

#[test]
fn a_local_fault_means_nothing_to_whoever_waits_for_no_pong() {
    for mut machine in [start(settings()), start(settings().idle_timeout(secs(20)))] {
        let before = machine.clone();
        machine.on_local_fault(at(0));
        assert_eq!(machine.next_timeout(), before.next_timeout());
        assert!(!machine.is_out_of_windows());
    }
}

#[test]
fn a_ping_that_is_brought_forward_goes_out_then_but_none_that_sleeps() {
    let mut awake = start(settings());
    awake.bring_ping_forward(at(7));
    assert_eq!(awake.handle_timeout(at(7)), Some(Action::Ping));

    // A peer that punishes pings without a request gets none for that.
    let mut asleep = start(settings().ping_when(PingWhen::WhileBusy));
    asleep.bring_ping_forward(at(7));
    assert_eq!(asleep.handle_timeout(at(7)), None);
    assert_eq!(asleep.next_timeout(), None);
}
