//! What was written so far, and where a PING may stand in it.

use std::io::IoSlice;

use super::{
    Role,
    frames::{Frames, Part, flag, kind},
    streams::Streams,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Outbound {
    role: Role,
    frames: Frames,
    /// Whether the first SETTINGS, before which nothing may stand, is out.
    opened: bool,
    /// Whether a header block is not complete, into which nothing may come (RFC 9113, section 4.3).
    in_block: bool,
    /// Whether HEADERS or DATA were written since somebody asked.
    has_answered: bool,
    /// Whether the newest frame is of a request or a response.
    in_message: bool,
}

impl Outbound {
    pub(super) fn new(role: Role) -> Outbound {
        Outbound {
            role,
            frames: match role {
                Role::Client => Frames::after_preface(),
                Role::Server => Frames::without_preface(),
            },
            opened: false,
            in_block: false,
            has_answered: false,
            in_message: false,
        }
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.frames.is_foreign()
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether HEADERS or DATA were written since the last time.
    pub(super) fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.has_answered)
    }

    /// Whether a PING may be the next to be written.
    pub(super) fn is_gap(&self) -> bool {
        self.frames.is_between() && self.opened && !self.in_block
    }

    /// After how many of these bytes it may, if it may before their end.
    pub(super) fn next_gap(&self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let mut ahead = *self;
        let mut gap = 0;
        let mut rest: usize = slices.iter().map(|slice| slice.len()).sum();
        for slice in slices {
            let mut bytes = &**slice;
            while !bytes.is_empty() {
                let length = ahead.step(bytes, None);
                bytes = &bytes[length..];
                gap += length;
                rest -= length;
                if rest > 0 && ahead.is_gap() {
                    return Some(gap);
                }
            }
        }
        None
    }

    /// The first `written` of these bytes were. Returns whether any of them were a message's.
    pub(super) fn wrote(
        &mut self,
        slices: &[IoSlice<'_>],
        mut written: usize,
        streams: &mut Streams,
    ) -> bool {
        let mut of_message = false;
        for slice in slices {
            let mut bytes = &slice[..written.min(slice.len())];
            written -= bytes.len();
            while !bytes.is_empty() {
                bytes = &bytes[self.step(bytes, Some(streams))..];
                of_message |= self.in_message;
            }
        }
        of_message
    }

    fn step(&mut self, bytes: &[u8], streams: Option<&mut Streams>) -> usize {
        let step = self.frames.step(bytes);
        let (head, begins, ends) = match step.part {
            Part::Other => return step.length,
            Part::Head(head) => (head, true, head.length == 0),
            Part::Payload { head, is_last } => (head, false, is_last),
        };
        self.in_message = matches!(head.kind, kind::DATA | kind::HEADERS | kind::CONTINUATION);
        if begins
            && matches!(
                head.kind,
                kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION
            )
        {
            self.in_block = !head.has(flag::END_HEADERS);
        }
        // The first frame is one of settings, or all is foreign.
        self.opened |= ends;
        if let Some(streams) = streams {
            if begins {
                self.has_answered |= matches!(head.kind, kind::HEADERS | kind::DATA);
                streams.begin(self.role, &head);
            } else if head.kind == kind::GOAWAY {
                streams.say_go_away(self.role, &head, &bytes[..step.length], ends);
            }
            if ends {
                streams.end(self.role, &head);
            }
        }
        step.length
    }
}
