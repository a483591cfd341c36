//! The connections of one layer, by the runtime that they belong to.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::runtime;

use crate::{
    config::Config,
    driver::{Arrival, Arrivals, BoxPinger, SharedDriver},
    error::{Cause, Failure},
    hub::Hub,
    inbox::Inbox,
    link::{Launch, Link, lock},
    moment::Clock,
    spawn::Spawner,
};

/// What all clones of a layer share.
pub(crate) struct Fleets {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) spawner: Spawner,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// One a runtime; with an executor, also one outside of any.
    fleets: Vec<(Option<runtime::Id>, Arc<Fleet>)>,
    /// Whoever is wrapped outside of a runtime, until one of them is polled inside.
    strays: Option<Arc<Strays>>,
}

/// Connections that have one driver: while there are any, it runs.
pub(crate) struct Fleet {
    pub(crate) hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    arrivals: Arc<Arrivals<Arrival<BoxPinger>>>,
    spawner: Spawner,
}

/// Connections that were wrapped outside of any runtime. They join one fleet, all the same.
pub(crate) struct Strays {
    pub(crate) hub: Arc<Hub>,
    fleet: OnceLock<Arc<Fleet>>,
}

impl Fleets {
    pub(crate) fn new(config: Arc<Config>, spawner: Spawner) -> Fleets {
        Fleets {
            config,
            clock: Clock::start(),
            spawner,
            known: Mutex::default(),
        }
    }

    /// The fleet of the runtime around.
    pub(crate) fn here(&self) -> Arc<Fleet> {
        let runtime = runtime::Handle::try_current().ok().map(|here| here.id());
        let fleets = &mut lock(&self.known).fleets;
        if let Some((_, fleet)) = fleets.iter().find(|(id, _)| *id == runtime) {
            return Arc::clone(fleet);
        }
        // Runtimes come and go; so do their fleets.
        fleets.retain(|(_, fleet)| fleet.arrivals.is_running());
        let inbox = Arc::new(Inbox::new());
        let hub = Hub::new(Arc::clone(&self.config), self.clock, Arc::clone(&inbox));
        let fleet = Arc::new(Fleet {
            hub: Arc::new(hub),
            inbox,
            arrivals: Arc::new(Arrivals::new()),
            spawner: self.spawner.clone(),
        });
        fleets.push((runtime, Arc::clone(&fleet)));
        fleet
    }

    pub(crate) fn strays(&self) -> Arc<Strays> {
        let strays = &mut lock(&self.known).strays;
        let strays = strays.get_or_insert_with(|| {
            let hub = Hub::without_driver(Arc::clone(&self.config), self.clock);
            Arc::new(Strays {
                hub: Arc::new(hub),
                fleet: OnceLock::new(),
            })
        });
        Arc::clone(strays)
    }

    /// What is to be done with a stray once it is polled.
    pub(crate) fn launch(self: &Arc<Self>, strays: Arc<Strays>, pinger: BoxPinger) -> Launch {
        let fleets = Arc::clone(self);
        Box::new(move |link| {
            if !fleets.spawner.is_here() {
                // Without a runtime nobody can watch it.
                link.end(Cause::new(Failure::MonitorGone));
                return;
            }
            let fleet = strays.fleet.get_or_init(|| fleets.here());
            strays.hub.have_driver(&fleet.inbox);
            fleets.let_go(&strays);
            fleet.watch(link, pinger);
        })
    }

    /// Those who come after belong to whatever runtime one of them is polled in.
    fn let_go(&self, strays: &Arc<Strays>) {
        let mut known = lock(&self.known);
        if known
            .strays
            .as_ref()
            .is_some_and(|s| Arc::ptr_eq(s, strays))
        {
            let strays = mem::take(&mut known.strays);
            drop(known);
            drop(strays);
        }
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
            self.hub.clock,
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
