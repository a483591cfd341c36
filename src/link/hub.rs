//! What connections know of their layer, and of the driver that watches them.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::Observer;
use crate::{config::Config, inbox::Inbox, moment::Clock};

/// The settings of a layer, and the clock and the inbox of a driver.
pub(crate) struct Hub {
    pub(crate) config: Arc<Config>,
    pub(super) observer: Option<Observer>,
    /// Tells the time until the driver's does.
    own: Clock,
    driver: OnceLock<(Arc<Inbox>, Clock)>,
}

impl Hub {
    /// For connections that nobody watches yet.
    pub(crate) fn without_driver(config: Arc<Config>) -> Hub {
        Hub {
            config,
            observer: None,
            own: Clock::start(),
            driver: OnceLock::new(),
        }
    }

    pub(crate) fn new(config: Arc<Config>, inbox: &Arc<Inbox>) -> Hub {
        let hub = Hub::without_driver(config);
        hub.have_driver(inbox, hub.own);
        hub
    }

    pub(crate) fn observed(self, observer: Option<Observer>) -> Hub {
        Hub { observer, ..self }
    }

    /// Only the first call counts.
    pub(crate) fn have_driver(&self, inbox: &Arc<Inbox>, clock: Clock) {
        self.driver.get_or_init(|| (Arc::clone(inbox), clock));
    }

    pub(crate) fn clock(&self) -> Clock {
        self.driver.get().map_or(self.own, |(_, clock)| *clock)
    }

    pub(crate) fn inbox(&self) -> Option<&Inbox> {
        self.driver.get().map(|(inbox, _)| &**inbox)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
