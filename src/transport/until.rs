//! What ends a connection from outside.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

/// A future that is only ever polled through `&mut`; the lock makes it `Sync`.
pub(super) struct Until(Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Until {
    pub(super) fn new(future: impl Future<Output = ()> + Send + 'static) -> Until {
        Until(Mutex::new(Box::pin(future)))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let future = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        future.as_mut().poll(cx)
    }
}
