//! What holds for all settings, whatever the driver, the peer and the clock do.

use proptest::{option, prelude::*};

use super::{
    model::Fact,
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
    fn the_rules_hold_whatever_the_driver_does(
        config in configs(),
        can_ping in prop::bool::weighted(0.9),
        seed: u64,
        obeys: bool,
        script in prop::collection::vec(steps(), 1..60),
    ) {
        let sends = if obeys { Sends::After(Duration::ZERO) } else { Sends::WhenTold };
        let mut sim = Sim::new(config, can_ping, seed).sends(sends);
        for step in script {
            step.act(&mut sim);
        }
    }

    #[test]
    fn spurious_calls_and_old_moments_change_nothing(
        config in configs(),
        can_ping in prop::bool::weighted(0.9),
        seed: u64,
        obeys: bool,
        script in prop::collection::vec((steps(), 0..2_000_u64), 1..60),
    ) {
        let sends = if obeys { Sends::After(Duration::ZERO) } else { Sends::WhenTold };
        let mut sim = Sim::new(config, can_ping, seed).sends(sends).with_twin();
        for (step, past) in script {
            if sim.has_ended() {
                break;
            }
            let until = step.wait.until(&sim);
            sim.pester(Duration::from_millis(past), until);
            Step { drains: true, ..step }.act(&mut sim);
        }
    }

    #[test]
    fn a_punctual_driver_notices_silence_within_the_bound(
        config in configs(),
        seed: u64,
        ready_share in 0..=100_u32,
        pongs_after in option::weighted(0.8, (0..300_u64).prop_map(Duration::from_millis)),
        script in prop::collection::vec((0..120_u64, alive()), 0..30),
    ) {
        let sent_after = config.ready_timeout * ready_share / 100;
        let mut sim = Sim::new(config, true, seed).sends(Sends::After(sent_after));
        sim.peer_pongs_after(pongs_after);
        for (pause, fact) in script {
            let now = sim.now().after(Duration::from_millis(pause));
            sim.run(now);
            if sim.has_ended() {
                break;
            }
            sim.report(fact, now);
            sim.drain(now);
        }

        sim.peer_pongs_after(None);
        let silence_counts = !sim.has_ended() && sim.model().is_watched();
        sim.run(Moment::NEVER);
        prop_assert!(sim.has_ended() || !silence_counts);
        if sim.model().ending.is_some_and(|ending| ending.failure == Failure::PongTimeout)
            || silence_counts
        {
            let noticed_after = sim.now().since(sim.model().silent_since());
            let tight = config.interval + sent_after + config.pong_timeout * config.max_missed;
            prop_assert!(noticed_after <= tight, "{noticed_after:?} > {tight:?}");
            prop_assert!(tight <= config.worst_case_detection());
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    wait: Wait,
    fact: Fact,
    hears_when_looking: bool,
    drains: bool,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    /// A punctual driver: every timeout on the way is handled at its moment.
    Run(u64),
    /// A driver that comes late, and doesn't know it.
    Oversleep(u64),
    /// To the next timeout, or a nanosecond before or after it.
    Timeout(Side),
    /// A clock that goes back.
    Back(u64),
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Before,
    At,
    After,
}

impl Step {
    pub(super) fn act(self, sim: &mut Sim) {
        let now = self.wait.until(sim);
        sim.hears_when_looking(self.hears_when_looking);
        if let Wait::Run(_) = self.wait {
            sim.run(now);
        }
        sim.report(self.fact, now);
        if self.drains && !sim.has_ended() {
            sim.drain(now);
        }
    }
}

impl Wait {
    fn until(self, sim: &Sim) -> Moment {
        match self {
            Wait::Run(millis) | Wait::Oversleep(millis) => {
                sim.now().after(Duration::from_millis(millis))
            }
            Wait::Timeout(side) => {
                let next = sim.next_timeout().unwrap_or(sim.now());
                match side {
                    Side::Before => just_before(next),
                    Side::At => next,
                    Side::After => just_after(next),
                }
            }
            Wait::Back(millis) => {
                let back = sim
                    .now()
                    .since(at(0))
                    .saturating_sub(Duration::from_millis(millis));
                at(0).after(back)
            }
        }
    }
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let fact = prop_oneof![
        4 => Just(Fact::Nothing),
        3 => Just(Fact::Heard),
        4 => Just(Fact::Sent),
        3 => Just(Fact::Pong),
        3 => Just(Fact::RequestStart),
        3 => Just(Fact::RequestEnd),
        2 => Just(Fact::Full),
        1 => Just(Fact::Room),
        2 => Just(Fact::Wanted),
        1 => Just(Fact::LocalPause),
    ];
    let fact = prop_oneof![98 => fact, 1 => Just(Fact::Failed), 1 => Just(Fact::Unsupported)];
    let side = prop_oneof![Just(Side::Before), Just(Side::At), Just(Side::After)];
    let wait = prop_oneof![
        3 => (0..150_u64).prop_map(Wait::Run),
        2 => (0..150_u64).prop_map(Wait::Oversleep),
        1 => (0..2_000_u64).prop_map(Wait::Oversleep),
        4 => side.prop_map(Wait::Timeout),
        1 => (0..2_000_u64).prop_map(Wait::Back),
        3 => Just(Wait::Run(0)),
    ];
    (
        wait,
        fact,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(wait, fact, hears_when_looking, drains)| Step {
            wait,
            fact,
            hears_when_looking,
            drains,
        })
}

fn alive() -> impl Strategy<Value = Fact> {
    prop_oneof![
        2 => Just(Fact::Nothing),
        3 => Just(Fact::Heard),
        2 => Just(Fact::RequestStart),
        2 => Just(Fact::RequestEnd),
        1 => Just(Fact::Full),
        1 => Just(Fact::Room),
        1 => Just(Fact::Wanted),
    ]
}

/// Legal settings of all kinds, in milliseconds and small enough to meet each other often.
pub(super) fn configs() -> impl Strategy<Value = Config> {
    let pings = (8..=200_u64, 4..=100_u64, 1..=4_u32, 0..=100_u64, 0..=25_u8);
    let limits = (
        option::of(10..=800_u64),
        option::of(10..=400_u64),
        option::of(1..=99_u64),
        option::of(1..=99_u32),
    );
    let ping_when = prop_oneof![
        Just(PingWhen::Always),
        Just(PingWhen::Quiet),
        Just(PingWhen::WhileBusy),
        Just(PingWhen::NotBusy),
    ];
    let evidence = prop_oneof![
        3 => Just(Evidence::AnyTraffic),
        1 => Just(Evidence::PongOnly),
    ];
    let detector = prop_oneof![
        2 => Just((Detector::Fixed, None)),
        3 => option::of(1..=99_u64).prop_map(|floor| (Detector::RoundTrips, floor)),
        3 => option::of(1..=99_u64).prop_map(|floor| (Detector::PhiAccrual, floor)),
    ];
    let all = (pings, limits, ping_when, evidence, detector);
    all.prop_map(|(pings, limits, ping_when, evidence, detector)| {
        let (interval, pong_timeout, max_missed, ready_timeout, jitter) = pings;
        let (idle_timeout, quiet_timeout, verify_share, suspect_share) = limits;
        let mut settings = Config::builder()
            .interval(Duration::from_millis(interval))
            .pong_timeout(Duration::from_millis(pong_timeout))
            .max_missed(max_missed)
            .ready_timeout(Duration::from_millis(ready_timeout))
            .jitter(jitter)
            .ping_when(ping_when)
            .evidence(evidence);
        let (detector, floor_share) = detector;
        settings = settings.detector(detector);
        if let Some(share) = floor_share {
            let floor = Duration::from_micros(pong_timeout * 10 * share);
            settings = settings.pong_floor(floor.max(Duration::from_millis(1)));
        }
        if let Some(timeout) = idle_timeout {
            settings = settings.idle_timeout(Duration::from_millis(timeout));
        }
        if let Some(timeout) = quiet_timeout {
            settings = settings.quiet_timeout(Duration::from_millis(timeout));
        }
        if let Some(share) = verify_share {
            let longest = idle_timeout.map_or(interval, |timeout| timeout.min(interval));
            let verify = Duration::from_micros(longest * 10 * share);
            settings = settings.verify_after_idle(verify.max(Duration::from_millis(1)));
        }
        let config = settings.build().expect("legal");
        match suspect_share {
            Some(share) => settings
                .suspect_after(suspect_limit(&config, share))
                .build()
                .expect("legal"),
            None => config,
        }
    })
}

/// This many percent of the way from the first ping to the verdict.
fn suspect_limit(config: &Config, share: u32) -> Duration {
    let first_ping = config.interval + config.tick();
    first_ping + (config.worst_case_detection() - first_ping) / 100 * share
}
