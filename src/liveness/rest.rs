//! What has to be kept of a machine at rest, and the way back.
//!
//! Most connections are idle most of the time, and then a few words say everything about them.
//! `at_rest` hands these out only where `resumed` gives the same machine back.

use std::sync::Arc;

use super::{Liveness, Pings, Standing, State, Usage};
use crate::{
    config::{Config, PingWhen},
    moment::Moment,
    rtt::Rtt,
};

/// An idle connection with no ping out and no limit but those that follow from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) heard_at: Moment,
    pub(crate) idle_since: Moment,
    pub(crate) rtt: Option<Rtt>,
    /// Whether so quiet that a pong is wanted before the next call.
    pub(crate) unverified: bool,
    pub(crate) can_ping: bool,
    /// How many pings went out; wraps.
    pub(crate) pings: u32,
    pub(crate) seed: u64,
    /// See [`Liveness::spread`].
    pub(crate) spread: u32,
}

impl Liveness {
    /// What to keep of the machine, or `None` while there is more to it.
    pub(crate) fn at_rest(&self) -> Option<Rest> {
        let (State::Resting { .. }, Usage::Idle { since }) = (self.state, self.usage) else {
            return None;
        };
        let unverified = match self.standing {
            Standing::Well => false,
            Standing::Unverified => true,
            Standing::Suspect { .. } | Standing::Leaving => return None,
        };
        // Excuses are of a ping that is over, or of requests that have ended.
        if self.looked_at.is_some() || !self.counts_from_heard() {
            return None;
        }
        if let Some(pings) = &self.pings {
            let dated = self.config.ping_when != PingWhen::Always
                || pings.last_at == last_ping_at(self.heard_at, self.rtt);
            if pings.wanted_at.is_some() || !dated {
                return None;
            }
        }
        Some(Rest {
            heard_at: self.heard_at,
            idle_since: since,
            rtt: self.rtt,
            unverified,
            can_ping: self.pings.is_some(),
            pings: self.pings.map_or(0, |pings| pings.sent),
            seed: self.pings.map_or(0, |pings| pings.seed),
            spread: self.pings.map_or(0, |pings| pings.spread),
        })
    }

    /// Whether the soft limit, if there is one and pings are made, counts from the last sign of life.
    fn counts_from_heard(&self) -> bool {
        let counts = self.config.suspect_after.is_some() && !self.asleep();
        // Only the later of the two counts, and the sign of life only gets later.
        !counts || self.awake_since <= self.heard_at
    }

    /// The machine of which `rest` was kept, at `now`.
    pub(crate) fn resumed(config: Arc<Config>, rest: Rest, now: Moment) -> Liveness {
        let mut machine = Liveness {
            state: State::Resting {
                ping_at: Moment::NEVER,
            },
            usage: Usage::Idle {
                since: rest.idle_since,
            },
            standing: if rest.unverified {
                Standing::Unverified
            } else {
                Standing::Well
            },
            latest: now,
            heard_at: rest.heard_at,
            awake_since: rest.heard_at,
            pings: rest.can_ping.then(|| {
                let last_at = last_ping_at(rest.heard_at, rest.rtt);
                Pings::drawn(&config, last_at, rest.seed, rest.spread, rest.pings)
            }),
            looked_at: None,
            excused_at: None,
            quiet_excused_at: None,
            rtt: rest.rtt,
            config,
        };
        machine.rest();
        machine
    }
}

/// As it shows in what is kept: a round trip before the pong, and at first the begin.
fn last_ping_at(heard_at: Moment, rtt: Option<Rtt>) -> Moment {
    heard_at.before(rtt.map(|rtt| rtt.last()).unwrap_or_default())
}
