//! How often a driver looks, and how late it may be.

use std::time::Duration;

use super::timers::Slack;
use crate::config::Config;

/// What fits into the tick that is part of the bound.
pub(super) struct Pace {
    /// How often a connection with traffic is looked at. What the slacks can add up to comes out of
    /// the configured tick, also for those that were dated before they were many.
    pub(super) tick: Duration,
    most: Slack,
}

impl Pace {
    pub(super) fn of(config: &Config) -> Pace {
        let tick = config.tick();
        Pace {
            tick: tick / 8 * 5,
            most: Slack {
                rest: tick / 8,
                awake: tick.min(config.pong_floor) / 8,
            },
        }
    }

    /// In proportion to what it costs to go through them, up to what fits.
    pub(super) fn slack(&self, all: usize, awake: usize) -> Slack {
        if all <= CROWD {
            return Slack::default();
        }
        Slack {
            rest: self.most.rest.min(REST_SLACK * saturated(all)),
            awake: self.most.awake.min(AWAKE_SLACK * saturated(awake)),
        }
    }
}

/// More connections than this share their wake-ups.
const CROWD: usize = 64;

/// What each connection adds to the slack: a few hundred times what it takes to pass it by, and for
/// those that are awake, which are due more seldom, less.
const REST_SLACK: Duration = Duration::from_nanos(1_500);
const AWAKE_SLACK: Duration = Duration::from_nanos(100);

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
