//! What the bytes of one connection tell its machine.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    alone::{Alone, Owed},
    protocol::Protocol,
    reason::Reason,
    shared::Shared,
};
use crate::{
    error::{Failure, HeartbeatError},
    lanes::Lane,
};

pub(super) struct Wire {
    shared: Arc<Shared>,
    /// Where nobody has the connection's future.
    alone: Option<Box<Alone>>,
    protocol: Protocol,
    /// Whether the last write was left pending.
    is_blocked: bool,
    /// Whether the IO ended by itself, or was shut down.
    has_ended: bool,
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
        wire.alone = Some(Box::new(Alone::new(shared)));
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
                if is_asked && buffer.filled().len() == before {
                    self.end();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error))),
            Poll::Pending => {
                if let Poll::Ready(error) = self.pend(Lane::Read, cx) {
                    return Poll::Ready(Err(error));
                }
                match &mut self.alone {
                    Some(alone) if alone.is_draining() => {
                        alone.poll_leave(self.is_blocked, &mut self.protocol, io)
                    }
                    Some(_) | None => Poll::Pending,
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
        let room = self.poll_room(io.as_mut());
        let has_room = room.is_ready();
        let owed = match &self.alone {
            Some(alone) => alone.next_write(&self.protocol, slices),
            None => Owed::Whole,
        };
        let written = self.writing(
            cx,
            |cx| {
                ready!(room)?;
                owed.poll_write(io, cx, slices)
            },
            |wire, &written| wire.wrote(slices, written),
        );
        if has_room && let Some(alone) = &mut self.alone {
            alone.on_write(owed, written.is_pending());
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
        let room = self.poll_room(io.as_mut());
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
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        // A frozen client must not keep a connection that is cut from being closed.
        if self.cut().is_some() {
            return Poll::Ready(Ok(()));
        }
        // A client that says goodbye may be shut out before it closes.
        self.end();
        let room = self.poll_room(io.as_mut());
        self.writing(
            cx,
            |cx| {
                ready!(room)?;
                io.poll_shutdown(cx)
            },
            |wire, ()| wire.flushed(),
        )
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
        let counts = is_http2 && self.shared.watches_writes();
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

    fn end(&mut self) {
        self.has_ended = true;
        if let Some(alone) = &mut self.alone {
            alone.is_closing = true;
        }
    }

    /// A wrapper below, such as `h2_io`'s, may know that the client is gone.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.end();
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
        match &mut self.alone {
            Some(alone) => alone.poll_due(lane, cx),
            None => Poll::Pending,
        }
    }

    /// Ready where nothing of ours is half written.
    fn poll_room<T>(&mut self, io: Pin<&mut T>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        match &self.alone {
            Some(alone) => {
                alone.poll_goodbye(alone.goodbye(), self.is_blocked, &mut self.protocol, io)
            }
            None => Poll::Ready(Ok(())),
        }
    }

    /// Why nothing more is read or written, where that is said here.
    fn cut(&self) -> Option<io::Error> {
        self.alone.as_ref()?.cut()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.lose_io();
        if self.alone.is_some() {
            let reason = if self.has_ended || self.protocol.client_leaves() {
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
