//! What the bytes of one connection tell its machine.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    phase::{Action, State},
    protocol::Protocol,
    reason::Reason,
    shared::Shared,
    watch::Watch,
};
use crate::{
    error::{Failure, HeartbeatError},
    h2_io::Goodbye,
    lanes::Lane,
};

pub(super) struct Wire {
    shared: Arc<Shared>,
    /// Polled here where nobody has the connection's future.
    watch: Option<Watch>,
    protocol: Protocol,
    /// Whether the last write was left pending.
    is_blocked: bool,
    /// Whether the reader is told that nothing more comes.
    is_at_end: bool,
    /// Whether the IO ended by itself, or was shut down.
    has_ended: bool,
}

impl Wire {
    /// Of a connection whose future is at hand, and does what is due.
    pub(super) fn driven(shared: Arc<Shared>) -> Wire {
        Wire {
            shared,
            watch: None,
            protocol: Protocol::Unknown,
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
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead + AsyncWrite,
    {
        if let Some(error) = self.cut() {
            return Poll::Ready(Err(error));
        }
        if self.is_at_end {
            return Poll::Ready(Ok(()));
        }
        let (before, is_asked) = (buffer.filled().len(), buffer.remaining() > 0);
        match io.as_mut().poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = &buffer.filled()[before..];
                if bytes.is_empty() {
                    self.has_ended |= is_asked;
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
                if self.watch.is_none() || !self.is_draining() {
                    return Poll::Pending;
                }
                self.poll_leave(io)
            }
        }
    }

    pub(super) fn poll_write<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>
    where
        T: AsyncWrite,
    {
        let room = self.poll_goodbye(Goodbye::Nothing, io.as_mut());
        self.writing(
            cx,
            |cx| {
                ready!(room)?;
                match slices {
                    [one] => io.poll_write(cx, one),
                    many => io.poll_write_vectored(cx, many),
                }
            },
            |wire, &written| wire.wrote(slices, written),
        )
    }

    pub(super) fn poll_flush<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        // What was written is whole frames, mostly, so this is where a client can be told.
        let goodbye = if self.watch.is_some() && self.is_draining() {
            Goodbye::Soon
        } else {
            Goodbye::Nothing
        };
        let room = self.poll_goodbye(goodbye, io.as_mut());
        let flushed = self.writing(
            cx,
            |cx| {
                ready!(room)?;
                io.poll_flush(cx)
            },
            |wire, ()| wire.flushed(),
        );
        // Under a request whose body nobody takes, hyper neither reads nor writes, but it flushes.
        if let Poll::Ready(Ok(())) = flushed
            && let Poll::Ready(error) = self.pend(Lane::Write, cx)
        {
            return Poll::Ready(Err(error));
        }
        flushed
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
        self.protocol.read(bytes, &self.shared);
        if self.shared.hears() {
            self.shared.tell(|machine, now| machine.on_read(now));
        }
    }

    fn wrote(&mut self, slices: &[IoSlice<'_>], written: usize) {
        let was_blocked = std::mem::take(&mut self.is_blocked);
        let of_response = self.protocol.wrote(slices, written, &self.shared);
        // What HTTP/1 writes at once is written as its body is taken. HTTP/2's flow control holds writes back of which no
        // IO knows.
        let is_http2 = matches!(self.protocol, Protocol::Http2(_));
        let counts = is_http2 && self.shared.limits().write_timeout.is_some();
        if was_blocked || counts {
            self.shared
                .tell(|machine, now| machine.on_written(of_response, now));
        }
    }

    fn flushed(&mut self) {
        if std::mem::take(&mut self.is_blocked) {
            self.shared
                .tell(|machine, now| machine.on_written(false, now));
        }
    }

    /// A wrapper below, such as `h2_io`'s, may know that the client is gone.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.has_ended = true;
        if let Some(error) = HeartbeatError::find(&error) {
            self.shared.force(match error.failure() {
                Failure::IdleTimeout => Reason::Idle,
                Failure::WriteTimeout => Reason::Stalled,
                Failure::Closed => Reason::Closed,
                Failure::PingFlood => Reason::Policed,
                _ => Reason::Dead,
            });
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

    /// Ends the reads as soon as nothing is in flight: HTTP/1's way to say that no more requests are taken, and
    /// after a GOAWAY HTTP/2's.
    fn poll_leave<T>(&mut self, io: Pin<&mut T>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        let is_idle = self
            .shared
            .look(|machine, _| machine.idle_since().is_some());
        let goodbye = if is_idle { Goodbye::Now } else { Goodbye::Soon };
        ready!(self.poll_goodbye(goodbye, io))?;
        self.is_at_end = is_idle;
        if is_idle {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn is_draining(&self) -> bool {
        // The look at the flag is the cheaper one.
        self.shared.leaves() && matches!(self.shared.state(), State::Draining { .. })
    }

    /// Ready where nothing of ours is half written. Only here, where nobody else says goodbye.
    fn poll_goodbye<T>(&mut self, goodbye: Goodbye, mut io: Pin<&mut T>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        if self.watch.is_none() {
            return Poll::Ready(Ok(()));
        }
        // Whichever lane asked may never come back.
        let waker = Waker::from(Arc::clone(&self.shared));
        let mut cx = Context::from_waker(&waker);
        self.protocol
            .poll_goodbye(goodbye, !self.is_blocked, &mut io, &mut cx)
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
            | State::LastCall { .. }
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
