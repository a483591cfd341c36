//! What the bytes of a server's connection tell, seen and left as they are; and its goodbye.

use std::{
    fmt,
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    Role,
    core::half::Half,
    frames::{Frames, Part, flag, kind},
    goaway::{FAREWELL_LENGTH, leaving_after},
    outbound::Outbound,
    streams::Streams,
};

/// It sees both directions of a connection and touches neither, but for a GOAWAY between two frames.
pub(crate) struct Spectator {
    inbound: Frames,
    outbound: Outbound,
    streams: Streams,
    /// Whether the client's first SETTINGS are in.
    opened: bool,
    /// Whether a head of the client's goes on in further frames.
    in_block: bool,
    said: Goodbye,
    half: Option<Box<Half<FAREWELL_LENGTH>>>,
}

/// What a client was told of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Goodbye {
    Nothing,
    /// To open no more streams. Those on their way are taken (RFC 9113, section 6.8).
    Soon,
    /// That no more are taken than have come in.
    Now,
}

impl Spectator {
    /// Of a server, before the first byte.
    pub(crate) fn server() -> Spectator {
        Spectator {
            inbound: Frames::after_preface(),
            outbound: Outbound::new(Role::Server),
            streams: Streams::new(),
            opened: false,
            in_block: false,
            said: Goodbye::Nothing,
            half: None,
        }
    }

    /// Whether this is not HTTP/2.
    pub(crate) fn is_foreign(&self) -> bool {
        self.inbound.is_foreign() || self.outbound.is_foreign()
    }

    /// Whether the client's preface and SETTINGS are in.
    pub(crate) fn is_opened(&self) -> bool {
        self.opened
    }

    /// Whether a stream is open whose head is in: one that goes on for ever is no request.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams.count() > usize::from(self.in_block)
    }

    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let step = self.inbound.step(bytes);
            bytes = &bytes[step.length..];
            let (head, ends) = match step.part {
                Part::Other => continue,
                Part::Head(head) => {
                    self.streams.begin(Role::Client, &head);
                    if matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
                        self.in_block = true;
                    }
                    (head, head.length == 0)
                }
                Part::Payload { head, is_last } => (head, is_last),
            };
            if ends {
                if head.has(flag::END_HEADERS)
                    && matches!(head.kind, kind::HEADERS | kind::CONTINUATION)
                {
                    self.in_block = false;
                }
                // The first frame is one of settings, or all is foreign.
                self.opened = true;
                self.streams.end(Role::Client, &head);
            }
        }
    }

    /// The first `written` of these bytes were. Returns whether any of them were a response's.
    pub(crate) fn wrote(&mut self, slices: &[IoSlice<'_>], written: usize) -> bool {
        self.outbound.wrote(slices, written, &mut self.streams)
    }

    /// Says `goodbye`, if that was not said, as soon as a frame may begin; ready where the IO is free again.
    /// `is_free` tells whether no write is pending, which could not be preceded.
    pub(crate) fn poll_goodbye<T>(
        &mut self,
        goodbye: Goodbye,
        is_free: bool,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        loop {
            if let Some(half) = &mut self.half {
                ready!(half.poll_out(io, cx))?;
                self.half = None;
            }
            if self.said >= goodbye || !is_free || !self.outbound.is_gap() {
                return Poll::Ready(Ok(()));
            }
            self.said = goodbye;
            let last = match goodbye {
                Goodbye::Nothing | Goodbye::Soon => i32::MAX.unsigned_abs(),
                Goodbye::Now => self.streams.last_of_peer(Role::Server),
            };
            self.half = Some(Box::new(Half::new(leaving_after(last))));
        }
    }
}

impl fmt::Debug for Spectator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spectator")
            .field("streams", &self.streams)
            .field("said", &self.said)
            .finish_non_exhaustive()
    }
}
