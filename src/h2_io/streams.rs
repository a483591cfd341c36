//! The requests of an HTTP/2 connection, as its frames tell.

use std::collections::HashMap;

use super::{
    Role,
    frames::{Head, flag, kind},
};

/// The streams that a client opened and that have not ended. Promised ones don't count: they answer
/// a request that does.
#[derive(Debug)]
pub(super) struct Streams {
    role: Role,
    open: HashMap<u32, Open>,
    /// The newest; ids only grow (RFC 9113, section 5.1.1).
    newest: u32,
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
            open: HashMap::new(),
            newest: 0,
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
                self.open.insert(head.stream, Open::Both);
            }
        }
    }

    /// A frame went by to its end.
    pub(super) fn end(&mut self, sent_by: Role, head: &Head) {
        let ends = match head.kind {
            kind::RST_STREAM => {
                self.open.remove(&head.stream);
                return;
            }
            kind::DATA | kind::HEADERS => head.has(flag::END_STREAM),
            _ => false,
        };
        if !ends {
            return;
        }
        match self.open.get_mut(&head.stream) {
            Some(open @ Open::Both) => {
                *open = Open::One {
                    sent_by: sent_by.other(),
                };
            }
            Some(Open::One { sent_by: last }) if *last == sent_by => {
                self.open.remove(&head.stream);
            }
            Some(Open::One { .. }) | None => {}
        }
    }

    /// The server said which of them it took at most.
    pub(super) fn go_away(&mut self, last_stream_id: u32) {
        if self.role == Role::Client {
            self.last = last_stream_id;
            self.open.retain(|id, _| *id <= last_stream_id);
        }
    }
}
