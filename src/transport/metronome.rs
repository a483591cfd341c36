//! When the next beat is due.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep_until};

use crate::{
    config::MILLISECOND,
    moment::{Clock, Moment},
};

pub(crate) struct Metronome {
    interval: Duration,
    clock: Clock,
    due_at: Moment,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Metronome {
    pub(crate) fn new(interval: Duration, clock: Clock) -> Metronome {
        let interval = interval.max(MILLISECOND);
        Metronome {
            interval,
            clock,
            due_at: clock.now().after(interval),
            timer: None,
        }
    }

    /// Whether a beat is due; if not, `cx` is woken for it. After a pause the beats that were missed are not made up for.
    pub(crate) fn poll_beat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.clock.now();
        let is_due = self.due_at <= now;
        if is_due {
            let next = self.due_at.after(self.interval);
            self.due_at = if next <= now {
                now.after(self.interval)
            } else {
                next
            };
        }
        let Some(at) = self.clock.instant(self.due_at) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        if timer.as_mut().poll(cx).is_ready() {
            // The clock has not got there yet, or has by now: the next look tells.
            cx.waker().wake_by_ref();
        }
        if is_due {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
