//! The rule by which pings are judged, without a clock.
//!
//! | a ping comes | its *interval* after the ping before it | then |
//! |---|---|---|
//! | the first, or the first since this side sent something | | [`Permitted`](Verdict::Permitted) |
//! | with a request in flight, or `while_idle` | `min_interval` or more | [`Permitted`](Verdict::Permitted) |
//! | idle, and not `while_idle` | two hours and `min_interval` or more | [`Permitted`](Verdict::Permitted) |
//! | sooner, up to `strikes` times | | [`Strike`](Verdict::Strike) |
//! | sooner, once more | | [`SentOff`](Verdict::SentOff), for good |
//!
//! What this side sends forgives all strikes. The interval runs from the ping before, whether that was permitted or not.
//!
//! Pings that are found together have lain there. They are taken to have come as an honest sender's do, one interval after the
//! other, but none before the moment when nothing lay there last. One that is found alone came when it was found.

use super::PingPolicy;
use crate::moment::Moment;

/// What becomes of a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Permitted,
    Strike,
    /// Its sender has to leave.
    SentOff,
}

/// What is known of one peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    policy: PingPolicy,
    /// When nothing lay there last.
    empty_at: Moment,
    record: Record,
}

#[derive(Clone, Copy, Debug)]
enum Record {
    /// No ping has come since this side sent something.
    Clean,
    Pinged {
        /// When the last one came, at the earliest.
        last_at: Moment,
        found: Found,
        strikes: u32,
    },
    SentOff,
}

/// The pings since nothing lay there last.
#[derive(Clone, Copy, Debug)]
enum Found {
    None,
    Alone { at: Moment },
    Together,
}

impl Rule {
    pub(super) fn new(policy: PingPolicy, now: Moment) -> Rule {
        Rule {
            policy,
            empty_at: now,
            record: Record::Clean,
        }
    }

    /// This side looked, and nothing lay there.
    pub(super) fn on_empty(&mut self, now: Moment) {
        self.empty_at = now;
        if let Record::Pinged { last_at, found, .. } = &mut self.record {
            if let Found::Alone { at } = *found {
                *last_at = at;
            }
            *found = Found::None;
        }
    }

    /// This side sent something that is no heartbeat.
    pub(super) fn on_sent(&mut self) {
        match self.record {
            Record::Clean | Record::SentOff => {}
            Record::Pinged { .. } => self.record = Record::Clean,
        }
    }

    pub(super) fn has_sent_off(&self) -> bool {
        matches!(self.record, Record::SentOff)
    }

    /// A ping was found.
    pub(super) fn on_ping(&mut self, now: Moment, is_idle: bool) -> Verdict {
        let alone = Found::Alone { at: now };
        let (last_at, found, strikes) = match self.record {
            Record::Clean => {
                self.record = Record::Pinged {
                    last_at: self.empty_at,
                    found: alone,
                    strikes: 0,
                };
                return Verdict::Permitted;
            }
            Record::Pinged {
                last_at,
                found,
                strikes,
            } => (last_at, found, strikes),
            Record::SentOff => return Verdict::SentOff,
        };
        let found = match found {
            Found::None => alone,
            Found::Alone { .. } | Found::Together => Found::Together,
        };
        let permitted_at = last_at.after(self.policy.interval(is_idle));
        if permitted_at <= now {
            self.record = Record::Pinged {
                last_at: permitted_at.max(self.empty_at),
                found,
                strikes,
            };
            Verdict::Permitted
        } else if strikes < self.policy.strikes {
            self.record = Record::Pinged {
                last_at: last_at.max(self.empty_at),
                found,
                strikes: strikes + 1,
            };
            Verdict::Strike
        } else {
            self.record = Record::SentOff;
            Verdict::SentOff
        }
    }
}
