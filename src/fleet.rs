//! The connections of one layer, by the runtime that they belong to.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tokio::runtime;

use crate::{
    config::Config,
    driver::{Arrival, Arrivals, BoxPinger, SharedDriver},
    error::{Cause, Failure},
    inbox::Inbox,
    link::{Hub, Launch, Link, Observer, lock},
    spawn::Spawner,
};

/// What all clones of a layer share.
pub(crate) struct Fleets {
    pub(crate) config: Arc<Config>,
    pub(crate) spawner: Spawner,
    pub(crate) observer: Option<Observer>,
    /// One a runtime; with an executor, also one outside of any.
    known: Mutex<Vec<(Option<runtime::Id>, Arc<Fleet>)>>,
}

/// Connections that have one driver: while there are any, it runs.
pub(crate) struct Fleet {
    pub(crate) hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    arrivals: Arc<Arrivals<Arrival<BoxPinger>>>,
    spawner: Spawner,
}

impl Fleets {
    pub(crate) fn new(config: Arc<Config>, spawner: Spawner, observer: Option<Observer>) -> Fleets {
        Fleets {
            config,
            spawner,
            observer,
            known: Mutex::default(),
        }
    }

    /// The fleet of the runtime around.
    pub(crate) fn here(&self) -> Arc<Fleet> {
        let runtime = runtime::Handle::try_current().ok().map(|here| here.id());
        let mut known = lock(&self.known);
        if let Some((_, fleet)) = known.iter().find(|(id, _)| *id == runtime) {
            return Arc::clone(fleet);
        }
        // Runtimes come and go; so do their fleets.
        known.retain(|(_, fleet)| fleet.arrivals.is_running());
        let inbox = Arc::new(Inbox::new());
        let hub = Hub::new(Arc::clone(&self.config), &inbox).observed(self.observer.clone());
        let fleet = Arc::new(Fleet {
            hub: Arc::new(hub),
            inbox,
            arrivals: Arc::new(Arrivals::new()),
            spawner: self.spawner.clone(),
        });
        known.push((runtime, Arc::clone(&fleet)));
        fleet
    }

    /// What is to be done with a connection that was wrapped outside of any runtime, once it is polled.
    pub(crate) fn launch(self: &Arc<Self>, pinger: BoxPinger) -> Launch {
        let fleets = Arc::clone(self);
        Box::new(move |link| {
            if !fleets.spawner.is_here() {
                // Without a runtime nobody can watch it.
                link.end(Cause::new(Failure::MonitorGone));
                return;
            }
            let fleet = fleets.here();
            link.hub.have_driver(&fleet.inbox, fleet.hub.clock());
            fleet.watch(link, pinger);
        })
    }
}

impl Fleet {
    /// Has the driver watch a connection; starts it, if none runs.
    pub(crate) fn watch(&self, link: Arc<Link>, pinger: BoxPinger) {
        if self.arrivals.join((link, pinger)) {
            self.inbox.wake();
            return;
        }
        let driver = SharedDriver::new(
            Arc::clone(&self.hub.config),
            self.hub.clock(),
            Arc::clone(&self.inbox),
            Arc::clone(&self.arrivals),
        );
        self.spawner.spawn(Box::pin(driver));
    }
}

impl fmt::Debug for Fleets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleets")
            .field("config", &self.config)
            .field("spawner", &self.spawner)
            .finish_non_exhaustive()
    }
}
