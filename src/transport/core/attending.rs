//! What a lane does for the alarm.

use std::{fmt::Display, pin::Pin, task::Context};

use super::{Closing, Core, Transport};
use crate::transport::protocol::Protocol;

impl<P: Protocol, E> Core<P, Result<P::Message, E>> {
    /// Does what the alarm rang for.
    #[inline]
    pub(super) fn attend<T>(&mut self, io: Pin<&mut T>, reads: Reads)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        if self.inline.rings() {
            self.attend_alarm(io, reads);
        }
    }

    #[cold]
    fn attend_alarm<T>(&mut self, mut io: Pin<&mut T>, reads: Reads)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        let mut rounds = 0;
        while self.inline.hush(&mut rounds) {
            self.poll_timers();
            self.inline.poll_driver();
            self.pump(io.as_mut());
            // Nobody may be reading, and a pong lie there, or the peer's ping. Not before the driver knows
            // that a ping is out: it would call it off for what comes in.
            let is_known = !self.inline.rings();
            if reads == Reads::Ahead && is_known {
                self.read_ahead(io.as_mut());
                self.pump(io.as_mut());
            }
        }
    }

    fn poll_timers(&mut self) {
        let mut cx = Context::from_waker(self.inline.waker());
        if let Some(until) = &mut self.until
            && until.poll(&mut cx).is_ready()
        {
            self.until = None;
            self.watched.close();
        }
        if self.watched.link().ended().is_some() {
            self.metronome = None;
            self.watched.await_close(self.inline.waker());
        }
        if let Some(metronome) = &mut self.metronome
            && metronome.poll_beat(&mut cx).is_ready()
            && self.closing == Closing::None
        {
            self.outbox.beat();
        }
    }

    /// Whether a limit runs that unread input would falsify.
    pub(super) fn is_judged(&self) -> bool {
        let slot = self.inline.slot();
        slot.is_due() || slot.is_sent() || self.watched.limits_silence()
    }
}

/// Whether a lane that attends to the alarm reads as well: not the reader that has just found
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Ahead,
    Nothing,
}
