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
    /// Where nobody has the connection's future.
    alone: Option<Box<Alone>>,
    protocol: Protocol,
    /// Whether the last write was left pending.
    is_blocked: bool,
    /// Whether the IO ended by itself.
    has_ended: bool,
}

struct Alone {
    watch: Watch,
    /// How the write was asked for that is left pending. TLS writers insist that it comes again as it was.
    owed: Option<Owed>,
    /// Whether something was read and nothing written since: over HTTP/1 a request that has begun.
    owes_answer: bool,
    /// Whether the reader waits, and looks into the IO before the next verdict.
    reader_waits: bool,
    /// Whether the reader is told that nothing more comes.
    is_at_end: bool,
    /// Whether it was shut down on this side.
    is_shut: bool,
}

#[derive(Clone, Copy)]
enum Owed {
    Whole,
    /// Cut where a frame of ours has its place.
    Cut {
        at: usize,
    },
}

impl Wire {
    /// Of a connection whose future is at hand, and does what is due.
    pub(super) fn driven(shared: Arc<Shared>) -> Wire {
        Wire {
            shared,
            alone: None,
            protocol: Protocol::Unknown,
            is_blocked: false,
            has_ended: false,
        }
    }

    /// Of a connection that nobody drives but its own reads and writes.
    pub(super) fn alone(shared: Arc<Shared>) -> Wire {
        let mut wire = Wire::driven(Arc::clone(&shared));
        wire.alone = Some(Box::new(Alone {
            watch: Watch::new(shared),
            owed: None,
            owes_answer: false,
            reader_waits: false,
            is_at_end: false,
            is_shut: false,
        }));
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
        if self.alone.as_ref().is_some_and(|alone| alone.is_at_end) {
            return Poll::Ready(Ok(()));
        }
        let (before, is_asked) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = loop {
            let read = io.as_mut().poll_read(cx, buffer);
            if buffer.filled().len() == before || self.shared.ended().is_some() {
                break read;
            }
            let kept = self.read(&mut buffer.filled_mut()[before..]);
            buffer.set_filled(before + kept);
            // No bytes are the end for whoever reads.
            if kept > 0 {
                break read;
            }
        };
        if let Some(alone) = &mut self.alone {
            alone.reader_waits = read.is_pending();
        }
        match read {
            Poll::Ready(Ok(())) => {
                self.has_ended |= is_asked && buffer.filled().len() == before;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error))),
            Poll::Pending => {
                if let Poll::Ready(error) = self.pend(Lane::Read, cx) {
                    return Poll::Ready(Err(error));
                }
                if self.is_draining() {
                    self.poll_leave(io)
                } else {
                    Poll::Pending
                }
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
        let goodbye = self.goodbye();
        let room = self.poll_goodbye(goodbye, io.as_mut());
        let has_room = room.is_ready();
        let owed = match self.alone.as_ref().and_then(|alone| alone.owed) {
            Some(owed) => owed,
            None if goodbye == Goodbye::Nothing => Owed::Whole,
            None => {
                let gap = self.protocol.next_gap(goodbye, slices);
                gap.map_or(Owed::Whole, |at| Owed::Cut { at })
            }
        };
        let written = self.writing(
            cx,
            |cx| {
                ready!(room)?;
                match (owed, slices) {
                    (Owed::Whole, [one]) => io.poll_write(cx, one),
                    (Owed::Whole, many) => io.poll_write_vectored(cx, many),
                    (Owed::Cut { at }, many) => io.poll_write(cx, first(many, at)),
                }
            },
            |wire, &written| wire.wrote(slices, written),
        );
        if has_room && let Some(alone) = &mut self.alone {
            alone.owed = written.is_pending().then_some(owed);
        }
        written
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
        let room = self.poll_goodbye(self.goodbye(), io.as_mut());
        let flushed = self.writing(
            cx,
            |cx| {
                ready!(room)?;
                io.poll_flush(cx)
            },
            |wire, ()| wire.flushed(),
        );
        // Under a request whose body nobody takes, HTTP/1 neither reads nor writes, but it flushes. h2 flushes before it
        // reads what may refute a verdict.
        let reads_next = |alone: &Alone| alone.reader_waits && self.protocol.is_http2();
        if let Poll::Ready(Ok(())) = flushed
            && self
                .alone
                .as_deref()
                .is_some_and(|alone| !reads_next(alone))
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
        if let Some(alone) = &mut self.alone {
            alone.is_shut = true;
        }
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

    /// Returns how many of the bytes are left for whoever reads.
    fn read(&mut self, bytes: &mut [u8]) -> usize {
        if let Some(alone) = &mut self.alone {
            alone.owes_answer = true;
        }
        let kept = self.protocol.read(bytes, &self.shared);
        if self.shared.hears() {
            self.shared.tell(|machine, now| machine.on_read(now));
        }
        kept
    }

    fn wrote(&mut self, slices: &[IoSlice<'_>], written: usize) {
        let was_blocked = std::mem::take(&mut self.is_blocked);
        if let Some(alone) = &mut self.alone {
            alone.owes_answer = false;
        }
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
                _ => Reason::Dead,
            });
        }
        error
    }

    /// The IO is pending: does what is due, if that is done here, and fails if that is the end.
    fn pend(&mut self, lane: Lane, cx: &Context<'_>) -> Poll<io::Error> {
        let Some(alone) = &mut self.alone else {
            return Poll::Pending;
        };
        while let Poll::Ready(action) = alone.watch.poll(lane, cx) {
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

    /// Ends the reads as soon as nothing is in flight, or begun: HTTP/1's way to say that no more requests are taken, and
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
        let Some(alone) = &mut self.alone else {
            return Poll::Pending;
        };
        let is_told = self.protocol.has_said_goodbye();
        alone.is_at_end = is_idle && is_told.unwrap_or(!alone.owes_answer);
        if alone.is_at_end {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// What the client is to know by now.
    fn goodbye(&self) -> Goodbye {
        let is_shut = self.alone.as_ref().is_some_and(|alone| alone.is_shut);
        if !is_shut && !self.has_ended && self.is_draining() {
            Goodbye::Soon
        } else {
            Goodbye::Nothing
        }
    }

    /// Only where nobody else drains it.
    fn is_draining(&self) -> bool {
        // The look at the flag is the cheaper one.
        self.alone.is_some()
            && self.shared.leaves()
            && matches!(self.shared.state(), State::Draining { .. })
    }

    /// Ready where nothing of ours is half written. Only here, where nobody else says goodbye.
    fn poll_goodbye<T>(&mut self, goodbye: Goodbye, mut io: Pin<&mut T>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        let Some(alone) = &self.alone else {
            return Poll::Ready(Ok(()));
        };
        // Whichever lane asked may never come back.
        let waker = Waker::from(Arc::clone(&self.shared));
        let mut cx = Context::from_waker(&waker);
        let is_free = !self.is_blocked && alone.owed.is_none();
        let owned = self.protocol.owns_the_io();
        let polled = self
            .protocol
            .poll_goodbye(goodbye, is_free, &mut io, &mut cx);
        if owned && !self.protocol.owns_the_io() {
            // The other lane may have waited for its end.
            self.shared.wake_lanes();
        }
        polled
    }

    /// Why nothing more is read or written, where that is said here.
    fn cut(&self) -> Option<io::Error> {
        self.alone.as_ref()?;
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

/// The first that has something, or a part of it: a short write like any other.
fn first<'a>(slices: &'a [IoSlice<'_>], length: usize) -> &'a [u8] {
    let first = slices.iter().find(|slice| !slice.is_empty());
    first.map_or(&[], |slice| &slice[..length.min(slice.len())])
}

fn cut_for(reason: Reason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, reason.to_string())
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.lose_io();
        if self.alone.is_some() {
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
