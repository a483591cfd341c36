//! What the bytes of one connection tell its machine.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    phase::{Action, State},
    reason::Reason,
    shared::Shared,
    watch::Watch,
};
use crate::{error::HeartbeatError, h2_io::Spectator, lanes::Lane};

pub(super) struct Wire {
    shared: Arc<Shared>,
    /// Polled here where nobody has the connection's future.
    watch: Option<Watch>,
    speaks: Speaks,
    /// Whether the last write was left pending.
    is_blocked: bool,
    /// Whether the reader is told that nothing more comes.
    is_at_end: bool,
    /// Whether the IO ended by itself, or was shut down.
    has_ended: bool,
}

enum Speaks {
    Nothing,
    Http2(Box<Spectator>),
    Other,
}

impl Wire {
    /// Of a connection whose future is at hand, and does what is due.
    pub(super) fn driven(shared: Arc<Shared>) -> Wire {
        Wire {
            shared,
            watch: None,
            speaks: Speaks::Nothing,
            is_blocked: false,
            is_at_end: false,
            has_ended: false,
        }
    }

    /// Of a connection that nobody drives but its own reads and writes.
    pub(super) fn alone(shared: Arc<Shared>) -> Wire {
        let mut wire = Wire::driven(Arc::clone(&shared));
        wire.watch = Some(Watch::new(shared));
        wire
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn poll_read<T>(
        &mut self,
        io: Pin<&mut T>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead,
    {
        if let Some(error) = self.cut() {
            return Poll::Ready(Err(error));
        }
        if self.is_at_end {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match io.poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = &buffer.filled()[before..];
                if bytes.is_empty() {
                    self.has_ended = true;
                } else if self.shared.ended().is_none() {
                    self.read(bytes);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error))),
            Poll::Pending => {
                if let Poll::Ready(error) = self.pend(Lane::Read, cx) {
                    return Poll::Ready(Err(error));
                }
                // HTTP/1's way to say that no more requests are taken, and HTTP/2's last resort.
                self.is_at_end = self.watch.is_some() && self.may_leave();
                if self.is_at_end {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }
        }
    }

    pub(super) fn poll_write<T>(
        &mut self,
        io: Pin<&mut T>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>
    where
        T: AsyncWrite,
    {
        self.writing(
            cx,
            |cx| match slices {
                [one] => io.poll_write(cx, one),
                many => io.poll_write_vectored(cx, many),
            },
            |wire, &written| wire.wrote(slices, written),
        )
    }

    pub(super) fn poll_flush<T>(
        &mut self,
        io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        self.writing(cx, |cx| io.poll_flush(cx), |wire, ()| wire.flushed())
    }

    pub(super) fn poll_shutdown<T>(
        &mut self,
        io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        // A frozen client must not keep a connection that is cut from being closed.
        if self.cut().is_some() {
            return Poll::Ready(Ok(()));
        }
        self.has_ended = true;
        self.writing(cx, |cx| io.poll_shutdown(cx), |wire, ()| wire.flushed())
    }

    fn writing<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<R>>,
        done: impl FnOnce(&mut Wire, &R),
    ) -> Poll<io::Result<R>> {
        if let Some(error) = self.cut() {
            return Poll::Ready(Err(error));
        }
        match poll(cx) {
            Poll::Ready(Ok(result)) => {
                if self.shared.ended().is_none() {
                    done(self, &result);
                }
                Poll::Ready(Ok(result))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error))),
            Poll::Pending => {
                if !std::mem::replace(&mut self.is_blocked, true) {
                    self.shared.tell(|machine, now| machine.on_blocked(now));
                }
                self.pend(Lane::Write, cx).map(Err)
            }
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        if let Speaks::Nothing = self.speaks {
            self.speaks = Speaks::Http2(Box::new(Spectator::server()));
        }
        if let Speaks::Http2(spectator) = &mut self.speaks {
            let before = (spectator.is_opened(), spectator.has_streams());
            spectator.read(bytes);
            let after = (spectator.is_opened(), spectator.has_streams());
            if spectator.is_foreign() {
                self.speak_otherwise();
            } else {
                if before.0 != after.0 {
                    self.shared.open();
                }
                self.tell_streams(before.1, after.1);
            }
        }
        if self.shared.hears() {
            self.shared.tell(|machine, now| machine.on_read(now));
        }
    }

    fn wrote(&mut self, slices: &[IoSlice<'_>], written: usize) {
        let was_blocked = std::mem::take(&mut self.is_blocked);
        let (mut progress, mut counts) = (written > 0, false);
        if let Speaks::Http2(spectator) = &mut self.speaks {
            let before = spectator.has_streams();
            progress = spectator.wrote(slices, written);
            // Flow control holds writes back of which no IO knows.
            counts = progress && self.shared.limits().write_timeout.is_some();
            let after = spectator.has_streams();
            if spectator.is_foreign() {
                self.speak_otherwise();
            } else {
                self.tell_streams(before, after);
            }
        }
        // What is written at once is written as its body is taken.
        if was_blocked || counts {
            self.shared
                .tell(|machine, now| machine.on_written(progress, now));
        }
    }

    fn flushed(&mut self) {
        if std::mem::take(&mut self.is_blocked) {
            self.shared
                .tell(|machine, now| machine.on_written(false, now));
        }
    }

    fn tell_streams(&self, before: bool, after: bool) {
        if before != after {
            self.shared
                .tell(|machine, now| machine.on_streams(after, now));
        }
    }

    /// What is open then, nobody can tell.
    fn speak_otherwise(&mut self) {
        self.speaks = Speaks::Other;
        self.shared
            .tell(|machine, now| machine.on_streams(false, now));
    }

    /// A wrapper below, such as `h2_io`'s, may know that the client is gone.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.has_ended = true;
        if HeartbeatError::find(&error).is_some() {
            self.shared.force(Reason::Dead);
        }
        error
    }

    /// The IO is pending: does what is due, if that is done here, and fails if that is the end.
    fn pend(&mut self, lane: Lane, cx: &Context<'_>) -> Poll<io::Error> {
        let Some(watch) = &mut self.watch else {
            return Poll::Pending;
        };
        while let Poll::Ready(action) = watch.poll(lane, cx) {
            match action {
                Action::Drain(_) => {}
                Action::Force(reason) => {
                    // The other lane has to hear it as well.
                    self.shared.wake_lanes();
                    return Poll::Ready(cut_for(reason));
                }
            }
        }
        Poll::Pending
    }

    fn may_leave(&self) -> bool {
        self.shared.look(|machine, _| {
            matches!(machine.state(), State::Draining { .. }) && machine.idle_since().is_some()
        })
    }

    /// Why nothing more is read or written, where that is said here.
    fn cut(&self) -> Option<io::Error> {
        self.watch.as_ref()?;
        match self.shared.state() {
            State::Over {
                reason,
                forced: true,
            } => Some(cut_for(reason)),
            State::Opening { .. }
            | State::Serving
            | State::Draining { .. }
            | State::Over { forced: false, .. } => None,
        }
    }
}

fn cut_for(reason: Reason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, reason.to_string())
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.lose_io();
        if self.watch.is_some() {
            let reason = if self.has_ended {
                Reason::ClientClosed
            } else {
                Reason::Closed
            };
            self.shared.end(reason, None);
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
