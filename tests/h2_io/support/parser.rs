//! A parser of whole HTTP/2 byte sequences that shares nothing with the crate's.

use super::Side;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the payloads of the upper layer's own PINGs begin with.
pub(crate) const OWN: &[u8] = b"user";

/// A frame, with its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[3]
    }

    pub(crate) fn flags(&self) -> u8 {
        self.bytes[4]
    }

    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[9..]
    }

    /// A PING that no upper layer of these tests writes.
    pub(crate) fn is_our_ping(&self) -> bool {
        self.bytes[..9] == [0, 0, 8, 6, 0, 0, 0, 0, 0] && !self.payload().starts_with(OWN)
    }

    fn leaves_a_block_open(&self) -> Option<bool> {
        // HEADERS, PUSH_PROMISE, CONTINUATION; END_HEADERS.
        [1, 5, 9]
            .contains(&self.kind())
            .then(|| self.flags() & 4 == 0)
    }
}

/// The whole frames of what `side` sent, and what follows them.
pub(crate) fn frames(side: Side, bytes: &[u8]) -> (Vec<Frame<'_>>, &[u8]) {
    let mut rest = match side {
        Side::Client if bytes.len() < PREFACE.len() => return (Vec::new(), bytes),
        Side::Client => bytes.strip_prefix(PREFACE).expect("a client's preface"),
        Side::Server => bytes,
    };
    let mut frames = Vec::new();
    while let [a, b, c, ..] = *rest {
        let length = 9 + (usize::from(a) * 256 + usize::from(b)) * 256 + usize::from(c);
        if rest.len() < length {
            break;
        }
        let (bytes, behind) = rest.split_at(length);
        frames.push(Frame { bytes });
        rest = behind;
    }
    (frames, rest)
}

/// What is on a wire beside the pings, and how many those are. Each stands behind the
/// first SETTINGS and in no header block.
pub(crate) fn without_pings(side: Side, wire: &[u8]) -> (Vec<u8>, usize) {
    let (frames, rest) = frames(side, wire);
    let mut others = match side {
        Side::Client => wire[..wire.len().min(PREFACE.len())].to_vec(),
        Side::Server => Vec::new(),
    };
    let (mut pings, mut opened, mut in_block) = (0, false, false);
    for frame in &frames {
        if frame.is_our_ping() {
            assert!(opened, "a ping before the first SETTINGS");
            assert!(!in_block, "a ping inside a header block");
            pings += 1;
            continue;
        }
        opened |= frame.kind() == 4;
        in_block = frame.leaves_a_block_open().unwrap_or(in_block);
        others.extend_from_slice(frame.bytes);
    }
    if side == Side::Server || wire.len() >= PREFACE.len() {
        others.extend_from_slice(rest);
    }
    (others, pings)
}

/// After how many bytes of what `side` sends a PING may stand, and after how many a frame ends. None
/// if it is not HTTP/2.
pub(crate) fn places(side: Side, bytes: &[u8]) -> (Vec<usize>, Vec<usize>) {
    if side == Side::Client && !bytes.starts_with(PREFACE) {
        return (Vec::new(), Vec::new());
    }
    let (frames, _) = frames(side, bytes);
    let opens = |frame: &Frame<'_>| {
        let [.., reserved, b, c, d] = frame.bytes[..9] else {
            return false;
        };
        let stream = [reserved & 0x7f, b, c, d];
        frame.kind() == 4
            && frame.flags() & 1 == 0
            && stream == [0; 4]
            && frame.payload().len().is_multiple_of(6)
    };
    if !frames.first().is_some_and(opens) {
        return (Vec::new(), Vec::new());
    }
    let (mut gaps, mut ends, mut in_block) = (Vec::new(), Vec::new(), false);
    let mut at = if side == Side::Client {
        PREFACE.len()
    } else {
        0
    };
    for frame in frames {
        at += frame.bytes.len();
        in_block = frame.leaves_a_block_open().unwrap_or(in_block);
        ends.push(at);
        if !in_block {
            gaps.push(at);
        }
    }
    (gaps, ends)
}
