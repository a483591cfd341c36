//! When the next ping is due, as far as the pings themselves decide.

use std::time::Duration;

use crate::{
    config::Config,
    moment::{Moment, nanos},
};

/// The pings of a connection that can be pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pings {
    /// When the last one went out; at first, when the connection began.
    pub(super) last_at: Moment,
    /// Since when somebody wants one, until it is out.
    pub(super) wanted_at: Option<Moment>,
    /// This round's interval, shortened by its jitter.
    pub(super) interval: Duration,
    pub(super) seed: u64,
    /// By what part of it the first interval is shortened, in 2^-32.
    pub(super) spread: u32,
    /// How many went out; wraps.
    pub(super) sent: u32,
}

impl Pings {
    pub(super) fn new(config: &Config, now: Moment, seed: u64) -> Pings {
        Pings {
            last_at: now,
            wanted_at: None,
            interval: config.interval,
            seed,
            spread: 0,
            sent: 0,
        }
        .drawn(config)
    }

    pub(super) fn went_out(&mut self, config: &Config, now: Moment) {
        *self = Pings {
            last_at: now,
            wanted_at: None,
            sent: self.sent.wrapping_add(1),
            ..*self
        }
        .drawn(config);
    }

    /// Draws this round's interval, the same whenever it is drawn.
    pub(super) fn drawn(self, config: &Config) -> Pings {
        let most = nanos(config.interval) / 100 * u64::from(config.jitter);
        let cut = split_mix(self.seed, self.sent) % most.saturating_add(1);
        let jittered = nanos(config.interval).saturating_sub(cut);
        let head_start = match self.sent {
            0 => (u128::from(jittered) * u128::from(self.spread)) >> 32,
            _ => 0,
        };
        let interval = jittered - u64::try_from(head_start).unwrap_or(jittered);
        Pings {
            interval: Duration::from_nanos(interval),
            ..self
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): any seed will do, and jitter needs no more.
fn split_mix(seed: u64, round: u32) -> u64 {
    let steps = u64::from(round).wrapping_add(1);
    mixed(seed.wrapping_add(steps.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
