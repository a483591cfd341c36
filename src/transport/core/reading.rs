//! What comes in.

use std::{
    fmt::Display,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{Closing, Core, Reading, Transport};
use crate::{
    error::Failure,
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
            match ready!(next) {
                Some(Ok(message)) => {
                    let message = self.take_in(message);
                    if self.outbox.has_answer() {
                        self.write_out(io.as_mut());
                    }
                    if let Some(message) = message {
                        return Poll::Ready(Some(Ok(message)));
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

    /// Reads for nobody, so that a pong is found, and keeps what else there is for the reader.
    pub(super) fn read_ahead<T>(&mut self, mut io: Pin<&mut T>)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        let waker = self.inline.waker().clone();
        let mut cx = Context::from_waker(&waker);
        let before = self.ahead.len();
        while self.ahead.len() < AHEAD && self.reading == Reading::Open {
            let next = io.as_mut().poll_next(&mut cx);
            match self.read_from(next, io.as_mut(), &mut cx) {
                Poll::Pending | Poll::Ready(None) => break,
                Poll::Ready(Some(item)) => self.ahead.push_back(item),
            }
        }
        if self.ahead.len() >= AHEAD && self.is_judged() {
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
            Kind::Ping if self.closing == Closing::None => match self.protocol.pong(&message) {
                Some(pong) => self.outbox.answer(pong),
                None => self.outbox.wrote(),
            },
            Kind::Ping => {}
            Kind::Pong(nonce) => self.take_pong(nonce),
        }
        self.settings.shows_heartbeats.then_some(message)
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
