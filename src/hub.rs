//! What the connections of one driver have in common.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{config::Config, inbox::Inbox, moment::Clock};

/// The settings and the clock of a layer, and the inbox of the driver that watches.
pub(crate) struct Hub {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    /// Not there while it isn't known which driver that will be.
    inbox: OnceLock<Arc<Inbox>>,
}

impl Hub {
    pub(crate) fn new(config: Arc<Config>, clock: Clock, inbox: Arc<Inbox>) -> Hub {
        Hub {
            config,
            clock,
            inbox: OnceLock::from(inbox),
        }
    }

    /// For connections that nobody watches yet.
    pub(crate) fn without_driver(config: Arc<Config>, clock: Clock) -> Hub {
        Hub {
            config,
            clock,
            inbox: OnceLock::new(),
        }
    }

    /// Only the first call counts.
    pub(crate) fn have_driver(&self, inbox: &Arc<Inbox>) {
        self.inbox.get_or_init(|| Arc::clone(inbox));
    }

    pub(crate) fn inbox(&self) -> Option<&Inbox> {
        self.inbox.get().map(|inbox| &**inbox)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
