//! The rule with a clock, for one connection.

use tokio::task::coop::has_budget_remaining;

use super::{
    PingPolicy,
    rule::{Rule, Verdict},
};
use crate::moment::Clock;

#[derive(Debug)]
pub(crate) struct Police {
    rule: Rule,
    clock: Clock,
}

impl Police {
    pub(crate) fn new(policy: PingPolicy, clock: Clock) -> Police {
        Police {
            rule: Rule::new(policy, clock.now()),
            clock,
        }
    }

    /// The reader found nothing, or was told so because its task's budget is spent: then there may lie anything.
    pub(crate) fn on_empty(&mut self) {
        if has_budget_remaining() {
            self.rule.on_empty(self.clock.now());
        }
    }

    /// Something that is no heartbeat was sent.
    pub(crate) fn on_sent(&mut self) {
        self.rule.on_sent();
    }

    /// A ping came. Returns whether its sender has to leave.
    pub(crate) fn sends_off(&mut self, is_idle: bool) -> bool {
        self.rule.on_ping(self.clock.now(), is_idle) == Verdict::SentOff
    }

    pub(crate) fn has_sent_off(&self) -> bool {
        self.rule.has_sent_off()
    }
}
