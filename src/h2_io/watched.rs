//! What one IO tells its link, and is told.

use std::{fmt, io, sync::Arc};

use super::{goaway::GoAway, policing::Complaints, registry::Entry, streams::Streams};
use crate::{
    error::{Cause, Failure, HeartbeatError, Stage},
    handle::Handle,
    link::{InFlight, Link, Users},
};

/// One IO as its link's only user. Its drop ends the connection.
pub(super) struct Watched {
    users: Arc<Users>,
    /// All its streams in flight are one request.
    busy: Option<InFlight>,
    is_foreign: bool,
    /// The newest that says that something is wrong.
    go_away: Option<GoAway>,
    complaints: Complaints,
    entry: Entry,
}

impl Watched {
    pub(super) fn new(users: Arc<Users>, complaints: Complaints, entry: Entry) -> Watched {
        Watched {
            users,
            busy: None,
            is_foreign: false,
            go_away: None,
            complaints,
            entry,
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.users.link
    }

    pub(super) fn handle(&self) -> Handle {
        Handle::new(Arc::clone(self.link()))
    }

    /// Why nothing more is read or written: an end that the bytes themselves don't tell. Where bytes
    /// are `unread`, a request may have been answered of which its user knows nothing yet.
    #[inline]
    pub(super) fn verdict(&mut self, unread: bool) -> Option<io::Error> {
        let cause = self.link().ended().cloned()?;
        self.verdict_of(&cause, unread)
    }

    #[cold]
    fn verdict_of(&mut self, cause: &Arc<Cause>, unread: bool) -> Option<io::Error> {
        let kind = match cause.failure {
            // The IO says so itself, after whatever came before.
            Failure::Transport | Failure::TooManyPings => return None,
            Failure::Closed | Failure::PingFlood => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::TimedOut,
        };
        let stage = if self.busy.is_some() || unread {
            Stage::AwaitingResponse
        } else {
            Stage::NotSent
        };
        self.entry.end(cause);
        let error = HeartbeatError::shared(Arc::clone(cause), stage);
        Some(io::Error::new(kind, self.entry.signed(error)))
    }

    #[inline]
    pub(super) fn heard(&self) {
        self.link().heard();
    }

    /// Whether a limit runs on how long nothing is heard, pings or no pings.
    pub(super) fn limits_quiet(&self) -> bool {
        self.busy.is_some() && self.link().config().quiet_timeout.is_some()
    }

    pub(super) fn wake_driver(&self) {
        self.link().wake_driver();
    }

    /// Whether requests are in flight follows the streams.
    #[inline]
    pub(super) fn follow(&mut self, streams: &Streams) {
        let is_busy = self.is_foreign || !streams.is_empty();
        if is_busy != self.busy.is_some() {
            self.busy = is_busy.then(|| self.users.enter());
            if is_busy {
                self.link().used();
            }
        }
    }

    /// `true` the first time. Of bytes that are not HTTP/2 nobody knows what is in flight, so they
    /// always count as in use.
    pub(super) fn turn_foreign(&mut self) -> bool {
        let is_first = !self.is_foreign;
        self.is_foreign = true;
        if is_first {
            // So that the driver finds out.
            self.link().want_ping();
        }
        is_first
    }

    /// The peer leaves; if it says that it was pinged too often, it may mean these pings.
    pub(super) fn take_leave(&mut self, go_away: GoAway, was_pinged: bool) {
        if go_away.is_about_pings() && was_pinged {
            let span = self.link().span();
            span.in_scope(|| self.complaints.file(self.link().config()));
            let cause = Cause {
                source: Some(Arc::new(go_away)),
                ..Cause::new(Failure::TooManyPings)
            };
            // The calls that it ends come to know at once.
            self.entry.end(&Arc::new(cause.clone()));
            self.link().leave(cause);
        } else if go_away.code() != 0 {
            self.go_away = Some(go_away);
        }
    }

    /// The peer was sent off.
    pub(super) fn end_of_flood(&self) {
        self.link().end(Cause::new(Failure::PingFlood));
    }

    /// The peer has closed its side.
    pub(super) fn finished(&mut self) {
        self.entry.close();
        let go_away = self.go_away.take();
        self.transport_ended(Cause {
            source: go_away.map(|go_away| Arc::new(go_away) as _),
            ..Cause::new(Failure::Transport)
        });
    }

    /// The IO failed. Its user is told so by the IO itself.
    pub(super) fn broke(&mut self, error: &io::Error) {
        self.entry.close();
        // It is not `Clone`; this is what h2 keeps of it, too.
        let copy = io::Error::new(error.kind(), error.to_string());
        self.transport_ended(Cause {
            source: Some(Arc::new(copy)),
            ..Cause::new(Failure::Transport)
        });
    }

    fn transport_ended(&self, cause: Cause) {
        let link = self.link();
        if link.ended().is_some() {
            return;
        }
        if link.is_leaving_by_itself() {
            link.end_departed();
        } else {
            link.end(cause);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.transport_ended(Cause::new(Failure::Closed));
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("link", self.link())
            .finish_non_exhaustive()
    }
}
