//! When the next ping is due, as far as the pings themselves decide.

use std::time::Duration;

use crate::{
    config::Config,
    moment::{Moment, nanos},
};

/// The pings of a connection that can be pinged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pings {
    /// When the last one went out; at first, when the connection began.
    pub(super) last_at: Moment,
    /// Since when somebody wants one, until it is out.
    pub(super) wanted_at: Option<Moment>,
    /// This round's interval, shortened by its jitter.
    pub(super) interval: Duration,
    random: u64,
}

impl Pings {
    pub(super) fn new(config: &Config, now: Moment, seed: u64) -> Pings {
        let mut pings = Pings {
            last_at: now,
            wanted_at: None,
            interval: config.interval,
            random: seed,
        };
        pings.draw_interval(config);
        pings
    }

    pub(super) fn seed(self) -> u64 {
        self.random
    }

    pub(super) fn sent(&mut self, config: &Config, now: Moment) {
        self.last_at = now;
        self.wanted_at = None;
        self.draw_interval(config);
    }

    fn draw_interval(&mut self, config: &Config) {
        let most = nanos(config.interval) / 100 * u64::from(config.jitter);
        self.random = next_state(self.random);
        let cut = mixed(self.random) % most.saturating_add(1);
        self.interval = config.interval.saturating_sub(Duration::from_nanos(cut));
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): any seed will do, and jitter needs no more.
fn next_state(state: u64) -> u64 {
    state.wrapping_add(0x9e37_79b9_7f4a_7c15)
}

fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
