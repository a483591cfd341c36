//! Frames of this side's own, between those of the upper layer.

use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::{Core, Shutdown, half::Half};
use crate::ping::PingError;

impl Core {
    /// Whether a frame waits for a place between others.
    pub(super) fn wants_gap(&self) -> bool {
        self.inline.slot().is_due() || self.dismissal.is_some()
    }

    /// Whether the lanes have to wait until a frame is written, or flushed if it is the last.
    pub(super) fn is_io_taken(&self) -> bool {
        let is_last_out = self.dismissal.as_ref().is_some_and(|last| last.is_begun());
        is_last_out || self.ping.as_ref().is_some_and(Half::owns_the_io)
    }

    /// Brings frames of this side's own out as far as they go.
    pub(super) fn pump<T>(&mut self, io: &mut T)
    where
        T: AsyncWrite + Unpin,
    {
        self.pump_ping(io);
        if self.dismissal.is_some() {
            self.pump_dismissal(io);
        }
    }

    fn pump_ping<T>(&mut self, io: &mut T)
    where
        T: AsyncWrite + Unpin,
    {
        if self.ping.is_none() && self.inline.slot().is_due() {
            if self.shutdown == Shutdown::Done {
                self.inline.slot().refuse(PingError::unsupported(
                    "connection was shut down for writing",
                ));
                self.watched.wake_driver();
            } else if self.may_begin() && self.dismissal.is_none() {
                self.ping = Some(Half::new(self.payloads.next_ping()));
            }
        }
        let Some(ping) = &mut self.ping else {
            return;
        };
        let mut cx = Context::from_waker(self.inline.waker());
        match ping.poll_out(io, &mut cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.ping = None;
                if self.inline.slot().send() {
                    self.watched.wake_driver();
                }
                // The writer may have waited for its end.
                self.inline.wake_lanes();
            }
            Poll::Ready(Err(error)) => {
                self.ping = None;
                // The reader goes on: there may be something to read before the end.
                self.watched.broke(&error);
                self.write_error = Some(error);
                self.inline.wake_lanes();
            }
        }
    }

    /// Whether a frame may be written here.
    pub(super) fn may_begin(&self) -> bool {
        self.shutdown == Shutdown::None
            && self.owed.is_none()
            && self.write_error.is_none()
            && self.outbound.is_gap()
    }
}
