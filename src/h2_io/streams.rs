//! The requests of an HTTP/2 connection, as its frames tell.

use super::{
    Role,
    frames::{Head, flag, kind},
    goaway::Draft,
};

/// The streams that a client opened and that have not ended. Promised ones don't count: they answer
/// a request that does.
#[derive(Debug)]
pub(super) struct Streams {
    /// From the oldest to the newest. There are few at once, and most come and go in this order.
    open: Vec<(u32, Open)>,
    /// Ids only grow (RFC 9113, section 5.1.1).
    newest: u32,
    /// A last head of the client's or the server's that goes on in further frames.
    last_heads: [Option<u32>; 2],
    /// The last that the server takes; those behind it may have been on their way when it said so.
    last: u32,
    /// This side's own GOAWAY, as far as it was written.
    draft: Draft,
}

/// Which sides of a stream are still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Both,
    One { sent_by: Role },
}

impl Streams {
    pub(super) fn new() -> Streams {
        Streams {
            open: Vec::new(),
            newest: 0,
            last_heads: [None; 2],
            last: u32::MAX,
            draft: Draft::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The last stream of the peer's that this side may have acted on.
    pub(super) fn last_of_peer(&self, role: Role) -> u32 {
        match role {
            // Of what servers promise nothing is followed, and nothing is acted on.
            Role::Client => 0,
            // Never more than was said before (RFC 9113, section 6.8).
            Role::Server => self.newest.min(self.last),
        }
    }

    /// The last that it would take, as it said itself.
    #[cfg(feature = "server")]
    pub(super) fn limit(&self) -> u32 {
        self.last
    }

    #[cfg(feature = "server")]
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The head of a frame went by.
    pub(super) fn begin(&mut self, sent_by: Role, head: &Head) {
        let opens = head.kind == kind::HEADERS
            && sent_by == Role::Client
            && !head.stream.is_multiple_of(2)
            && head.stream > self.newest;
        if opens {
            self.newest = head.stream;
            if head.stream <= self.last {
                self.open.push((head.stream, Open::Both));
            }
        }
    }

    /// A frame went by to its end.
    pub(super) fn end(&mut self, sent_by: Role, head: &Head) {
        let is_reset = head.kind == kind::RST_STREAM;
        let last_head = &mut self.last_heads[usize::from(sent_by == Role::Server)];
        let ends = match head.kind {
            kind::DATA => head.has(flag::END_STREAM),
            kind::HEADERS if head.has(flag::END_HEADERS) => head.has(flag::END_STREAM),
            kind::HEADERS => {
                *last_head = head.has(flag::END_STREAM).then_some(head.stream);
                false
            }
            kind::CONTINUATION if head.has(flag::END_HEADERS) => {
                last_head.take() == Some(head.stream)
            }
            _ => false,
        };
        if !is_reset && !ends {
            return;
        }
        let Ok(place) = self.open.binary_search_by_key(&head.stream, |open| open.0) else {
            return;
        };
        match &mut self.open[place].1 {
            open @ Open::Both if !is_reset => {
                *open = Open::One {
                    sent_by: sent_by.other(),
                };
            }
            Open::One { sent_by: last } if !is_reset && *last != sent_by => {}
            Open::Both | Open::One { .. } => {
                self.open.remove(place);
            }
        }
    }

    /// A part of a GOAWAY was written.
    pub(super) fn say_go_away(&mut self, sent_by: Role, head: &Head, part: &[u8], is_last: bool) {
        if let Some(go_away) = self.draft.take(head, part, is_last) {
            self.go_away(sent_by, go_away.last_stream_id());
        }
    }

    /// The server said which of them it takes at most.
    pub(super) fn go_away(&mut self, sent_by: Role, last_stream_id: u32) {
        if sent_by == Role::Server {
            self.last = last_stream_id;
            self.open.retain(|(id, _)| *id <= last_stream_id);
        }
    }
}
