//! What one message transport tells its link, and is told.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Waker},
};

use crate::{
    error::{BoxError, Cause, Failure, HeartbeatError, Stage},
    handle::Handle,
    link::{InFlight, Link, Users, in_flight},
    wakers::Key,
};

/// One transport as its link's only user. Its drop ends the connection.
pub(super) struct Watched {
    users: Arc<Users>,
    /// What the transport last failed with; its user has the error itself.
    last_error: Option<String>,
    /// Whether a heartbeat could not be written, so that nobody else was told.
    is_broken: bool,
    close_waiter: Key,
}

impl Watched {
    pub(super) fn new(users: Arc<Users>) -> Watched {
        Watched {
            users,
            last_error: None,
            is_broken: false,
            close_waiter: Key::NONE,
        }
    }

    #[inline]
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.users.link
    }

    pub(super) fn handle(&self) -> Handle {
        Handle::new(Arc::clone(self.link()))
    }

    pub(super) fn busy(&self) -> InFlight {
        let busy = self.users.enter();
        self.link().used();
        busy
    }

    pub(super) fn is_idle(&self) -> bool {
        in_flight(self.link()) == 0
    }

    /// Why nothing more is sent or received: an end that the transport doesn't tell by itself.
    #[inline]
    pub(super) fn verdict(&self, stage: Stage) -> Option<HeartbeatError> {
        let cause = self.link().ended()?;
        if cause.failure == Failure::Transport {
            if self.link().is_closed() {
                // The peer's end came first, and the link knows no other.
                return Some(HeartbeatError::new(Failure::Closed, stage));
            }
            if !self.is_broken {
                return None;
            }
        }
        Some(HeartbeatError::shared(Arc::clone(cause), stage))
    }

    /// Whether it has ended because a heartbeat could not be written.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether there may be something to read before that.
    pub(super) fn has_rest(&self) -> bool {
        self.is_broken && !self.link().is_closed()
    }

    /// It has ended, and its driver with it: a [`close`](Watched::close) has to ring the alarm by itself.
    pub(super) fn await_close(&mut self, alarm: &Waker) {
        let cx = Context::from_waker(alarm);
        self.users.link.wait(&mut self.close_waiter, &cx);
    }

    #[inline]
    pub(super) fn heard(&self) {
        self.link().heard();
    }

    #[inline]
    pub(super) fn used(&self) {
        self.link().used();
    }

    /// A message of the peer's for the user: both of the above.
    #[inline]
    pub(super) fn received(&self) {
        self.link().heard_and_used();
    }

    /// Whether a limit runs on how long nothing comes in, pings or no pings.
    pub(super) fn limits_silence(&self) -> bool {
        let config = self.link().config();
        config.quiet_timeout.is_some() || config.idle_timeout.is_some()
    }

    pub(super) fn wake_driver(&self) {
        self.link().wake_driver();
    }

    /// The transport failed, and its user is told so; whether it goes on, it shows itself.
    pub(super) fn failed(&mut self, error: &impl fmt::Display) {
        self.last_error = Some(error.to_string());
    }

    /// A heartbeat could not be written.
    pub(super) fn broke(&mut self, error: &impl fmt::Display) {
        self.failed(error);
        self.is_broken = true;
        self.end_with_transport();
    }

    /// The peer has closed its side.
    pub(super) fn finished(&mut self) {
        self.end_with_transport();
    }

    pub(super) fn close(&self) {
        self.link().close();
    }

    pub(super) fn end(&self, failure: Failure) {
        self.link().end(Cause::new(failure));
    }

    fn end_with_transport(&mut self) {
        let source = self.last_error.take().map(BoxError::from);
        self.link().end(Cause {
            source: source.map(Arc::from),
            ..Cause::new(Failure::Transport)
        });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.last_error.is_some() {
            self.end_with_transport();
        } else {
            self.end(Failure::Closed);
        }
        self.users.link.stop_waiting(&mut self.close_waiter);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("link", self.link())
            .finish_non_exhaustive()
    }
}
