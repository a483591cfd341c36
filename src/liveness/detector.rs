//! How long the windows of a ping that is out are.
//!
//! All that a detector learns are the round trips, which are kept of a machine at rest anyway. The
//! interval between signs of life is `interval`, which this side has chosen, and a round trip; so phi
//! is asked of the round trip alone.

use std::{f64::consts::LN_10, time::Duration};

use crate::{
    config::{Config, Detector, GRANULARITY},
    moment::nanos,
    rtt::Rtt,
};

/// The windows of one ping. They stay long once it was missed, also when other traffic rescued it: only
/// its pong, which is a sample, says how long the next one may take (Karn; RFC 6298 section 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// How long the window that runs is.
    wait: Duration,
    longest: Duration,
}

impl Patience {
    pub(super) fn of(config: &Config, rtt: Option<Rtt>) -> Patience {
        let longest = config.pong_timeout;
        let wait = match (config.detector, rtt) {
            (Detector::Fixed, _) | (_, None) => longest,
            (Detector::RoundTrips, Some(rtt)) => retransmission_timeout(rtt),
            (Detector::PhiAccrual, Some(rtt)) => suspicion_wait(config.phi_threshold, rtt),
        };
        let wait = wait.clamp(config.pong_floor, longest);
        Patience {
            wait,
            longest: longest.min(wait.saturating_mul(BACK_OFF)),
        }
    }

    pub(super) fn full(config: &Config) -> Patience {
        Patience {
            wait: config.pong_timeout,
            longest: config.pong_timeout,
        }
    }

    pub(super) fn wait(self) -> Duration {
        self.wait
    }

    /// After a miss. A latency that rose at once is found out in one of the longer windows (RFC 6298
    /// section 5.5).
    pub(super) fn doubled(self) -> Patience {
        Patience {
            wait: self.wait.saturating_mul(2).min(self.longest),
            ..self
        }
    }
}

/// RFC 6298 section 2.
fn retransmission_timeout(rtt: Rtt) -> Duration {
    let margin = rtt.variation().saturating_mul(4).max(GRANULARITY);
    rtt.smoothed().saturating_add(margin)
}

/// When phi reaches `threshold`.
fn suspicion_wait(threshold: u8, rtt: Rtt) -> Duration {
    let deviation = DEVIATIONS * nanos(rtt.variation().max(GRANULARITY)) as f64;
    let wait = nanos(rtt.smoothed()) as f64 + deviations_at(threshold.into()) * deviation;
    // Saturates, and no figure of these is "not a number".
    Duration::from_nanos(wait as u64)
}

/// How many standard deviations after the mean phi is `phi`, with the logistic approximation of the
/// normal distribution that Akka uses: the only root of `0.070566 y³ + 1.5976 y = z`.
fn deviations_at(phi: f64) -> f64 {
    let z = phi * LN_10 + (-10_f64.powf(-phi)).ln_1p();
    let (p, q) = (LINEAR / CUBIC / 3.0, z / CUBIC / 2.0);
    let root = (q * q + p * p * p).sqrt();
    (q + root).cbrt() + (q - root).cbrt()
}

const LINEAR: f64 = 1.5976;
const CUBIC: f64 = 0.070566;

/// Of a mean deviation, in a normal distribution: the square root of half pi.
const DEVIATIONS: f64 = 1.253_314_137_315_500_3;

/// How much longer than the first window the others may get. Unbounded doubling would soon wait as long as
/// the fixed detector.
const BACK_OFF: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// phi of a heartbeat of mean 1,000 and deviation 100, as published for Akka's formula.
    const PHI: [(f64, f64); 6] = [
        (500.0, 0.1),
        (1000.0, 0.3),
        (1200.0, 1.6),
        (1400.0, 4.7),
        (1600.0, 10.8),
        (1700.0, 15.3),
    ];

    #[test]
    fn phi_is_as_akka_computes_it() {
        for (t, expected) in PHI {
            let phi = phi_after((t - 1000.0) / 100.0);
            assert!((phi - expected).abs() < 0.1, "{t}: {phi}");
        }
    }

    #[test]
    fn a_suspicion_is_reached_when_phi_says_so() {
        for tenths in 4..=160 {
            let phi = f64::from(tenths) / 10.0;
            let back = phi_after(deviations_at(phi));
            assert!((back - phi).abs() < 1e-9, "{phi}: {back}");
        }
        // Of a mean deviation of 79.79 the standard deviation is 100.
        let rtt = Rtt::of([0, 0, 1_000_000_000, 79_788_456]);
        for threshold in 1..=16 {
            let wait = suspicion_wait(threshold, rtt);
            let phi = phi_after((wait.as_secs_f64() - 1.0) / 0.1);
            assert!(
                (phi - f64::from(threshold)).abs() < 1e-6,
                "{threshold}: {phi}"
            );
        }
    }

    #[test]
    fn a_time_out_is_found_as_in_rfc_6298() {
        let millis = Duration::from_millis;
        let first = Rtt::first(millis(100));
        assert_eq!(retransmission_timeout(first), millis(300));
        // SRTT 110, RTTVAR 57.5
        let second = first.next(millis(180));
        assert_eq!(retransmission_timeout(second), millis(340));
        // A path that never varies still has the timer's granularity.
        let steady = Rtt::of([0, 0, 5_000_000, 0]);
        assert_eq!(retransmission_timeout(steady), millis(6));
    }

    #[test]
    fn the_longest_round_trips_overflow_nothing() {
        let rtt = Rtt::of([u64::MAX; 4]);
        assert_eq!(
            retransmission_timeout(rtt),
            Duration::from_nanos(u64::MAX) * 5
        );
        assert_eq!(suspicion_wait(16, rtt), Duration::from_nanos(u64::MAX));
    }

    fn phi_after(deviations: f64) -> f64 {
        let y = deviations;
        let e = (-y * (LINEAR + CUBIC * y * y)).exp();
        if y > 0.0 {
            -(e / (1.0 + e)).log10()
        } else {
            -(-1.0 / (1.0 + e)).ln_1p() / LN_10
        }
    }
}
