//! The pings of one connection as a driver holds them.

use std::{
    any::Any,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use crate::ping::{Ping, PingError};

/// A [`Ping`] and its pong, which a driver of many connections holds without their types.
///
/// A panic in it is a failed ping: the driver, and every other connection, outlive it.
pub(crate) trait Pinger {
    /// Brings the ping out as far as it goes now.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>>;

    /// The answer to the ping that is out.
    fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>>;

    /// How many requests, a ping included, the peer works on at a time.
    fn max_concurrent_requests(&self) -> Option<NonZeroU32>;

    /// Whether a pong is awaited.
    fn is_out(&self) -> bool;

    /// Gives up the ping that is not out yet.
    fn call_off(&mut self);

    /// Gives up the pings altogether, and what they hold of the connection.
    fn lose(&mut self);
}

pub(crate) type BoxPinger = Box<dyn Pinger + Send>;

pub(crate) struct Pinned<P: Ping> {
    ping: Option<P>,
    /// Boxed once a ping: a connection then needs no pinning, and rests small.
    pong: Option<Pin<Box<P::Pong>>>,
}

impl<P: Ping> Pinned<P> {
    pub(crate) fn new(ping: Option<P>) -> Self {
        Pinned { ping, pong: None }
    }
}

impl<P: Ping> Pinger for Pinned<P> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        let Some(ping) = &mut self.ping else {
            return Poll::Pending;
        };
        let sent = caught(|| {
            ping.poll_ready(cx)
                .map_ok(|()| self.pong = Some(Box::pin(ping.ping())))
        });
        match sent {
            Ok(sent) => sent,
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }

    fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        let Some(pong) = &mut self.pong else {
            return Poll::Pending;
        };
        let pong = match caught(|| pong.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(pong)) => pong,
            Err(panicked) => Err(panicked),
        };
        let dropped = caught(|| self.pong = None);
        Poll::Ready(pong.and(dropped))
    }

    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        // Not caught here: a panic ends the look, and with it this connection.
        self.ping.as_ref()?.max_concurrent_requests()
    }

    fn is_out(&self) -> bool {
        self.pong.is_some()
    }

    fn call_off(&mut self) {
        // A panic here has nothing to answer for; the next ping would show it again.
        let _panicked = caught(|| {
            self.pong = None;
            if let Some(ping) = &mut self.ping {
                ping.call_off();
            }
        });
    }

    fn lose(&mut self) {
        // Each by itself: a panic in one destructor must not keep the other.
        let _panicked = caught(|| self.pong = None);
        let _panicked = caught(|| self.ping = None);
    }
}

impl<G> Pinger for Box<G>
where
    G: Pinger + ?Sized,
{
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        (**self).poll_send(cx)
    }

    fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        (**self).poll_pong(cx)
    }

    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        (**self).max_concurrent_requests()
    }

    fn is_out(&self) -> bool {
        (**self).is_out()
    }

    fn call_off(&mut self) {
        (**self).call_off();
    }

    fn lose(&mut self) {
        (**self).lose();
    }
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, PingError> {
    let caught: Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(work));
    caught.map_err(|panic| PingError::panicked(&*panic))
}
