//! How connections come to a driver that runs already.

use std::{mem, sync::PoisonError};

use crate::sync::{Mutex, MutexGuard};

/// The connections that a driver has yet to take over.
#[derive(Debug)]
pub(crate) struct Arrivals<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    running: bool,
    new: Vec<T>,
}

impl<T> Arrivals<T> {
    pub(crate) fn new() -> Arrivals<T> {
        Arrivals {
            state: Mutex::new(State {
                running: false,
                new: Vec::new(),
            }),
        }
    }

    /// Adds a connection. `false` if no driver runs: the caller is to start one, which finds it.
    #[must_use]
    pub(crate) fn join(&self, newcomer: T) -> bool {
        let mut state = self.lock();
        state.new.push(newcomer);
        mem::replace(&mut state.running, true)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock().running
    }

    pub(super) fn take(&self) -> Vec<T> {
        mem::take(&mut self.lock().new)
    }

    /// The driver ends, unless somebody has just come.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut state = self.lock();
        state.running = !state.new.is_empty();
        !state.running
    }

    /// The driver ends, whoever has come.
    pub(super) fn close(&self) -> Vec<T> {
        let mut state = self.lock();
        state.running = false;
        mem::take(&mut state.new)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics but an allocation, before anything was changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
