//! Where in its sequence of frames one direction of an HTTP/2 connection is.

/// What a client's bytes begin with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const HEAD_LENGTH: usize = 9;

pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 1;
    pub(in super::super) const END_STREAM: u8 = 1;
    pub(in super::super) const END_HEADERS: u8 = 4;
}

/// A frame's first nine bytes (RFC 9113, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    fn parse(bytes: [u8; HEAD_LENGTH]) -> Head {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Head {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Each side's frames begin with its settings.
    fn opens(&self) -> bool {
        self.kind == kind::SETTINGS
            && !self.has(flag::ACK)
            && self.stream == 0
            && self.length.is_multiple_of(6)
    }
}

/// A place in one direction's bytes. Bytes that are not HTTP/2 have no places: all of them are foreign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    place: Place,
    /// Whether no head has been read yet.
    first: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Preface {
        matched: usize,
    },
    Head {
        bytes: [u8; HEAD_LENGTH],
        filled: usize,
    },
    Payload {
        head: Head,
        left: usize,
    },
    Foreign,
}

const BETWEEN: Place = Place::Head {
    bytes: [0; HEAD_LENGTH],
    filled: 0,
};

/// What the first `length` of some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) length: usize,
    pub(super) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Of the preface, of a head, or not HTTP/2.
    Other,
    /// The rest of a head; also the end of the frame, if it has no payload.
    Head(Head),
    /// Payload of this frame, to its end or not.
    Payload { head: Head, is_last: bool },
}

impl Frames {
    /// What a client sends.
    pub(super) fn after_preface() -> Frames {
        Frames {
            place: Place::Preface { matched: 0 },
            first: true,
        }
    }

    /// What a server sends.
    pub(super) fn without_preface() -> Frames {
        Frames {
            place: BETWEEN,
            first: true,
        }
    }

    /// Whether the next byte is the first of a frame.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.place, Place::Head { filled: 0, .. })
    }

    pub(super) fn is_foreign(&self) -> bool {
        matches!(self.place, Place::Foreign)
    }

    /// Goes on to the next part in `bytes`, of which there is one at least.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Step {
        match &mut self.place {
            Place::Preface { matched } => {
                let length = bytes.len().min(PREFACE.len() - *matched);
                if bytes[..length] != PREFACE[*matched..*matched + length] {
                    return self.turn_foreign(bytes);
                }
                *matched += length;
                if *matched == PREFACE.len() {
                    self.place = BETWEEN;
                }
                Step {
                    length,
                    part: Part::Other,
                }
            }
            Place::Head {
                bytes: head,
                filled,
            } => {
                let length = bytes.len().min(HEAD_LENGTH - *filled);
                head[*filled..*filled + length].copy_from_slice(&bytes[..length]);
                *filled += length;
                if *filled < HEAD_LENGTH {
                    return Step {
                        length,
                        part: Part::Other,
                    };
                }
                let head = Head::parse(*head);
                if self.first && !head.opens() {
                    return self.turn_foreign(bytes);
                }
                self.first = false;
                self.place = match head.length {
                    0 => BETWEEN,
                    left => Place::Payload { head, left },
                };
                Step {
                    length,
                    part: Part::Head(head),
                }
            }
            Place::Payload { head, left } => {
                let head = *head;
                let length = bytes.len().min(*left);
                *left -= length;
                let is_last = *left == 0;
                if is_last {
                    self.place = BETWEEN;
                }
                Step {
                    length,
                    part: Part::Payload { head, is_last },
                }
            }
            Place::Foreign => self.turn_foreign(bytes),
        }
    }

    fn turn_foreign(&mut self, bytes: &[u8]) -> Step {
        self.place = Place::Foreign;
        Step {
            length: bytes.len(),
            part: Part::Other,
        }
    }
}
