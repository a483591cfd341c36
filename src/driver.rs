//! Joins connections' machines with time, pings and wakers.

mod arena;
mod arrivals;
mod faults;
mod pace;
mod pinger;
mod places;
mod shared;
mod timers;
mod turns;
mod watch;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

pub(crate) use arrivals::Arrivals;
#[cfg(any(feature = "h2-io", feature = "transport"))]
pub(crate) use pinger::Pinger;
pub(crate) use pinger::{BoxPinger, Pinned};
pub(crate) use shared::{Arrival, SharedDriver};

use crate::{inbox::Inbox, link::Link, ping::Ping};

/// Watches one connection: makes its pings and ends it when a limit runs out.
///
/// [`HeartbeatLayer::layer`](crate::HeartbeatLayer) spawns one for all its connections by itself;
/// [`pair`](crate::HeartbeatLayer::pair) hands out one for one connection. It completes when the
/// connection has ended, or when its last user is gone.
///
/// It runs in a tokio runtime.
///
/// # Panics
///
/// When it is polled in a runtime whose time is not enabled. Where the driver was spawned by the
/// layer, the users of the connection see that as
/// [`Failure::MonitorGone`](crate::Failure::MonitorGone).
///
/// # Cancel safety
///
/// Dropping it ends the connection with [`Failure::MonitorGone`](crate::Failure::MonitorGone):
/// nobody would watch it any more.
#[must_use = "a connection is watched only while its driver is polled"]
pub struct Driver<P: Ping> {
    driver: SharedDriver<Pinned<P>>,
    link: Arc<Link>,
}

impl<P: Ping> Driver<P> {
    pub(crate) fn new(link: Arc<Link>, inbox: Arc<Inbox>, ping: Option<P>) -> Self {
        let arrivals = Arc::new(Arrivals::new());
        let running = arrivals.join((Arc::clone(&link), Pinned::new(ping)));
        debug_assert!(!running);
        let config = Arc::clone(&link.hub.config);
        Driver {
            driver: SharedDriver::new(config, link.hub.clock(), inbox, arrivals),
            link,
        }
    }
}

impl<P: Ping> Future for Driver<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.driver).poll(cx)
    }
}

/// Nothing in it is pinned but what is boxed.
impl<P: Ping> Unpin for Driver<P> {}

impl<P: Ping> fmt::Debug for Driver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
