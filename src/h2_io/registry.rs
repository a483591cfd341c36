//! Which connections a layer has open, and why those that it ended did end.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::error::{Cause, Failure, HeartbeatError, Stage};

/// The connections of one layer: how many are open, and the newest ends.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// The last that was opened, if any.
    newest: u64,
    /// How many closed without an end of ours.
    closed: u64,
    /// How many ends there were; `ends` has the newest of them.
    ended: u64,
    ends: VecDeque<End>,
}

#[derive(Debug)]
struct End {
    id: u64,
    cause: Arc<Cause>,
}

/// Errors come out right after their connection's end; more ends at once than this are cut short.
const KEPT: usize = 256;

/// What there was when a call began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    open: usize,
    newest: u64,
    closed: u64,
    ended: u64,
}

impl Registry {
    pub(super) fn open(self: &Arc<Self>) -> Entry {
        let entry = Entry {
            registry: Some(Arc::clone(self)),
            ..Entry::alone()
        };
        let mut state = self.lock();
        state.open += 1;
        state.newest = entry.id;
        entry
    }

    pub(super) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark {
            open: state.open,
            newest: state.newest,
            closed: state.closed,
            ended: state.ended,
        }
    }

    /// The end that explains `error`, which a call got that began at `mark`.
    ///
    /// What the IO itself says comes through HTTP/2 as text, with the connection's signature: that is
    /// exact. So is the peer's complaint about pings, of which a call can hear that began after it. Where there is one
    /// connection at a time, a call that was canceled before it was sent waited for the last that ended, and one
    /// that was cut short without a word was on it.
    pub(super) fn explain(
        &self,
        error: &(dyn StdError + 'static),
        mark: Mark,
        stage: Stage,
    ) -> Option<HeartbeatError> {
        // As long as it was not made a text.
        if let Some(end) = HeartbeatError::find(error) {
            return Some(end.clone().at(stage));
        }
        let trace = trace_in(error);
        let state = self.lock();
        let mut newest_first = state.ends.iter().rev();
        let end = match trace {
            Some(Trace::Signature(id)) => newest_first.find(|end| end.id == id),
            Some(Trace::Complaint) => {
                newest_first.find(|end| end.cause.failure == Failure::TooManyPings)
            }
            // Those that were opened since then have the calls that they got.
            Some(Trace::Canceled) => {
                let alone = mark.open <= 1 && state.closed == mark.closed;
                let newest = newest_first.next();
                newest.filter(|end| alone && (state.ended > mark.ended || mark.newest == end.id))
            }
            None => {
                let alone = mark.open <= 1 && state.open <= 1;
                let newest = newest_first.next();
                newest.filter(|_| alone && state.ended > mark.ended)
            }
        }?;
        let stage = match trace {
            // What streams had been sent, whatever its error says.
            Some(Trace::Canceled) if stage == Stage::AwaitingResponse => Stage::NotSent,
            Some(Trace::Canceled | Trace::Signature(_) | Trace::Complaint) | None => stage,
        };
        Some(HeartbeatError::shared(Arc::clone(&end.cause), stage))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place. Its drop gives the place up.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    is_closed: bool,
    /// Until it has ended.
    registry: Option<Arc<Registry>>,
}

impl Entry {
    /// Of a connection that no layer made.
    pub(super) fn alone() -> Entry {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Entry {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            is_closed: false,
            registry: None,
        }
    }

    /// What the IO tells its user; also as text it says whose it is.
    pub(super) fn signed(&self, error: HeartbeatError) -> Signed {
        Signed { id: self.id, error }
    }

    /// The connection is of no use any more, by no end of ours. Only the first call counts.
    pub(super) fn close(&mut self) {
        if let Some(registry) = &self.registry
            && !self.is_closed
        {
            self.is_closed = true;
            registry.lock().closed += 1;
        }
    }

    /// Its user is about to be told, or finds out by the peer. Only the first call counts.
    pub(super) fn end(&mut self, cause: &Arc<Cause>) {
        if let Some(registry) = self.registry.take() {
            let mut state = registry.lock();
            state.open -= 1;
            state.ended += 1;
            if state.ends.len() == KEPT {
                state.ends.pop_front();
            }
            state.ends.push_back(End {
                id: self.id,
                cause: Arc::clone(cause),
            });
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.close();
        if let Some(registry) = &self.registry {
            registry.lock().open -= 1;
        }
    }
}

/// The heartbeat's error with the connection's signature.
#[derive(Debug)]
pub(super) struct Signed {
    id: u64,
    error: HeartbeatError,
}

const SIGNATURE: &str = "heartbeat of connection ";

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SIGNATURE}{}: {}", self.id, self.error)
    }
}

impl StdError for Signed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// h2's words for the debug data of a GOAWAY.
const COMPLAINT: &str = "(b\"too_many_pings\")";

/// hyper's words for a call that its connection has not begun with.
const CANCELED: &str = "operation was canceled";

/// What a connection's end leaves in the texts of an error.
#[derive(Clone, Copy)]
enum Trace {
    Signature(u64),
    Complaint,
    Canceled,
}

fn trace_in(error: &(dyn StdError + 'static)) -> Option<Trace> {
    let mut next = Some(error);
    let mut canceled = None;
    while let Some(error) = next {
        let text = error.to_string();
        let id = text.strip_prefix(SIGNATURE).and_then(|text| {
            let (id, _) = text.split_once(':')?;
            id.parse().ok()
        });
        if let Some(id) = id {
            return Some(Trace::Signature(id));
        }
        if text.ends_with(COMPLAINT) {
            return Some(Trace::Complaint);
        }
        if text.starts_with(CANCELED) {
            canceled = Some(Trace::Canceled);
        }
        next = error.source();
    }
    canceled
}
