//! Pings beside the requests of a connection.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{service::Mux, shared::Shared};
use crate::ping::{Ping, PingError, PingSource};

/// Pings with the protocol's own ping, written between the requests by the task that runs the connection.
///
/// It waits behind no request, neither in the queue nor with the peer, and is out when the transport was flushed. Its pong is
/// what the [`Protocol`](crate::transport::Protocol) takes for one, with its nonce; a later pong answers earlier pings.
///
/// It is for one heartbeat a connection: two around clones of a [`Mux`] would take each other's pongs. What is cloned is the
/// [`Heartbeat`](crate::Heartbeat).
///
/// ```
/// use tower_heartbeat::{Config, HeartbeatLayer, mux};
///
/// let layer = HeartbeatLayer::new(Config::default(), mux::ping());
/// # let _: HeartbeatLayer<_> = layer;
/// ```
#[must_use]
pub fn ping() -> MuxSource {
    MuxSource
}

/// The source of [`ping`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct MuxSource;

impl<M> PingSource<Mux<M>> for MuxSource {
    type Ping = MuxPing;

    fn attach(&self, mux: &Mux<M>) -> Option<MuxPing> {
        Some(MuxPing(Arc::clone(mux.shared())))
    }
}

/// The pings of one connection, made by [`ping`]. It does not keep the connection alive.
pub struct MuxPing(Arc<Shared>);

impl Ping for MuxPing {
    type Pong = MuxPong;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        let slot = &self.0.slot;
        slot.register(cx.waker());
        if slot.want() {
            self.0.wake_task();
        }
        if slot.is_out() {
            return Poll::Ready(Ok(()));
        }
        poll_ended(&self.0)
    }

    fn ping(&mut self) -> MuxPong {
        MuxPong(Arc::clone(&self.0))
    }

    fn call_off(&mut self) {
        self.0.slot.call_off();
    }
}

impl Drop for MuxPing {
    fn drop(&mut self) {
        self.call_off();
    }
}

/// The answer to a ping of [`ping`].
#[must_use = "futures do nothing unless polled"]
pub struct MuxPong(Arc<Shared>);

impl Future for MuxPong {
    type Output = Result<(), PingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = &self.0.slot;
        slot.register(cx.waker());
        if slot.take_answer() {
            return Poll::Ready(Ok(()));
        }
        poll_ended(&self.0)
    }
}

fn poll_ended(shared: &Shared) -> Poll<Result<(), PingError>> {
    match shared.ended() {
        Some(error) => Poll::Ready(Err(PingError::new(error.clone()))),
        None => Poll::Pending,
    }
}

impl fmt::Debug for MuxPing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxPing").finish_non_exhaustive()
    }
}

impl fmt::Debug for MuxPong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxPong").finish_non_exhaustive()
    }
}
