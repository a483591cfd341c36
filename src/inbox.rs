//! Which connections their driver is to look at before their time.

use std::{mem, sync::PoisonError, task::Waker};

use crate::sync::{Mutex, MutexGuard};

/// The ids of the connections to look at, and the task that looks.
///
/// Each connection has one place at most ([`Signals`](crate::signals::Signals) sees to that), but
/// for a thread that a look overtakes between its signal and its push: then it may find one more,
/// and the second look nothing. So it is hardly longer than there are connections.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ids: Vec<u32>,
    /// Taken by the first that comes after a look; the others find the driver woken.
    driver: Option<Waker>,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            state: Mutex::new(State::default()),
        }
    }

    /// Has the driver look at `id`, now or as soon as it is polled.
    pub(crate) fn push(&self, id: u32) {
        let mut state = self.lock();
        state.ids.push(id);
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Wakes the driver without an id.
    pub(crate) fn wake(&self) {
        let driver = self.lock().driver.take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Moves what is there into the empty `ids`; whatever comes from here on wakes `driver`.
    pub(crate) fn take(&self, driver: &Waker, ids: &mut Vec<u32>) {
        debug_assert!(ids.is_empty());
        let driver = driver.clone();
        let mut state = self.lock();
        mem::swap(&mut state.ids, ids);
        let replaced = state.driver.replace(driver);
        drop(state);
        drop(replaced);
    }

    /// The driver is about to end: nobody is to wake it, nor to keep its runtime, for this inbox.
    pub(crate) fn forget(&self) -> Option<Waker> {
        self.lock().driver.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics but an allocation, before anything was changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
