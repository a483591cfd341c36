//! What the bytes of a server's connection tell, seen and left as they are.

use std::io::IoSlice;

use super::{
    Role,
    frames::{Frames, Part, flag, kind},
    outbound::Outbound,
    streams::Streams,
};

/// It sees both directions of a connection and touches neither.
#[derive(Debug)]
pub(crate) struct Spectator {
    inbound: Frames,
    outbound: Outbound,
    streams: Streams,
    /// Whether the client's first SETTINGS are in.
    opened: bool,
    /// Whether a head of the client's goes on in further frames.
    in_block: bool,
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
}
