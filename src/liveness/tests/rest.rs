//! What is kept of a machine at rest gives the same machine back.

use proptest::prelude::*;

use super::{
    properties::{configs, steps},
    sim::{Sends, Sim},
    *,
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_machine_that_comes_back_from_a_rest_goes_on_as_if_it_had_never_rested(
        config in configs(),
        can_ping in prop::bool::weighted(0.9),
        seed: u64,
        part in prop_oneof![Just(0), any::<u32>()],
        obeys: bool,
        pongs_after in prop::option::weighted(0.7, (0..30_u64).prop_map(Duration::from_millis)),
        script in prop::collection::vec((steps(), prop::bool::weighted(0.5), 0..40_u64), 1..60),
    ) {
        let sends = if obeys { Sends::After(Duration::ZERO) } else { Sends::WhenTold };
        let mut sim = Sim::new(config, can_ping, seed).spread(part).sends(sends);
        sim.peer_pongs_after(pongs_after);
        for (step, rests, later) in script {
            if sim.has_ended() {
                break;
            }
            let due_at = sim.next_timeout().unwrap_or(Moment::NEVER);
            // A driver does all that is due before it lets a connection rest.
            if rests && due_at > sim.now() {
                let later = sim.now().after(Duration::from_millis(later));
                sim.rest_twin(later.min(just_before(due_at)));
            }
            step.act(&mut sim);
        }
    }
}

#[test]
fn an_answered_ping_is_followed_by_a_rest_in_every_mode() {
    let settings = settings().verify_after_idle(secs(20));
    for ping_when in MODES {
        for evidence in [Evidence::AnyTraffic, Evidence::PongOnly] {
            for (jitter, part) in [(0, 0), (25, 0), (0, u32::MAX / 3), (25, u32::MAX / 3)] {
                let settings = settings
                    .ping_when(ping_when)
                    .evidence(evidence)
                    .jitter(jitter);
                let mut machine = start(settings).spread(part);
                assert_rests(&machine);
                for round in 1..=3 {
                    let pong_at = ping_and_pong(&mut machine, round);
                    let rest = assert_rests(&machine);
                    assert_eq!(rest.heard_at, pong_at);
                    assert_eq!(rest.pings, round);
                    assert_eq!(rest.rtt.map(|rtt| rtt.last()), Some(round_trip(round)));
                }
            }
        }
    }
}

#[test]
fn a_rest_goes_on_once_the_connection_is_unverified() {
    for ping_when in MODES {
        let settings = settings()
            .ping_when(ping_when)
            .verify_after_idle(secs(20))
            .jitter(25);
        let mut machine = start(settings);
        assert!(!assert_rests(&machine).unverified);
        assert_eq!(drain(&mut machine, at(20)), [unverified()]);
        assert!(assert_rests(&machine).unverified);

        let pong_at = ping_and_pong(&mut machine, 1);
        assert!(!assert_rests(&machine).unverified);
        let unverified_at = pong_at.after(secs(20));
        assert_eq!(drain(&mut machine, unverified_at), [unverified()]);
        assert!(assert_rests(&machine).unverified);
    }
}

#[test]
fn a_connection_that_cannot_be_pinged_rests() {
    let mut machine = start_without_pings(settings().idle_timeout(secs(60)));
    assert!(!assert_rests(&machine).can_ping);
    machine.on_heard(at(10));
    assert_eq!(assert_rests(&machine).heard_at, at(10));
    assert_eq!(machine.next_timeout(), Some(at(60)));
}

#[test]
fn a_machine_that_lost_its_pings_rests_without_them() {
    let mut machine = start_pinged(settings());
    machine.lose_pings();
    assert_eq!(drain(&mut machine, at(31)), []);
    assert!(!assert_rests(&machine).can_ping);
}

#[test]
fn traffic_and_requests_that_are_over_leave_a_rest() {
    for ping_when in [PingWhen::Quiet, PingWhen::WhileBusy] {
        let mut machine = start(settings().ping_when(ping_when));
        machine.on_request_start(at(1));
        machine.on_heard(at(2));
        machine.on_request_end(at(3));
        let rest = assert_rests(&machine);
        assert_eq!((rest.heard_at, rest.idle_since), (at(2), at(3)));
    }
}

#[test]
fn a_busy_machine_does_not_rest() {
    for ping_when in MODES {
        let mut machine = start(settings().ping_when(ping_when));
        machine.on_request_start(at(1));
        assert_eq!(drain(&mut machine, at(1)), []);
        assert_eq!(machine.at_rest(), None);
    }
}

#[test]
fn a_machine_with_a_ping_does_not_rest() {
    let mut machine = start(settings());
    assert_eq!(machine.handle_timeout(at(30)), Some(Action::Ping));
    assert_eq!(machine.at_rest(), None, "it is to go out");
    let mut called_off = machine.clone();
    called_off.on_heard(at(31));
    assert_eq!(called_off.at_rest(), None, "it is to be called off");
    assert_eq!(drain(&mut called_off, at(31)), [Action::CallOff]);
    assert_rests(&called_off);
    machine.on_ping_sent(at(30));
    assert_eq!(machine.at_rest(), None, "it is out");
    assert_eq!(drain(&mut machine, at(40)).len(), 2);
    assert_eq!(machine.at_rest(), None, "it was missed");
}

#[test]
fn a_machine_that_owes_a_ping_does_not_rest() {
    let mut machine = start(settings());
    machine.on_ping_wanted(at(1));
    assert_eq!(machine.at_rest(), None);
    // A transport that carries one thing at a time keeps the wish through a request.
    let mut serial = start(settings().ping_when(PingWhen::NotBusy));
    serial.on_request_start(at(1));
    serial.on_ping_wanted(at(2));
    serial.on_request_end(at(3));
    assert_eq!(serial.at_rest(), None);
}

#[test]
fn a_suspect_machine_does_not_rest() {
    let mut machine = start(settings().suspect_after(secs(50)));
    send_ping(&mut machine, at(30));
    assert_eq!(machine.at_rest(), None);
    machine.on_pong(at(31));
    assert_rests(&machine);
    // The driver came so late that the limit ran out before the ping.
    assert_eq!(machine.handle_timeout(at(100)), Some(Action::Ping));
    assert_eq!(drain(&mut machine, at(100)), [suspect()]);
    assert_eq!(machine.at_rest(), None);
}

#[test]
fn a_machine_that_woke_with_a_soft_limit_rests_after_the_next_sign_of_life() {
    let settings = settings().ping_when(PingWhen::NotBusy);
    for limited in [settings.suspect_after(secs(50)), settings] {
        let mut machine = start(limited);
        machine.on_request_start(at(1));
        machine.on_request_end(at(2));
        // The limit counts from when it woke.
        let has_limit = machine.config.suspect_after.is_some();
        assert_eq!(machine.at_rest().is_none(), has_limit);
        machine.on_heard(at(3));
        assert_rests(&machine);
    }
}

#[test]
fn a_machine_whose_pings_sleep_rests_though_nothing_was_heard_since_they_were_awake() {
    let settings = settings()
        .ping_when(PingWhen::WhileBusy)
        .evidence(Evidence::PongOnly)
        .suspect_after(secs(50));
    let mut machine = start(settings);
    machine.on_request_start(at(1));
    machine.on_heard(at(2));
    machine.on_request_end(at(2));
    assert_rests(&machine);
}

#[test]
fn a_machine_that_is_leaving_does_not_rest() {
    let mut machine = start(settings().idle_timeout(secs(20)));
    assert_eq!(machine.handle_timeout(at(20)), Some(leaving()));
    assert_eq!(machine.at_rest(), None);
    assert_eq!(machine.handle_timeout(at(20)), Some(Action::LookAgain));
    assert_eq!(machine.at_rest(), None);
    let ended = drain(&mut machine, at(20));
    assert!(matches!(ended[..], [Action::End(_)]));
    assert_eq!(machine.at_rest(), None);
}

#[test]
fn a_machine_that_is_to_look_again_does_not_rest() {
    let mut machine = start(settings().quiet_timeout(secs(5)));
    machine.on_request_start(at(1));
    assert_eq!(machine.handle_timeout(at(6)), Some(Action::LookAgain));
    machine.on_request_end(at(6));
    assert_eq!(machine.at_rest(), None);
    assert_eq!(drain(&mut machine, at(6)), []);
    assert_rests(&machine);
}

#[test]
fn an_excuse_that_is_used_up_keeps_no_machine_from_resting() {
    let mut quiet = start(settings().quiet_timeout(secs(5)));
    quiet.on_request_start(at(1));
    quiet.on_local_pause(at(4));
    quiet.on_request_end(at(5));
    assert_rests(&quiet);

    let mut called_off = start(settings().ping_when(PingWhen::WhileBusy));
    called_off.on_request_start(at(0));
    assert_eq!(called_off.handle_timeout(at(30)), Some(Action::Ping));
    called_off.on_local_pause(at(31));
    assert_eq!(called_off.at_rest(), None);
    called_off.on_request_end(at(32));
    assert_eq!(drain(&mut called_off, at(32)), [Action::CallOff]);
    assert_rests(&called_off);

    called_off.on_local_pause(at(33));
    assert_rests(&called_off);
}

#[test]
fn spread_shortens_the_first_interval_and_no_other() {
    for jitter in [0, 25] {
        for part in [0, 1, 1 << 16, 1 << 31, u32::MAX] {
            let plain = start(settings().jitter(jitter));
            let spread = plain.clone().spread(part);
            let whole = first_interval(&plain);
            let expected = whole.mul_f64(1.0 - f64::from(part) / 2_f64.powi(32));
            let drawn = first_interval(&spread);
            assert!(drawn <= whole && drawn.abs_diff(expected) < Duration::from_micros(1));

            let (mut plain, mut spread) = (plain, spread);
            for round in 1..=3 {
                let pongs_at = [&mut plain, &mut spread].map(|it| ping_and_pong(it, round));
                let next = [&plain, &spread].map(|it| it.next_timeout().expect("a ping is due"));
                assert_eq!(next[0].since(pongs_at[0]), next[1].since(pongs_at[1]));
            }
        }
    }
}

#[test]
fn a_spread_of_zero_is_exactly_the_interval() {
    let machine = start(settings()).spread(0);
    assert_eq!(first_interval(&machine), INTERVAL);
}

#[test]
fn spread_holds_through_signs_of_life_and_a_rest_until_the_first_ping() {
    let half = INTERVAL / 2;
    let mut machine = start(settings()).spread(1 << 31);
    machine.on_heard(at(10));
    assert_eq!(machine.next_timeout(), Some(at(10).after(half)));
    let rest = assert_rests(&machine);
    assert_eq!(rest.spread, 1 << 31);
    let config = Arc::clone(&machine.config);
    let machine = Liveness::resumed(config, rest, at(12));
    assert_eq!(machine.next_timeout(), Some(at(10).after(half)));
}

/// It rests, and comes back with the same timeout, now and later.
#[track_caller]
fn assert_rests(machine: &Liveness) -> Rest {
    let rest = machine.at_rest().expect("it rests");
    let due_at = machine.next_timeout();
    for now in [machine.latest, machine.latest.after(NANOSECOND)] {
        let resumed = Liveness::resumed(Arc::clone(&machine.config), rest, now);
        assert_eq!(resumed.next_timeout(), due_at);
        assert_eq!(resumed.at_rest(), Some(rest));
    }
    rest
}

/// The next ping, when it is due or, where none will be, because somebody wants it; and its pong.
fn ping_and_pong(machine: &mut Liveness, round: u32) -> Moment {
    if machine.asleep() {
        machine.on_ping_wanted(machine.latest.after(secs(1)));
    }
    let mut now = machine.latest;
    while !drain(machine, now).contains(&Action::Ping) {
        now = machine.next_timeout().expect("a ping is due");
    }
    machine.on_ping_sent(now);
    assert_eq!(drain(machine, now), []);
    let pong_at = now.after(round_trip(round));
    machine.on_pong(pong_at);
    drain(machine, pong_at);
    pong_at
}

fn round_trip(round: u32) -> Duration {
    Duration::from_millis(40) * round
}

fn first_interval(machine: &Liveness) -> Duration {
    let ping_at = machine.next_timeout().expect("a ping is due");
    ping_at.since(at(0))
}
