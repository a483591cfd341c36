//! What has to be kept of a machine at rest, and the way back.
//!
//! Most connections are idle most of the time, and then a few words say everything about them.
//! `at_rest` hands these out only where `resumed` gives the same machine back.

use std::sync::Arc;

use super::{Liveness, Pings, Standing, State, Usage};
use crate::{config::Config, moment::Moment, rtt::Rtt};

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
        let rest = Rest {
            heard_at: self.heard_at,
            idle_since: since,
            rtt: self.rtt,
            unverified: self.standing == Standing::Unverified,
            can_ping: self.pings.is_some(),
            pings: self.pings.map_or(0, |pings| pings.sent),
            seed: self.pings.map_or(0, |pings| pings.seed),
            spread: self.pings.map_or(0, |pings| pings.spread),
        };
        let resumed = Liveness::resumed(Arc::clone(&self.config), rest, self.latest);
        let same = self.state == resumed.state
            && self.standing == resumed.standing
            && undated(self.pings) == undated(resumed.pings)
            // Only the later of the two counts, and the sign of life only gets later.
            && self.awake_since <= self.heard_at
            && self.looked_at.is_none()
            && self.excused_at.is_none()
            && self.quiet_excused_at.is_none();
        same.then_some(rest)
    }

    /// The machine of which `rest` was kept, at `now`.
    pub(crate) fn resumed(config: Arc<Config>, rest: Rest, now: Moment) -> Liveness {
        // A pong is dated to its last sign of life and its round trip; the first ping to the begin.
        let round_trip = rest.rtt.map(|rtt| rtt.last()).unwrap_or_default();
        let last_at = rest.heard_at.before(round_trip);
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
                Pings {
                    sent: rest.pings,
                    spread: rest.spread,
                    ..Pings::new(&config, last_at, rest.seed)
                }
                .drawn(&config)
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

/// When the last ping went out shows in the state, where it matters.
fn undated(pings: Option<Pings>) -> Option<Pings> {
    pings.map(|pings| Pings {
        last_at: Moment::NEVER,
        ..pings
    })
}
