//! What the bytes of a server's connection tell; and its goodbye.

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
    goaway::leaving_after,
    inbound::{PING_LENGTH, ping},
    outbound::Outbound,
    streams::Streams,
};

/// It sees both directions of a connection and touches neither, but for the frames of its goodbye between two others, and
/// the answer to them.
pub(crate) struct Spectator {
    inbound: Frames,
    outbound: Outbound,
    streams: Streams,
    /// Whether the client's first SETTINGS are in.
    opened: bool,
    /// Whether a head of the client's goes on in further frames.
    in_block: bool,
    /// Whether the client said GOAWAY.
    leaves: bool,
    said: Said,
    /// How much of the answer to a PING of ours the newest frame has brought.
    answered: usize,
    half: Option<Box<Half<PING_LENGTH>>>,
}

/// What a client is to be told of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    Nothing,
    /// To open no more streams. Those on their way are taken (RFC 9113, section 6.8).
    Soon,
    /// That no more are taken than have come in, once all that were on their way have.
    Now,
}

/// What it was told, or is being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Soon,
    /// Whether it has heard it: what it opened before comes in before its answer.
    Asked,
    Heard,
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
            leaves: false,
            said: Said::Nothing,
            answered: 0,
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

    /// Whether the client said that it leaves.
    pub(crate) fn client_leaves(&self) -> bool {
        self.leaves
    }

    /// Whether a stream is open whose head is in: one that goes on for ever is no request.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams.count() > usize::from(self.in_block)
    }

    /// Returns how many of the bytes are left for others: all but the answer to a goodbye, unless that came in
    /// pieces. h2 ignores it, but complains.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.said == Said::Asked
                && self.inbound.is_between()
                && rest.starts_with(&ping(flag::ACK, PAYLOAD))
            {
                self.said = Said::Heard;
                at += PING_LENGTH;
                continue;
            }
            let length = self.step(rest);
            if at != kept {
                bytes.copy_within(at..at + length, kept);
            }
            at += length;
            kept += length;
        }
        kept
    }

    fn step(&mut self, bytes: &[u8]) -> usize {
        let step = self.inbound.step(bytes);
        let (head, ends) = match step.part {
            Part::Other => return step.length,
            Part::Head(head) => {
                self.streams.begin(Role::Client, &head);
                if matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
                    self.in_block = true;
                }
                self.leaves |= head.kind == kind::GOAWAY;
                self.answered = 0;
                (head, head.length == 0)
            }
            Part::Payload { head, is_last } => {
                if self.said == Said::Asked
                    && head.kind == kind::PING
                    && head.has(flag::ACK)
                    && head.length == PAYLOAD.len()
                {
                    // One that has other bytes first never comes to its end.
                    let awaited = &PAYLOAD[self.answered..];
                    if awaited.starts_with(&bytes[..step.length]) {
                        self.answered += step.length;
                    }
                    if is_last && self.answered == PAYLOAD.len() {
                        self.said = Said::Heard;
                    }
                }
                (head, is_last)
            }
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
        step.length
    }

    /// The first `written` of these bytes were. Returns whether any of them were a response's.
    pub(crate) fn wrote(&mut self, slices: &[IoSlice<'_>], written: usize) -> bool {
        self.outbound.wrote(slices, written, &mut self.streams)
    }

    /// After how many of these bytes `goodbye` goes on, if that is before their end.
    pub(crate) fn next_gap(&self, goodbye: Goodbye, slices: &[IoSlice<'_>]) -> Option<usize> {
        self.next_of(goodbye)?;
        self.outbound.next_gap(slices)
    }

    /// Whether all is said, and nothing that comes in is for anybody.
    pub(crate) fn has_said_now(&self) -> bool {
        self.said == Said::Now && self.half.is_none()
    }

    /// Whether a frame is half written, before whose end nothing else is.
    pub(crate) fn owns_the_io(&self) -> bool {
        self.half.as_ref().is_some_and(|half| half.owns_the_io())
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
                let polled = half.poll_out(io, cx);
                if polled.is_pending() && !half.owns_the_io() {
                    // It waits for a flush, which whoever writes on may do.
                    return Poll::Ready(Ok(()));
                }
                ready!(polled)?;
                self.half = None;
            }
            let Some((next, frame)) = self.next_of(goodbye) else {
                return Poll::Ready(Ok(()));
            };
            if !is_free || !self.outbound.is_gap() {
                return Poll::Ready(Ok(()));
            }
            self.said = next;
            self.half = Some(Box::new(Half::new(frame)));
        }
    }

    fn next_of(&self, goodbye: Goodbye) -> Option<(Said, [u8; PING_LENGTH])> {
        if !self.opened {
            return None;
        }
        match (self.said, goodbye) {
            (Said::Nothing, Goodbye::Soon | Goodbye::Now) => {
                // It must not allow again what the server itself has refused.
                let most = self.streams.limit().min(i32::MAX.unsigned_abs());
                Some((Said::Soon, leaving_after(most)))
            }
            (Said::Soon, Goodbye::Soon | Goodbye::Now) => Some((Said::Asked, ping(0, PAYLOAD))),
            (Said::Heard, Goodbye::Now) => Some((
                Said::Now,
                leaving_after(self.streams.last_of_peer(Role::Server)),
            )),
            (Said::Nothing | Said::Soon | Said::Asked | Said::Heard | Said::Now, _) => None,
        }
    }
}

/// Of the PING in a goodbye.
const PAYLOAD: [u8; 8] = *b"farewell";

impl fmt::Debug for Spectator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spectator")
            .field("streams", &self.streams)
            .field("said", &self.said)
            .finish_non_exhaustive()
    }
}
