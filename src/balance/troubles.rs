//! What kept endpoints away.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use crate::{link::lock, ready_limit::Reason};

/// Tells why there may be no endpoint: a [`HeartbeatError`](crate::HeartbeatError) if a connection ended, a
/// [`ReconnectError`](crate::reconnect::ReconnectError) if none came about.
///
/// # Clone
///
/// Clones look at the same endpoints.
#[derive(Clone, Default)]
pub struct Troubles {
    last: Arc<Mutex<Option<Reason>>>,
}

impl Troubles {
    /// Returns what happened last; `None` if a connection came about since.
    #[must_use]
    pub fn last(&self) -> Option<Reason> {
        lock(&self.last).clone()
    }

    pub(super) fn set(&self, trouble: Option<Reason>) {
        let before = std::mem::replace(&mut *lock(&self.last), trouble);
        // An error of somebody else's, so not under the lock.
        drop(before);
    }
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Troubles").field(&self.last()).finish()
    }
}
