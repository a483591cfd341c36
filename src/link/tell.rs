//! Telling those who watch what happens.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::Link;
use crate::{
    error::{Cause, Failure, HeartbeatError, Stage, panic_message},
    event::Event,
    rtt::Rtt,
};

pub(crate) type Observer = Arc<dyn Fn(&Arc<Link>, &Event) + Send + Sync>;

impl Link {
    pub(crate) fn ping_is_out(self: &Arc<Self>) {
        self.record.count_ping();
        tracing::trace!("ping");
        self.tell(&Event::Ping);
    }

    /// After the machine's figures are kept: whoever waits for the pong wakes.
    pub(crate) fn pong_came(self: &Arc<Self>, rtt: Option<Rtt>) {
        if let Some(rtt) = rtt {
            self.set_rtt(rtt);
        }
        self.record.count_pong();
        let rtt = rtt.map(|rtt| rtt.last());
        tracing::trace!(?rtt, "pong");
        self.wake_waiters();
        if let Some(rtt) = rtt {
            self.tell(&Event::Pong { rtt });
        }
    }

    /// A hook that panics must not end the connection.
    pub(crate) fn tell(self: &Arc<Self>, event: &Event) {
        if let Some(observer) = &self.hub.observer
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| observer(self, event)))
        {
            tracing::error!(message = panic_message(&*panic), "hook panicked");
        }
    }

    pub(super) fn tell_end(self: &Arc<Self>, cause: &Arc<Cause>) {
        if self.hub.observer.is_none() {
            return;
        }
        self.tell(&match cause.failure {
            Failure::IdleTimeout => Event::IdleClosed,
            Failure::Closed => Event::Closed,
            _ => Event::Dead(HeartbeatError::shared(Arc::clone(cause), Stage::NotSent)),
        });
    }
}
