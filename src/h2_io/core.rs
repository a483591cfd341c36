//! The heartbeat of one IO, without the IO.
//!
//! # Who polls what
//!
//! The driver is polled here, by whichever lane comes by after its alarm rang; so are the writing of
//! frames of this side's own (pings, and the GOAWAY that sends a peer off) and, where nobody reads, a
//! reading ahead. Whatever of the IO is polled for these is polled with the alarm, which wakes both lanes: the
//! one that asked may never come back. What a lane asks for itself is polled with that lane's own waker, unless a
//! ping waits for the same.
//!
//! # Writing
//!
//! | state | a lane writes | a ping is due |
//! |---|---|---|
//! | nothing half written | forwarded, cut at the next gap if a ping is due | written, if this is a gap |
//! | the IO left a lane's write pending | forwarded, neither cut shorter nor preceded | waits |
//! | a ping is half written | waits | goes on, then is flushed |
//!
//! The second row is TLS writers' rule: a write that was begun has to be repeated as it was.
//!
//! A GOAWAY is written as a ping is, but it is the last: from its first byte on lanes wait, until it is flushed and both
//! of them have the verdict.

mod dismissal;
pub(super) mod half;
mod intake;
mod own_frames;

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    dismissal::Dismissal,
    half::{Half, first, write},
};
use super::{
    Role,
    inbound::{Inbound, PING_LENGTH, Payloads},
    outbound::Outbound,
    streams::Streams,
    watched::Watched,
};
use crate::{
    dice::roll,
    inline::Inline,
    lanes::Lane,
    ping_policy::{PingPolicy, Police},
};

pub(super) struct Core {
    watched: Watched,
    inline: Inline,
    streams: Streams,
    outbound: Outbound,
    inbound: Inbound,
    payloads: Payloads,
    ping: Option<Half<PING_LENGTH>>,
    police: Option<Box<Police>>,
    dismissal: Option<Box<Dismissal>>,
    /// What the IO left pending of a lane's write.
    owed: Option<Owed>,
    /// What was read ahead, and what didn't fit.
    ahead: Vec<u8>,
    /// Errors that the lane whose they are has yet to see.
    read_error: Option<io::Error>,
    write_error: Option<io::Error>,
    shutdown: Shutdown,
}

/// No ping may begin any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shutdown {
    None,
    Begun,
    Done,
}

#[derive(Clone, Copy)]
enum Owed {
    Whole,
    Cut { at: usize },
}

impl Core {
    pub(super) fn new(role: Role, watched: Watched, inline: Inline) -> Core {
        Core {
            payloads: Payloads::new(roll()),
            watched,
            inline,
            streams: Streams::new(),
            outbound: Outbound::new(role),
            inbound: Inbound::new(role),
            ping: None,
            police: None,
            dismissal: None,
            owed: None,
            ahead: Vec::new(),
            read_error: None,
            write_error: None,
            shutdown: Shutdown::None,
        }
    }

    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(super) fn police(&mut self, policy: PingPolicy) {
        let clock = self.watched.link().hub.clock();
        self.police = Some(Box::new(Police::new(policy, clock)));
    }

    pub(super) fn poll_read<T>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        // What came in before the end is handed on.
        if self.ahead.is_empty()
            && let Some(error) = self.verdict()
        {
            return Poll::Ready(Err(error));
        }
        let read = self.read(io, cx, buffer);
        if read.is_pending() {
            return self.park(io, Lane::Read, cx);
        }
        // What came in is told first, so it wins over a verdict that is due.
        self.attend(io, Lane::Read);
        read
    }

    pub(super) fn poll_write<T>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        ready!(self.poll_gap(io, cx))?;
        let cut = match self.owed {
            Some(Owed::Whole) => None,
            Some(Owed::Cut { at }) => Some(at),
            None if self.wants_gap() => self.outbound.next_gap(slices),
            None => None,
        };
        let (written, owed) = self.as_writer(cx, |cx| match cut {
            Some(at) => (write(io, cx, &first(slices, at)), Owed::Cut { at }),
            None => (write(io, cx, slices), Owed::Whole),
        });
        match written {
            Poll::Ready(result) => {
                self.owed = None;
                let written = result.inspect_err(|error| self.watched.broke(error))?;
                self.outbound.wrote(slices, written, &mut self.streams);
                if self.outbound.is_foreign() {
                    self.turn_foreign();
                }
                self.watched.follow(&self.streams);
                if let Some(police) = &mut self.police
                    && self.outbound.take_answered()
                {
                    police.on_sent();
                }
                if self.wants_gap() {
                    self.pump(io);
                    self.attend(io, Lane::Write);
                }
                Poll::Ready(Ok(written))
            }
            Poll::Pending => {
                self.owed = Some(owed);
                self.park(io, Lane::Write, cx)
            }
        }
    }

    pub(super) fn poll_flush<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        ready!(self.poll_gap(io, cx))?;
        match self.as_writer(cx, |cx| Pin::new(&mut *io).poll_flush(cx)) {
            Poll::Ready(result) => {
                if self.ping.is_some() {
                    self.pump(io);
                    self.attend(io, Lane::Write);
                }
                Poll::Ready(result.inspect_err(|error| self.watched.broke(error)))
            }
            Poll::Pending => self.park(io, Lane::Write, cx),
        }
    }

    pub(super) fn poll_shutdown<T>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        // A peer that is gone must not keep the connection from being closed.
        if self.verdict().is_some() {
            return Poll::Ready(Ok(()));
        }
        let gap = ready!(self.poll_gap(io, cx));
        if self.has_sent_off() {
            // What it was to be told is out, or no gap comes any more.
            self.end_dismissal();
            return Poll::Ready(Ok(()));
        }
        gap?;
        self.shutdown = Shutdown::Begun;
        match self.as_writer(cx, |cx| Pin::new(&mut *io).poll_shutdown(cx)) {
            Poll::Ready(result) => {
                result?;
                self.shutdown = Shutdown::Done;
                // It has flushed, too.
                if self.ping.take().is_some() && self.inline.slot().send() {
                    self.watched.wake_driver();
                }
                self.pump(io);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.park(io, Lane::Write, cx),
        }
    }

    /// Polls the IO for the writer; while a ping waits for it as well, for both lanes.
    fn as_writer<R>(&self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        match self.ping {
            Some(_) => poll(&mut Context::from_waker(self.inline.waker())),
            None => poll(cx),
        }
    }

    #[inline]
    fn verdict(&mut self) -> Option<io::Error> {
        // The peer is told first.
        if self.dismissal.is_some() {
            return None;
        }
        self.watched.verdict(!self.ahead.is_empty())
    }

    /// Waits until no frame of this side's own is half written.
    fn poll_gap<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(error) = self.verdict() {
            return Poll::Ready(Err(error));
        }
        self.attend(io, Lane::Write);
        if self.is_io_taken() {
            self.pump(io);
        }
        if let Some(error) = self.write_error.take() {
            return Poll::Ready(Err(error));
        }
        if self.is_io_taken() {
            return self.park(io, Lane::Write, cx);
        }
        // Nothing may follow a GOAWAY that went out just now.
        if self.police.is_some()
            && let Some(error) = self.verdict()
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    /// The lane waits: for the IO, for a ping that is half written, or for the verdict.
    fn park<T, R>(&mut self, io: &mut T, lane: Lane, cx: &Context<'_>) -> Poll<io::Result<R>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        // Before the alarm is looked at: one that rings from here on wakes the lane.
        self.inline.register(lane, cx.waker());
        self.attend(io, lane);
        match self.verdict() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }

    /// Does what the alarm rang for.
    #[inline]
    fn attend<T>(&mut self, io: &mut T, lane: Lane)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if self.inline.rings() {
            self.attend_alarm(io, lane);
        }
    }

    #[cold]
    fn attend_alarm<T>(&mut self, io: &mut T, lane: Lane)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut rounds = 0;
        while self.inline.hush(&mut rounds) {
            self.inline.poll_driver();
            self.pump(io);
            // Nobody may be reading, and a pong lie there. Not before the driver knows that the ping
            // is out: it would call it off for what comes in.
            let is_known = !self.inline.rings();
            if lane == Lane::Write && self.is_judged() && is_known {
                self.read_ahead(io);
            }
        }
    }

    /// Whether a limit runs that unread input would falsify.
    fn is_judged(&self) -> bool {
        self.inline.slot().is_due() || self.inline.slot().is_sent() || self.watched.limits_quiet()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("watched", &self.watched)
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}
