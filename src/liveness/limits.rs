//! When each limit runs out. Reads the machine, changes nothing.

use super::{Liveness, Standing, State, Usage};
use crate::{error::Failure, moment::Moment};

/// A limit that ends the connection when it runs out.
pub(super) struct Charge {
    pub(super) by: Moment,
    pub(super) failure: Failure,
    pub(super) since: Moment,
}

impl Liveness {
    /// The limit that runs out first of those that end the connection.
    pub(super) fn first_charge(&self) -> Option<Charge> {
        let ping = match self.state {
            State::Sending { due_at, ready_by } => Some(Charge {
                by: self.excused(ready_by, self.excused_at),
                failure: Failure::PingBlocked,
                since: due_at,
            }),
            State::Waiting { sent_at, .. } if self.is_last_window() => Some(Charge {
                by: self.window_ends_at(),
                failure: Failure::PongTimeout,
                since: sent_at,
            }),
            State::Waiting { .. } | State::Resting { .. } | State::CallingOff => None,
            State::Ended => return None,
        };
        let usage = match self.usage {
            Usage::Idle { since } => self.config.idle_timeout.map(|timeout| Charge {
                by: match self.standing {
                    Standing::Leaving => since,
                    Standing::Well | Standing::Unverified | Standing::Suspect { .. } => {
                        since.after(timeout)
                    }
                },
                failure: Failure::IdleTimeout,
                since,
            }),
            Usage::Busy { .. } => self.quiet_limit().map(|(since, by)| Charge {
                by: self.excused(by, self.quiet_excused_at),
                failure: Failure::ReadTimeout,
                since,
            }),
        };
        match (ping, usage) {
            (Some(ping), Some(usage)) if usage.by <= ping.by => Some(usage),
            (Some(ping), _) => Some(ping),
            (None, usage) => usage,
        }
    }

    pub(super) fn standing_at(&self, now: Moment) -> Standing {
        if self.standing == Standing::Leaving {
            Standing::Leaving
        } else {
            let unverified = self.unverified_at() <= now;
            if self.missed() > 0 || self.suspect_at() <= now {
                Standing::Suspect { unverified }
            } else if unverified {
                Standing::Unverified
            } else {
                Standing::Well
            }
        }
    }

    pub(super) fn standing_changes_at(&self) -> Moment {
        if self.standing_at(self.latest) != self.standing {
            return self.latest;
        }
        match self.standing {
            Standing::Well => self.suspect_at().min(self.unverified_at()),
            Standing::Unverified => self.suspect_at(),
            Standing::Suspect { unverified: false } => self.unverified_at(),
            Standing::Suspect { unverified: true } | Standing::Leaving => Moment::NEVER,
        }
    }

    fn suspect_at(&self) -> Moment {
        let waiting = matches!(self.state, State::Waiting { .. });
        match self.config.suspect_after {
            Some(limit) if self.pings.is_some() && (waiting || !self.asleep()) => {
                self.heard_at.max(self.awake_since).after(limit)
            }
            Some(_) | None => Moment::NEVER,
        }
    }

    fn unverified_at(&self) -> Moment {
        match self.config.verify_after_idle {
            Some(limit) if self.pings.is_some() => self.heard_at.after(limit),
            Some(_) | None => Moment::NEVER,
        }
    }

    /// When a resting ping is due.
    pub(super) fn ping_due_at(&self) -> Moment {
        let wanted_at = match &self.pings {
            Some(pings) if self.may_ping_if_wanted() => pings.wanted_at,
            Some(_) | None => None,
        };
        match self.state {
            State::Resting { ping_at } => wanted_at.map_or(ping_at, |at| at.min(ping_at)),
            State::Sending { .. } | State::CallingOff | State::Waiting { .. } | State::Ended => {
                Moment::NEVER
            }
        }
    }

    pub(super) fn window_ends_at(&self) -> Moment {
        match self.state {
            State::Waiting { pong_by, .. } => self.excused(pong_by, self.excused_at),
            State::Resting { .. } | State::Sending { .. } | State::CallingOff | State::Ended => {
                Moment::NEVER
            }
        }
    }

    pub(super) fn is_last_window(&self) -> bool {
        match self.state {
            State::Waiting {
                missed, max_missed, ..
            } => missed.saturating_add(1) >= max_missed,
            State::Resting { .. } | State::Sending { .. } | State::CallingOff | State::Ended => {
                false
            }
        }
    }

    /// From when, and until when, a busy peer may be quiet.
    pub(super) fn quiet_limit(&self) -> Option<(Moment, Moment)> {
        match (self.usage, self.config.quiet_timeout) {
            (Usage::Busy { since, .. }, Some(timeout)) => {
                let since = since.max(self.heard_at);
                Some((since, since.after(timeout)))
            }
            (Usage::Busy { .. } | Usage::Idle { .. }, _) => None,
        }
    }

    /// A limit that ran while the driver stood still ends one pong wait after it went on.
    fn excused(&self, by: Moment, excused_at: Option<Moment>) -> Moment {
        match excused_at {
            Some(at) => by.max(at.after(self.config.pong_timeout)),
            None => by,
        }
    }
}
