//! How the last connections went, and until when the next one waits.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{delays::Delays, error::ReconnectError};
use crate::{
    error::{BoxError, Failure, HeartbeatError},
    handle::{Handle, State},
    link::lock,
    moment::{Clock, Moment},
};

#[derive(Debug)]
pub(super) struct Record {
    delays: Delays,
    clock: Clock,
    /// Connections in a row that did not come about or did not prove themselves.
    failures: u32,
    due: Moment,
    last: Option<Made>,
    /// How the last connection ended, if that explains something.
    death: Option<HeartbeatError>,
    made: u64,
}

/// A connection that was made.
#[derive(Debug)]
struct Made {
    handle: Handle,
    ended_at: Option<Moment>,
}

impl Record {
    pub(super) fn new(delays: Delays) -> Record {
        Record {
            delays,
            clock: Clock::start(),
            failures: 0,
            due: Moment::default(),
            last: None,
            death: None,
            made: 0,
        }
    }

    /// What became of the last connection decides about the next.
    fn settle(&mut self, now: Moment) {
        let made = match &self.last {
            Some(made) => made,
            None => return,
        };
        let link = made.handle.link();
        let end = match made.handle.state() {
            // It was dropped for an error of its own, which is nobody's to keep.
            State::Alive | State::Suspect | State::Closed if link.is_broken() => None,
            State::Alive | State::Suspect => return,
            State::Closing | State::IdleClosed | State::Closed | State::Dead => {
                Some(link.refusal())
            }
        };
        let ended_at = made.ended_at.unwrap_or(now);
        let in_good_order = end
            .as_ref()
            .is_some_and(|end| matches!(end.failure(), Failure::IdleTimeout | Failure::Closed));
        let proved = link.has_proved_itself();
        self.last = None;
        self.death = end.filter(|_| !in_good_order);
        match (proved, in_good_order) {
            (true, true) => self.failures = 0,
            (true, false) => {
                self.failures = 0;
                self.wait(ended_at);
            }
            // It speaks neither for the peer nor against it.
            (false, true) if self.failures == 0 => {}
            (false, true) => self.wait(ended_at),
            (false, false) => {
                self.failures = self.failures.saturating_add(1);
                self.wait(ended_at);
            }
        }
    }

    fn wait(&mut self, from: Moment) {
        let delay: Duration = self.delays.after(self.failures);
        tracing::debug!(
            target: "tower_heartbeat::reconnect",
            failures = self.failures,
            ?delay,
            "next connection waits"
        );
        self.due = from.after(delay);
    }
}

/// Until when to wait; `None` if there is nothing to wait for.
pub(super) fn due(record: &Mutex<Record>) -> Option<Instant> {
    let mut record = lock(record);
    let now = record.clock.now();
    record.settle(now);
    if record.due <= now {
        return None;
    }
    record.clock.instant(record.due)
}

/// A connection came about.
pub(super) fn keep(record: &Arc<Mutex<Record>>, handle: Handle) {
    let mut locked = lock(record);
    locked.made += 1;
    let number = locked.made;
    locked.last = Some(Made {
        handle: handle.clone(),
        ended_at: None,
    });
    drop(locked);
    // The record holds the handle, which holds the hook.
    let weak = Arc::downgrade(record);
    handle.on_end(move |_| {
        let Some(record) = weak.upgrade() else { return };
        let mut record = lock(&record);
        let now = record.clock.now();
        if number == record.made
            && let Some(last) = &mut record.last
        {
            last.ended_at = Some(now);
        }
    });
}

/// A connection did not come about.
pub(super) fn fail(record: &Mutex<Record>, error: BoxError) -> ReconnectError {
    let mut record = lock(record);
    let now = record.clock.now();
    record.failures = record.failures.saturating_add(1);
    record.wait(now);
    ReconnectError::new(error, record.death.clone())
}
