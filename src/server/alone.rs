//! What is done to a connection by its own IO, where nobody has its future.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::io::AsyncWrite;

use super::{
    phase::{Action, State},
    protocol::Protocol,
    reason::Reason,
    shared::Shared,
    watch::Watch,
};
use crate::{h2_io::Goodbye, lanes::Lane};

pub(super) struct Alone {
    watch: Watch,
    /// How the write was asked for that is left pending. TLS writers insist that it comes again as it was.
    owed: Option<Owed>,
    /// Whether something was read and nothing written since: over HTTP/1 a request that has begun.
    pub(super) owes_answer: bool,
    /// Whether the reader waits for the IO.
    pub(super) reader_waits: bool,
    /// Whether the reader is told that nothing more comes.
    pub(super) is_at_end: bool,
    /// Whether the IO was shut down on this side, or has ended.
    pub(super) is_closing: bool,
}

/// How a write is asked for.
#[derive(Clone, Copy)]
pub(super) enum Owed {
    Whole,
    /// Cut where a frame of ours has its place.
    Cut {
        at: usize,
    },
}

impl Alone {
    pub(super) fn new(shared: Arc<Shared>) -> Alone {
        Alone {
            watch: Watch::new(shared),
            owed: None,
            owes_answer: false,
            reader_waits: false,
            is_at_end: false,
            is_closing: false,
        }
    }

    /// Does what is due. Returns why nothing more is read or written, if that is the end.
    pub(super) fn poll_due(&mut self, lane: Lane, cx: &Context<'_>) -> Poll<io::Error> {
        while let Poll::Ready(action) = self.watch.poll(lane, cx) {
            match action {
                Action::Drain(_) => {}
                Action::Force(reason) => {
                    // The other lane has to hear it as well.
                    self.watch.shared.wake_lanes();
                    return Poll::Ready(cut_for(reason));
                }
            }
        }
        Poll::Pending
    }

    /// Why nothing more is read or written.
    pub(super) fn cut(&self) -> Option<io::Error> {
        match self.watch.shared.state() {
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

    pub(super) fn is_draining(&self) -> bool {
        // The look at the flag is the cheaper one.
        let shared = &self.watch.shared;
        shared.leaves() && matches!(shared.state(), State::Draining { .. })
    }

    /// What the client is to know by now.
    pub(super) fn goodbye(&self) -> Goodbye {
        if !self.is_closing && self.is_draining() {
            Goodbye::Soon
        } else {
            Goodbye::Nothing
        }
    }

    /// Ready where nothing of ours is half written.
    pub(super) fn poll_goodbye<T>(
        &self,
        goodbye: Goodbye,
        is_blocked: bool,
        protocol: &mut Protocol,
        mut io: Pin<&mut T>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        // Whichever lane asked may never come back.
        let waker = Waker::from(Arc::clone(&self.watch.shared));
        let mut cx = Context::from_waker(&waker);
        let is_free = !is_blocked && self.owed.is_none();
        let owned = protocol.owns_the_io();
        let polled = protocol.poll_goodbye(goodbye, is_free, &mut io, &mut cx);
        if owned && !protocol.owns_the_io() {
            // The other lane may have waited for its end.
            self.watch.shared.wake_lanes();
        }
        polled
    }

    /// Ends the reads as soon as nothing is in flight, or begun: HTTP/1's way to say that no more requests are taken, and
    /// after a GOAWAY HTTP/2's.
    pub(super) fn poll_leave<T>(
        &mut self,
        is_blocked: bool,
        protocol: &mut Protocol,
        io: Pin<&mut T>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite,
    {
        let shared = &self.watch.shared;
        let is_idle = shared.look(|machine, _| machine.idle_since().is_some());
        let goodbye = if is_idle { Goodbye::Now } else { Goodbye::Soon };
        ready!(self.poll_goodbye(goodbye, is_blocked, protocol, io))?;
        let is_told = protocol.has_said_goodbye();
        self.is_at_end = is_idle && is_told.unwrap_or(!self.owes_answer);
        if self.is_at_end {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// How these bytes are to be written.
    pub(super) fn next_write(&self, protocol: &Protocol, slices: &[IoSlice<'_>]) -> Owed {
        if let Some(owed) = self.owed {
            return owed;
        }
        let gap = match self.goodbye() {
            Goodbye::Nothing => None,
            goodbye => protocol.next_gap(goodbye, slices),
        };
        gap.map_or(Owed::Whole, |at| Owed::Cut { at })
    }

    /// They were asked to be, and are pending or not.
    pub(super) fn on_write(&mut self, owed: Owed, is_pending: bool) {
        self.owed = is_pending.then_some(owed);
    }
}

impl Owed {
    pub(super) fn poll_write<T>(
        self,
        io: Pin<&mut T>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>
    where
        T: AsyncWrite,
    {
        match (self, slices) {
            (Owed::Whole, [one]) => io.poll_write(cx, one),
            (Owed::Whole, many) => io.poll_write_vectored(cx, many),
            (Owed::Cut { at }, many) => {
                // The first that has something, or a part of it: a short write like any other.
                let first = many.iter().find(|slice| !slice.is_empty());
                let first = first.map_or(&[][..], |slice| &slice[..at.min(slice.len())]);
                io.poll_write(cx, first)
            }
        }
    }
}

fn cut_for(reason: Reason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, reason.to_string())
}
