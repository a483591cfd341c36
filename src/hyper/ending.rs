//! How a connection's life and its heartbeat's end together.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use super::wire::Wire;
use crate::{error::HeartbeatError, link::Link};

/// What `wire` hears is evidence for `link`; the end of `link` closes the IO, but for one that may
/// say goodbye.
pub(super) fn watch(wire: &Arc<Wire>, link: &Arc<Link>) {
    wire.watch(link);
    let wire = Arc::clone(wire);
    link.on_end(Box::new(move |error: &HeartbeatError| {
        if !error.failure().allows_goodbye() {
            wire.cut(error);
        }
        wire.wake_waiters();
    }));
}

/// The output of `first`, or `None` once `second` is done before it.
pub(super) async fn until<F, G>(first: F, second: G) -> Option<F::Output>
where
    F: Future,
    G: Future,
{
    let mut first = pin!(first);
    let mut second = pin!(second);
    poll_fn(|cx| {
        if let Poll::Ready(output) = first.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        second.as_mut().poll(cx).map(|_| None)
    })
    .await
}

pub(super) const GOODBYE: Duration = Duration::from_millis(500);
