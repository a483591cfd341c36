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

use crate::error::{Cause, HeartbeatError, Stage};

/// The connections of one layer: how many are open, and the newest ends.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
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
    ended: u64,
}

impl Registry {
    pub(super) fn open(self: &Arc<Self>) -> Entry {
        self.lock().open += 1;
        Entry {
            registry: Some(Arc::clone(self)),
            ..Entry::alone()
        }
    }

    pub(super) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark {
            open: state.open,
            ended: state.ended,
        }
    }

    /// The end that explains `error`, which a call got that began at `mark`.
    ///
    /// What the IO itself says comes through HTTP/2 as text, with the connection's signature: that is
    /// exact. An error of a call that was cut short has none; where there was never more than
    /// one connection, it was that one's.
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
        let signature = signature_in(error);
        let state = self.lock();
        let end = match signature {
            Some(id) => state.ends.iter().rev().find(|end| end.id == id),
            None => {
                let alone = mark.open <= 1 && state.open <= 1;
                let newest = state.ends.back();
                newest.filter(|_| alone && state.ended > mark.ended)
            }
        }?;
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
    /// Until it has ended.
    registry: Option<Arc<Registry>>,
}

impl Entry {
    /// Of a connection that no layer made.
    pub(super) fn alone() -> Entry {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Entry {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            registry: None,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// What the IO tells its user; also as text it says whose it is.
    pub(super) fn signed(&self, error: HeartbeatError) -> Signed {
        Signed { id: self.id, error }
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

fn signature_in(error: &(dyn StdError + 'static)) -> Option<u64> {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let id = text.strip_prefix(SIGNATURE).and_then(|text| {
            let (id, _) = text.split_once(':')?;
            id.parse().ok()
        });
        if id.is_some() {
            return id;
        }
        next = error.source();
    }
    None
}
