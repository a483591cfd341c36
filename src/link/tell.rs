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
        #[cfg(feature = "metrics")]
        self.count_ping();
        tracing::trace!("ping");
        self.tell(&Event::Ping);
    }

    /// After the machine's figures are kept: whoever waits for the pong wakes.
    pub(crate) fn pong_came(self: &Arc<Self>, rtt: Option<Rtt>) {
        if let Some(rtt) = rtt {
            self.set_rtt(rtt);
            #[cfg(feature = "metrics")]
            self.count_pong(rtt);
        }
        self.record.count_pong();
        let rtt = rtt.map(|rtt| rtt.last());
        tracing::trace!(?rtt, "pong");
        self.wake_waiters();
        if let Some(rtt) = rtt {
            self.tell(&Event::Pong { rtt });
        }
    }

    /// No answer is waited for any more, though the connection goes on.
    pub(crate) fn ping_is_given_up(&self) {
        #[cfg(feature = "metrics")]
        self.count_cancelled();
    }

    /// So many waits in a row have passed.
    pub(crate) fn ping_is_missed(self: &Arc<Self>, missed: u32) {
        #[cfg(feature = "metrics")]
        crate::metrics::miss();
        self.tell(&Event::Missed { missed });
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
        #[cfg(feature = "metrics")]
        self.count_end(cause.failure);
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
