//! Counts the drivers of a layer, and those that run.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::AbortHandle;

use super::TestLayer;

#[derive(Clone, Default)]
pub(crate) struct Drivers {
    started: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    aborts: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Drivers {
    /// Has this run the layer's drivers, each in the runtime that asks for it.
    pub(crate) fn of(&self, layer: TestLayer) -> TestLayer {
        let drivers = self.clone();
        layer.executor(move |driver| {
            drivers.started.fetch_add(1, Ordering::Relaxed);
            let running = Running::one_of(&drivers.running);
            let task = tokio::spawn(async move {
                driver.await;
                drop(running);
            });
            drivers.aborts.lock().unwrap().push(task.abort_handle());
        })
    }

    /// How many were started, ever.
    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::Relaxed)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    pub(crate) fn abort_all(&self) {
        for task in self.aborts.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn one_of(running: &Arc<AtomicUsize>) -> Running {
        running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
