//! How connections come to a driver that runs already.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use crate::link::{Link, lock};

/// The connections that a driver has yet to take over.
pub(crate) struct Arrivals<G> {
    state: Mutex<State<G>>,
}

struct State<G> {
    running: bool,
    new: Vec<Arrival<G>>,
}

pub(crate) type Arrival<G> = (Arc<Link>, G);

impl<G> Arrivals<G> {
    pub(crate) fn new() -> Arrivals<G> {
        Arrivals {
            state: Mutex::new(State {
                running: false,
                new: Vec::new(),
            }),
        }
    }

    /// Adds a connection. `false` if no driver runs: the caller is to start one, which finds it.
    #[must_use]
    pub(crate) fn join(&self, link: Arc<Link>, pinger: G) -> bool {
        let mut state = lock(&self.state);
        state.new.push((link, pinger));
        mem::replace(&mut state.running, true)
    }

    pub(crate) fn is_running(&self) -> bool {
        lock(&self.state).running
    }

    pub(super) fn take(&self) -> Vec<Arrival<G>> {
        mem::take(&mut lock(&self.state).new)
    }

    /// The driver ends, unless somebody has just come.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut state = lock(&self.state);
        state.running = !state.new.is_empty();
        !state.running
    }

    /// The driver ends, whoever has come.
    pub(super) fn close(&self) -> Vec<Arrival<G>> {
        let mut state = lock(&self.state);
        state.running = false;
        mem::take(&mut state.new)
    }
}
