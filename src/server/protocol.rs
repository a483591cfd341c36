//! What a client speaks, and what that tells of its requests.

use std::{
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

use super::shared::Shared;
use crate::h2_io::{Goodbye, Spectator};

pub(super) enum Protocol {
    /// No byte has gone either way.
    Unknown,
    /// As far as it was read, if it is not whole yet.
    Http2(Box<Spectator>),
    Other,
    /// TLS, with whatever in it.
    Sealed,
}

impl Protocol {
    /// These bytes came in. Returns how many of them are left for others.
    pub(super) fn read(&mut self, bytes: &mut [u8], shared: &Arc<Shared>) -> usize {
        if matches!(self, Protocol::Unknown) && bytes[0] == TLS_HANDSHAKE {
            self.seal(shared);
        }
        let Some(spectator) = self.spectator() else {
            return bytes.len();
        };
        let (was_opened, had_streams) = (spectator.is_opened(), spectator.has_streams());
        let kept = spectator.read(bytes);
        if !was_opened && spectator.is_opened() && !spectator.is_foreign() {
            shared.open();
        }
        self.tell_streams(had_streams, shared);
        kept
    }

    /// Nobody can tell what is in flight in there, so something always is.
    fn seal(&mut self, shared: &Arc<Shared>) {
        tracing::warn!("connection is encrypted");
        *self = Protocol::Sealed;
        shared.open();
        shared.tell(|machine, now| machine.on_busy(now));
    }

    /// The first `written` of these bytes went out. Returns whether any of them were a response's.
    pub(super) fn wrote(
        &mut self,
        slices: &[IoSlice<'_>],
        written: usize,
        shared: &Shared,
    ) -> bool {
        let Some(spectator) = self.spectator() else {
            return written > 0;
        };
        let had_streams = spectator.has_streams();
        let of_response = spectator.wrote(slices, written);
        self.tell_streams(had_streams, shared);
        of_response
    }

    /// From the first byte on, whichever side's that is: a server that knows HTTP/2 only begins by itself.
    fn spectator(&mut self) -> Option<&mut Spectator> {
        if let Protocol::Unknown = self {
            *self = Protocol::Http2(Box::new(Spectator::server()));
        }
        match self {
            Protocol::Http2(spectator) => Some(spectator),
            Protocol::Unknown | Protocol::Other | Protocol::Sealed => None,
        }
    }

    fn tell_streams(&mut self, had_streams: bool, shared: &Shared) {
        let has_streams = match self {
            Protocol::Http2(spectator) if spectator.is_foreign() => {
                *self = Protocol::Other;
                false
            }
            Protocol::Http2(spectator) => spectator.has_streams(),
            Protocol::Unknown | Protocol::Other | Protocol::Sealed => false,
        };
        if had_streams != has_streams {
            shared.tell(|machine, now| machine.on_streams(has_streams, now));
        }
    }

    /// See [`Spectator::poll_goodbye`].
    pub(super) fn poll_goodbye<T>(
        &mut self,
        goodbye: Goodbye,
        is_free: bool,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        match self {
            Protocol::Http2(spectator) => spectator.poll_goodbye(goodbye, is_free, io, cx),
            Protocol::Unknown | Protocol::Other | Protocol::Sealed => Poll::Ready(Ok(())),
        }
    }

    /// See [`Spectator::next_gap`].
    pub(super) fn next_gap(&self, goodbye: Goodbye, slices: &[IoSlice<'_>]) -> Option<usize> {
        self.seen()?.next_gap(goodbye, slices)
    }

    /// Whether a frame of ours is half written.
    pub(super) fn owns_the_io(&self) -> bool {
        self.seen().is_some_and(Spectator::owns_the_io)
    }

    /// Whether it is HTTP/2 that has begun.
    pub(super) fn is_http2(&self) -> bool {
        self.seen().is_some_and(Spectator::is_opened)
    }

    /// Whether it is the client that ends it.
    pub(super) fn client_leaves(&self) -> bool {
        self.seen().is_some_and(Spectator::client_leaves)
    }

    /// Whether all is said that HTTP/2 has to say at the end; `None` where it has not begun.
    pub(super) fn has_said_goodbye(&self) -> Option<bool> {
        let begun = self.seen().filter(|spectator| spectator.is_opened());
        begun.map(Spectator::has_said_now)
    }

    fn seen(&self) -> Option<&Spectator> {
        match self {
            Protocol::Http2(spectator) => Some(spectator),
            Protocol::Unknown | Protocol::Other | Protocol::Sealed => None,
        }
    }
}

/// The first byte of a TLS client's (RFC 8446, section 5.1); no request begins with it.
const TLS_HANDSHAKE: u8 = 22;
