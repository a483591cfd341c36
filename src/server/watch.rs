//! The driver of one connection, polled with it: one timer, and whatever is due.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::time::Sleep;

use super::{phase::Action, shared::Shared};
use crate::{lanes::Lane, moment::Moment};

pub(super) struct Watch {
    pub(super) shared: Arc<Shared>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer fires; never, if it was not set since it fired.
    armed: Moment,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Watch {
        Watch {
            shared,
            timer: None,
            armed: Moment::NEVER,
        }
    }

    /// What is to be done. To be polled after the connection itself, which is what lets traffic win.
    pub(super) fn poll(&mut self, lane: Lane, cx: &Context<'_>) -> Poll<Action> {
        // Before the look: what comes after it wakes.
        self.shared.register(lane, cx.waker());
        let mut fired = None;
        loop {
            let next = match self.shared.attend(fired.take()) {
                Ok(action) => return Poll::Ready(action),
                Err(next) => next,
            };
            if !self.has_fired(next) {
                return Poll::Pending;
            }
            fired = Some(self.armed);
            self.armed = Moment::NEVER;
        }
    }

    /// Keeps the timer on `next`, and tells whether it has fired. One that is set too early, because a
    /// limit was put off, stays: when it fires it is set anew.
    fn has_fired(&mut self, next: Moment) -> bool {
        let mut is_news = self.shared.rang();
        if next < self.armed {
            let Some(instant) = self.shared.hub().clock.instant(next) else {
                return false;
            };
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(instant),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(instant))),
            }
            self.armed = next;
            is_news = true;
        }
        let Some(timer) = self.timer.as_mut().filter(|_| is_news) else {
            return false;
        };
        if self.armed == Moment::NEVER {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.shared));
        timer
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("shared", &self.shared)
            .field("armed", &self.armed)
            .finish_non_exhaustive()
    }
}
