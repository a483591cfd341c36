//! The requests of an HTTP/2 connection, as its frames tell.

use super::{
    Role,
    frames::{Head, flag, kind},
};

/// The streams that a client opened and that have not ended. Promised ones don't count: they answer
/// a request that does.
#[derive(Debug)]
pub(super) struct Streams {
    role: Role,
    /// From the oldest to the newest. There are few at once, and most come and go in this order.
    open: Vec<(u32, Open)>,
    /// Ids only grow (RFC 9113, section 5.1.1).
    newest: u32,
    /// A last head of the client's or the server's that goes on in further frames.
    last_heads: [Option<u32>; 2],
    /// The last that the server takes; those behind it may have been on their way when it said so.
    last: u32,
}

/// Which sides of a stream are still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Both,
    One { sent_by: Role },
}

impl Streams {
    pub(super) fn new(role: Role) -> Streams {
        Streams {
            role,
            open: Vec::new(),
            newest: 0,
            last_heads: [None; 2],
            last: u32::MAX,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
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

    /// The server said which of them it took at most.
    pub(super) fn go_away(&mut self, last_stream_id: u32) {
        if self.role == Role::Client {
            self.last = last_stream_id;
            self.open.retain(|(id, _)| *id <= last_stream_id);
        }
    }
}
