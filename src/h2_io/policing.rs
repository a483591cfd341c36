//! Peers that count pings, and the intervals that they are granted (gRPC's proposal A8).

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::config::{Config, LONGEST};

/// The intervals of targets that have complained. Each target once, and only those.
#[derive(Debug, Default)]
pub(super) struct Policing {
    intervals: Mutex<HashMap<u64, Duration>>,
}

impl Policing {
    /// The settings of the next connection to `target`.
    pub(super) fn config_for(&self, target: Target, config: &Arc<Config>) -> Arc<Config> {
        let intervals = self
            .intervals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match intervals.get(&target.0) {
            Some(interval) => Arc::new(slower(config, *interval)),
            None => Arc::clone(config),
        }
    }

    fn complain(&self, target: Target, config: &Config) {
        let doubled = config.interval.saturating_mul(2).min(LONGEST);
        let mut intervals = self
            .intervals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Connections that were made together complain together; that is one complaint.
        let interval = intervals.entry(target.0).or_insert(doubled);
        *interval = doubled.max(*interval);
        tracing::warn!(interval = ?interval, "peer complains about pings");
    }
}

fn slower(config: &Config, interval: Duration) -> Config {
    let slower = Config {
        interval: config.interval.max(interval),
        ..*config
    };
    let first_ping = |config: &Config| config.interval.saturating_add(config.tick());
    let later = first_ping(&slower).saturating_sub(first_ping(config));
    Config {
        // As long after the ping as before, or each quiet peer would be suspect until its ping is due.
        suspect_after: config
            .suspect_after
            .map(|after| after.saturating_add(later)),
        ..slower
    }
}

/// Whom a connector connected to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target(u64);

impl Target {
    pub(super) fn of<T: Hash>(target: &T) -> Target {
        let mut hasher = DefaultHasher::new();
        target.hash(&mut hasher);
        Target(hasher.finish())
    }
}

/// Where a connection's peer may complain.
#[derive(Clone, Debug)]
pub(super) struct Complaints {
    about: Option<(Arc<Policing>, Target)>,
}

impl Complaints {
    /// Nobody makes another connection to that peer.
    pub(super) fn to_nobody() -> Complaints {
        Complaints { about: None }
    }

    pub(super) fn to(policing: &Arc<Policing>, target: Target) -> Complaints {
        Complaints {
            about: Some((Arc::clone(policing), target)),
        }
    }

    /// `config` is that of the connection on which it came.
    pub(super) fn file(&self, config: &Config) {
        if let Some((policing, target)) = &self.about {
            policing.complain(*target, config);
        }
    }
}
