//! Pong waits that follow the round trips.

use super::*;

const ADAPTIVE: [Detector; 2] = [Detector::RoundTrips, Detector::PhiAccrual];
const FLOOR: Duration = Duration::from_millis(100);

/// Waits between 100 ms and 10 s, three misses.
fn adaptive() -> ConfigBuilder {
    settings().detector(Detector::RoundTrips).pong_floor(FLOOR)
}

/// A machine that had pongs after `round_trip`, and whose next ping went out when it returns.
fn pinged_after(settings: ConfigBuilder, rounds: u32, round_trip: Duration) -> (Liveness, Moment) {
    let mut machine = start(settings);
    for _ in 0..rounds {
        let now = machine.next_timeout().expect("a ping");
        send_ping(&mut machine, now);
        machine.on_pong(now.after(round_trip));
    }
    let now = machine.next_timeout().expect("a ping");
    send_ping(&mut machine, now);
    (machine, now)
}

/// When each miss and the verdict are due, from `sent_at` on.
fn windows(machine: &Liveness, sent_at: Moment) -> Vec<Duration> {
    let mut machine = machine.clone();
    let mut ends = Vec::new();
    loop {
        let due_at = machine.next_timeout().expect("a window");
        for action in drain(&mut machine, due_at) {
            match action {
                Action::Missed { .. } => ends.push(due_at.since(sent_at)),
                Action::End(_) => {
                    ends.push(due_at.since(sent_at));
                    return ends;
                }
                _ => {}
            }
        }
    }
}

fn millis<const N: usize>(all: [u64; N]) -> [Duration; N] {
    all.map(Duration::from_millis)
}

#[test]
fn before_the_first_pong_all_waits_are_the_longest() {
    for detector in ADAPTIVE {
        let machine = start_pinged(adaptive().detector(detector));
        assert_eq!(windows(&machine, at(30)), millis([10_000, 20_000, 30_000]));
    }
}

#[test]
fn the_wait_is_the_smoothed_round_trip_and_four_deviations() {
    // One sample of 100 ms: a deviation of 50.
    let (machine, sent_at) = pinged_after(adaptive(), 1, Duration::from_millis(100));
    assert_due_at(
        &machine,
        sent_at.after(Duration::from_millis(300)),
        Action::Missed { missed: 1 },
    );
}

#[test]
fn the_waits_double_up_to_four_times_the_first() {
    let (machine, sent_at) = pinged_after(adaptive().max_missed(5), 1, Duration::from_millis(100));
    let expected = millis([300, 900, 2_100, 3_300, 4_500]);
    assert_eq!(windows(&machine, sent_at), expected);
}

#[test]
fn no_wait_is_shorter_than_the_floor_or_longer_than_the_longest() {
    for detector in ADAPTIVE {
        let near = adaptive().detector(detector);
        let (machine, sent_at) = pinged_after(near, 20, Duration::from_micros(50));
        assert_eq!(windows(&machine, sent_at), millis([100, 300, 700]));

        let (machine, sent_at) = pinged_after(near, 1, secs(9));
        assert_eq!(windows(&machine, sent_at), millis([10_000, 20_000, 30_000]));
    }
}

#[test]
fn a_suspicion_is_reached_after_its_deviations() {
    let settings = adaptive().detector(Detector::PhiAccrual);
    // Mean 100 ms, standard deviation 62.7 ms.
    let (machine, sent_at) = pinged_after(settings.phi_threshold(1), 1, FLOOR);
    let least = windows(&machine, sent_at)[0];
    let (machine, sent_at) = pinged_after(settings.phi_threshold(8), 1, FLOOR);
    let usual = windows(&machine, sent_at)[0];
    // phi is 1 after 1.28 deviations, as in any table of the normal distribution; 8 after about five and a half.
    assert!((180..=181).contains(&least.as_millis()), "{least:?}");
    assert!((420..=445).contains(&usual.as_millis()), "{usual:?}");
}

#[test]
fn a_rescue_by_other_traffic_leaves_the_waits_long_and_is_no_sample() {
    let (mut machine, sent_at) = pinged_after(adaptive(), 1, Duration::from_millis(100));
    let before = machine.rtt();
    let heard_at = sent_at.after(Duration::from_millis(400));
    drain(&mut machine, heard_at);
    machine.on_heard(heard_at);
    drain(&mut machine, heard_at);
    assert_eq!(machine.rtt(), before);
    // 600 ms, to which the miss had doubled the wait, and then four times 300 ms.
    let ends = windows(&machine, heard_at.after(INTERVAL));
    assert_eq!(ends, millis([600, 1_800, 3_000]));
}

#[test]
fn a_pong_after_misses_is_a_sample_since_a_ping_is_never_repeated() {
    let (mut machine, sent_at) = pinged_after(adaptive(), 1, Duration::from_millis(100));
    let pong_at = sent_at.after(Duration::from_millis(900));
    drain(&mut machine, pong_at);
    machine.on_pong(pong_at);
    let rtt = machine.rtt().expect("a sample");
    assert_eq!(rtt.smoothed(), Duration::from_millis(200));
    // 3/4 of 50 and 1/4 of 800
    assert_eq!(rtt.variation(), Duration::from_micros(237_500));
}

#[test]
fn a_sample_of_a_late_driver_is_shown_and_moves_no_wait() {
    let (mut machine, sent_at) = pinged_after(adaptive(), 1, Duration::from_millis(100));
    let before = machine.rtt().expect("a sample");
    machine.on_local_pause(sent_at.after(secs(3)));
    machine.on_pong(sent_at.after(secs(3)));
    let rtt = machine.rtt().expect("a sample");
    assert_eq!(rtt.last(), secs(3));
    assert_eq!(rtt.smoothed(), before.smoothed());
    assert_eq!(rtt.variation(), before.variation());

    // The pause was of that ping only.
    let now = machine.next_timeout().expect("a ping");
    send_ping(&mut machine, now);
    machine.on_pong(now.after(Duration::from_millis(180)));
    let rtt = machine.rtt().expect("a sample");
    assert_eq!(rtt.smoothed(), Duration::from_millis(110));
}

#[test]
fn a_pause_gives_a_short_wait_the_longest() {
    let (mut machine, sent_at) = pinged_after(adaptive().max_missed(1), 9, FLOOR / 100);
    machine.on_local_pause(sent_at.after(secs(1)));
    assert_due_at(&machine, sent_at.after(secs(11)), Action::LookAgain);
}

#[test]
fn a_local_fault_is_worth_the_longest_wait() {
    let (mut machine, sent_at) = pinged_after(adaptive(), 9, FLOOR / 100);
    let over_at = sent_at.after(FLOOR * 7);
    drain_up_to(&mut machine, over_at);
    assert_eq!(machine.handle_timeout(over_at), Some(Action::LookAgain));
    machine.on_local_fault(over_at);
    let last = Action::Missed { missed: 3 };
    assert_eq!(machine.handle_timeout(over_at), Some(last));
    assert_due_at(&machine, over_at.after(PONG_TIMEOUT), Action::LookAgain);
}

fn drain_up_to(machine: &mut Liveness, until: Moment) {
    while let Some(due_at) = machine.next_timeout()
        && due_at < until
    {
        drain(machine, due_at);
    }
}

/// What the detector promises of real networks, over seeded ones.
mod simulated {
    use super::*;

    #[test]
    fn a_near_peer_is_found_in_a_tenth_of_the_fixed_waits_and_the_floor() {
        for detector in ADAPTIVE {
            for max_missed in [1, 2, 3, 4, 5, 6, 8, 10, 100] {
                let config = settings().max_missed(max_missed).detector(detector);
                let mut path = Path::new(3 + u64::from(max_missed));
                let mut machine = start(config);
                for _ in 0..200 {
                    let jitter = Duration::from_nanos(path.below(400_000));
                    let round_trip = Duration::from_micros(800) + jitter;
                    assert!(beat(&mut machine, round_trip).is_answered());
                }
                let sent_at = machine.next_timeout().expect("a ping");
                send_ping(&mut machine, sent_at);
                let found = windows(&machine, sent_at).pop().expect("a verdict");
                let fixed = PONG_TIMEOUT * max_missed;
                let floor = config.build().expect("legal").pong_floor();
                assert!(found < fixed / 10 + floor, "{max_missed}: {found:?}");
            }
        }
    }

    #[test]
    fn a_step_in_the_latency_kills_nobody() {
        for detector in ADAPTIVE {
            for max_missed in 1..=5 {
                let config = settings().max_missed(max_missed).detector(detector);
                let mut machine = start(config);
                for _ in 0..1_000 {
                    beat(&mut machine, Duration::from_millis(1));
                }
                for _ in 0..100 {
                    let beat = beat(&mut machine, Duration::from_millis(300));
                    assert!(beat.is_answered(), "{detector:?}, {max_missed}");
                }
                // By now the wait has followed.
                assert_eq!(
                    beat(&mut machine, Duration::from_millis(300)),
                    Beat::Pong { missed: 0 }
                );
            }
        }
    }

    /// Median 2 ms, and a hundredth of them over 66 ms: up to a second, as TCP's retransmissions make them.
    #[test]
    fn a_million_pongs_of_lognormal_latency_with_a_tail_to_a_second_end_no_connection() {
        for detector in ADAPTIVE {
            for max_missed in 1..=5 {
                let mut path = Path::new(u64::from(max_missed));
                let mut machine = start(settings().max_missed(max_missed).detector(detector));
                let (mut slow, mut missed_beats) = (0, 0);
                for _ in 0..100_000 {
                    let latency = path.lognormal(0.002, 1.5).min(1.0);
                    slow += u32::from(latency > 0.5);
                    match beat(&mut machine, Duration::from_secs_f64(latency)) {
                        Beat::Pong { missed } => missed_beats += u32::from(missed > 0),
                        Beat::Dead => panic!("{detector:?}, {max_missed}: {latency} s"),
                    }
                }
                assert!(slow > 5, "the tail came about {slow} times");
                // It did wait for less than the fixed detector.
                assert!(max_missed == 1 || missed_beats > 0);
                assert!(missed_beats < 500, "{missed_beats} of 100,000 were suspect");
            }
        }
    }

    #[derive(Debug, PartialEq)]
    enum Beat {
        Pong { missed: u32 },
        Dead,
    }

    impl Beat {
        fn is_answered(&self) -> bool {
            matches!(self, Beat::Pong { .. })
        }
    }

    /// The next ping, and its pong or the verdict.
    fn beat(machine: &mut Liveness, round_trip: Duration) -> Beat {
        let sent_at = machine.next_timeout().expect("a ping");
        send_ping(machine, sent_at);
        let pong_at = sent_at.after(round_trip);
        drain_up_to(machine, pong_at);
        let missed = machine.missed();
        machine.on_pong(pong_at);
        drain(machine, pong_at);
        match machine.next_timeout() {
            Some(_) => Beat::Pong { missed },
            None => Beat::Dead,
        }
    }

    /// SplitMix64, so that a run is the same for ever.
    struct Path(u64);

    impl Path {
        fn new(seed: u64) -> Path {
            Path(seed)
        }

        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }

        /// Of (0, 1].
        fn uniform(&mut self) -> f64 {
            ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
        }

        /// Box and Muller.
        fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            let normal = radius * (2.0 * std::f64::consts::PI * self.uniform()).cos();
            median * (sigma * normal).exp()
        }
    }
}
