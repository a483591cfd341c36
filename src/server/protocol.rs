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
}

impl Protocol {
    /// These bytes came in.
    pub(super) fn read(&mut self, bytes: &[u8], shared: &Arc<Shared>) {
        let Some(spectator) = self.spectator() else {
            return;
        };
        let (was_opened, had_streams) = (spectator.is_opened(), spectator.has_streams());
        spectator.read(bytes);
        if !was_opened && spectator.is_opened() && !spectator.is_foreign() {
            shared.open();
        }
        self.tell_streams(had_streams, shared);
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
            Protocol::Unknown | Protocol::Other => None,
        }
    }

    fn tell_streams(&mut self, had_streams: bool, shared: &Shared) {
        let has_streams = match self {
            Protocol::Http2(spectator) if spectator.is_foreign() => {
                *self = Protocol::Other;
                false
            }
            Protocol::Http2(spectator) => spectator.has_streams(),
            Protocol::Unknown | Protocol::Other => false,
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
            Protocol::Unknown | Protocol::Other => Poll::Ready(Ok(())),
        }
    }
}
