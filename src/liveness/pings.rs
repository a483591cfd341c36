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
        Pings::drawn(config, now, seed, 0, 0)
    }

    /// Pings of which `sent` went out, the last at `last_at`: the same whenever they are drawn.
    pub(super) fn drawn(
        config: &Config,
        last_at: Moment,
        seed: u64,
        spread: u32,
        sent: u32,
    ) -> Pings {
        let mut interval = config.interval;
        if config.jitter > 0 {
            let most = nanos(interval) / 100 * u64::from(config.jitter);
            let cut = split_mix(seed, sent) % most.saturating_add(1);
            interval = interval.saturating_sub(Duration::from_nanos(cut));
        }
        if sent == 0 && spread > 0 {
            let cut = (u128::from(nanos(interval)) * u128::from(spread)) >> 32;
            let cut = u64::try_from(cut).map_or(interval, Duration::from_nanos);
            interval = interval.saturating_sub(cut);
        }
        Pings {
            last_at,
            wanted_at: None,
            interval,
            seed,
            spread,
            sent,
        }
    }

    pub(super) fn spread(self, config: &Config, part: u32) -> Pings {
        Pings::drawn(config, self.last_at, self.seed, part, self.sent)
    }

    pub(super) fn went_out(&mut self, config: &Config, now: Moment) {
        let sent = self.sent.wrapping_add(1);
        *self = Pings::drawn(config, now, self.seed, self.spread, sent);
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
