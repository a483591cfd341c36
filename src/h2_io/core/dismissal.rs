//! The end of a connection whose peer is sent off: a GOAWAY, for whose place there may have to be waited.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::AsyncWrite,
    time::{Sleep, sleep_until},
};

use super::{Core, Shutdown, half::Half};
use crate::{
    h2_io::goaway::{COMPLAINT_LENGTH, too_many_pings},
    link::Link,
};

/// What is left to do for a peer that pinged too often.
pub(super) struct Dismissal {
    go_away: GoAway,
    /// When it is closed whether it was told or not.
    timer: Option<Pin<Box<Sleep>>>,
}

enum GoAway {
    /// It waits for a gap.
    Due,
    /// From its first byte on nothing else is written.
    Begun(Half<COMPLAINT_LENGTH>),
}

impl Dismissal {
    fn new(link: &Link) -> Dismissal {
        let clock = link.hub.clock();
        let closed_by = clock.now().after(link.config().ready_timeout());
        let timer = clock.instant(closed_by).map(sleep_until);
        Dismissal {
            go_away: GoAway::Due,
            timer: timer.map(Box::pin),
        }
    }

    pub(super) fn is_begun(&self) -> bool {
        match self.go_away {
            GoAway::Due => false,
            GoAway::Begun(_) => true,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Core {
    pub(super) fn has_sent_off(&self) -> bool {
        self.police
            .as_ref()
            .is_some_and(|police| police.has_sent_off())
    }

    /// The peer has to leave.
    #[cold]
    pub(super) fn dismiss(&mut self) {
        if self.watched.link().ended().is_some() {
            return;
        }
        if self.shutdown != Shutdown::None {
            return self.watched.end_of_flood();
        }
        self.dismissal = Some(Box::new(Dismissal::new(self.watched.link())));
        // Whoever polls now or next brings it out.
        self.inline.waker().wake_by_ref();
    }

    #[cold]
    pub(super) fn pump_dismissal<T>(&mut self, io: &mut T)
    where
        T: AsyncWrite + Unpin,
    {
        let may_begin = self.may_begin() && !self.ping.as_ref().is_some_and(Half::owns_the_io);
        let last_stream_id = self.streams.last_of_peer(self.outbound.role());
        let Some(dismissal) = &mut self.dismissal else {
            return;
        };
        if may_begin && !dismissal.is_begun() {
            dismissal.go_away = GoAway::Begun(Half::new(too_many_pings(last_stream_id)));
        }
        let mut cx = Context::from_waker(self.inline.waker());
        let is_out = match &mut dismissal.go_away {
            GoAway::Due => false,
            // Nobody is left to be told of an error.
            GoAway::Begun(half) => half.poll_out(io, &mut cx).is_ready(),
        };
        if is_out || dismissal.poll_timer(&mut cx).is_ready() {
            self.end_dismissal();
        } else {
            // Its handle says so at once; the IO's users go on until the GOAWAY is out.
            self.watched.end_of_flood();
        }
    }

    /// The peer was told, or will not be.
    pub(super) fn end_dismissal(&mut self) {
        self.dismissal = None;
        self.watched.end_of_flood();
        self.inline.wake_lanes();
    }
}
