//! What comes in.

use std::{
    fmt::Display,
    pin::Pin,
    task::{Context, Poll},
};

use super::{Closing, Core, Reading, Transport, attending::Reads};
use crate::{
    error::{Failure, Stage},
    lanes::Lane,
    transport::{
        nonces::Answers,
        protocol::{Kind, Protocol},
    },
};

impl<P: Protocol, E> Core<P, Result<P::Message, E>> {
    /// Reads what is to be handed on, of which `next` comes first.
    pub(super) fn read_from<T>(
        &mut self,
        mut next: Poll<Option<Result<P::Message, E>>>,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<P::Message, E>>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        for left in (0..SWALLOWED).rev() {
            let Poll::Ready(item) = next else {
                if let Some(police) = &mut self.police {
                    police.on_empty();
                }
                return Poll::Pending;
            };
            match item {
                Some(Ok(message)) => {
                    let message = self.take_in(message);
                    if self.outbox.has_answer() {
                        self.write_out(io.as_mut());
                    }
                    if let Some(message) = message {
                        return Poll::Ready(Some(Ok(message)));
                    }
                    // The verdict is there, and what lies behind a flood is not read.
                    if self.has_sent_off() {
                        return Poll::Pending;
                    }
                }
                Some(Err(error)) => {
                    self.watched.failed(&error);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.reading = Reading::Finished;
                    self.watched.finished();
                    return Poll::Ready(None);
                }
            }
            if left == 0 {
                break;
            }
            next = io.as_mut().poll_next(cx);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// For a reader that takes nothing for now.
    pub(in crate::transport) fn poll_ahead<T>(&mut self, mut io: Pin<&mut T>, cx: &mut Context<'_>)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        // Before the alarm is looked at: one that rings from here on wakes the lane.
        self.inline.register(Lane::Read, cx.waker());
        if self.watched.verdict(Stage::NotSent).is_none() {
            self.read_ahead(io.as_mut());
            if self.outbox.is_unflushed() {
                self.pump(io.as_mut());
            }
        }
        self.attend(io, Reads::Ahead);
    }

    /// Reads for nobody, so that a pong is found, and keeps what else there is for the reader.
    pub(super) fn read_ahead<T>(&mut self, mut io: Pin<&mut T>)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        let waker = self.inline.waker().clone();
        let mut cx = Context::from_waker(&waker);
        let before = self.ahead.len();
        let is_open = self.reading == Reading::Open && !self.has_sent_off();
        while is_open && self.ahead.len() < AHEAD {
            let next = io.as_mut().poll_next(&mut cx);
            match self.read_from(next, io.as_mut(), &mut cx) {
                Poll::Pending | Poll::Ready(None) => break,
                Poll::Ready(Some(item)) => self.ahead.push_back(item),
            }
        }
        let is_spared = self.spares_unread || before < AHEAD;
        if self.ahead.len() >= AHEAD && is_spared && self.is_judged() {
            // The pong may lie behind it, and messages that use the connection.
            self.watched.heard();
            self.watched.used();
        }
        if self.ahead.len() > before {
            self.inline.wake_lanes();
        }
    }

    /// A message came in. Returns it if it is to be handed on.
    fn take_in(&mut self, message: P::Message) -> Option<P::Message> {
        self.watched.heard();
        if self.takes_anything {
            self.takes_anything = false;
            self.answered();
        }
        match self.protocol.classify(&message) {
            Kind::Data => {
                self.watched.used();
                return Some(message);
            }
            Kind::Other => return Some(message),
            Kind::Ping if self.sends_off() => {
                self.watched.end(Failure::PingFlood);
                return None;
            }
            Kind::Ping if self.closing == Closing::None => match self.protocol.pong(&message) {
                Some(pong) => self.outbox.answer(pong),
                None => self.outbox.wrote(),
            },
            Kind::Ping => {}
            Kind::Pong(nonce) => self.take_pong(nonce),
        }
        self.settings.shows_heartbeats.then_some(message)
    }

    /// A ping came. Whether it was one too many.
    fn sends_off(&mut self) -> bool {
        match &mut self.police {
            Some(police) => police.sends_off(self.watched.is_idle()),
            None => false,
        }
    }

    fn has_sent_off(&self) -> bool {
        let police = self.police.as_ref();
        police.is_some_and(|police| police.has_sent_off())
    }

    fn take_pong(&mut self, nonce: Option<u64>) {
        match self.nonces.take(nonce) {
            Answers::Newest => {
                // Then it is out, whatever else its flush waits for.
                if self.outbox.take_unflushed_ping() {
                    self.inline.slot().send();
                }
                self.answered();
            }
            Answers::Older => {}
            Answers::Nothing if self.settings.is_strict => {
                self.watched.end(Failure::UnexpectedPong);
            }
            Answers::Nothing => {}
        }
    }

    fn answered(&mut self) {
        if self.inline.slot().answer() {
            self.watched.wake_driver();
        }
    }
}

/// How many messages are read for nobody. Who leaves more unread is not judged.
const AHEAD: usize = 16;

/// How many heartbeats of the peer's are taken in a poll before others get their turn.
const SWALLOWED: usize = 128;
