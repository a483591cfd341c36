//! What goes out beside the user's messages.

use std::{
    fmt::Display,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{Closing, Core, Transport};
use crate::{error::Stage, ping::PingError, transport::protocol::Protocol};

impl<P: Protocol, E> Core<P, Result<P::Message, E>> {
    /// Brings out what waits, as far as it goes.
    pub(super) fn pump<T>(&mut self, mut io: Pin<&mut T>)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        if self.watched.verdict(Stage::NotSent).is_some() {
            return;
        }
        if self.inline.slot().is_due() && self.outbox.lacks_ping() {
            self.make_ping();
        }
        self.write_out(io.as_mut());
        if !self.outbox.is_unflushed() || self.watched.is_broken() {
            return;
        }
        let mut cx = Context::from_waker(self.inline.waker());
        match io.poll_flush(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.outbox.flushed();
                if self.outbox.take_unflushed_ping() && self.inline.slot().send() {
                    self.watched.wake_driver();
                }
            }
            Poll::Ready(Err(error)) => self.watched.broke(&error),
        }
    }

    /// Hands the transport what it takes of what waits.
    pub(super) fn write_out<T>(&mut self, mut io: Pin<&mut T>)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        let waker = self.inline.waker().clone();
        self.write_with(io.as_mut(), &mut Context::from_waker(&waker));
    }

    fn write_with<T>(&mut self, mut io: Pin<&mut T>, cx: &mut Context<'_>)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        while let Some(next) = self.outbox.next(self.inline.slot().is_due()) {
            match io.as_mut().poll_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.watched.broke(&error),
            }
            let message = self.outbox.take(next, &mut self.nonces, &mut self.protocol);
            let Some(message) = message else {
                continue;
            };
            self.outbox.wrote();
            if let Err(error) = io.as_mut().start_send(message) {
                return self.watched.broke(&error);
            }
        }
    }

    /// A ping is due.
    fn make_ping(&mut self) {
        let nonce = self.nonces.next();
        match (self.protocol.ping(nonce), self.closing) {
            (Some(ping), Closing::None) if self.settings.pings => self.outbox.put_ping(nonce, ping),
            // Pings wait, and for `ready_timeout` only: so does closing.
            (_, Closing::Begun) => {}
            (_, Closing::Done) if !self.has_close_handshake() => {
                let refusal = PingError::unsupported("connection was closed for writing");
                self.inline.slot().refuse(refusal);
                self.watched.wake_driver();
            }
            (_, Closing::None | Closing::Done) => {
                self.takes_anything = true;
                if self.inline.slot().send() {
                    self.watched.wake_driver();
                }
            }
        }
    }

    /// This side was closed.
    pub(super) fn after_close(&mut self) {
        if self.outbox.take_unflushed_ping() && self.inline.slot().send() {
            self.watched.wake_driver();
        }
        if self.has_close_handshake() {
            self.watched.link().want_ping();
        }
    }

    /// Says goodbye, as far as that goes at once.
    pub(in crate::transport) fn take_leave<T>(&mut self, mut io: Pin<&mut T>)
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        if self.closing != Closing::None || self.watched.is_broken() {
            return;
        }
        let Some(error) = self.watched.verdict(Stage::NotSent) else {
            return;
        };
        let mut cx = Context::from_waker(Waker::noop());
        self.write_with(io.as_mut(), &mut cx);
        if self.outbox.next(false).is_none()
            && let Some(farewell) = self.protocol.farewell(&error)
            && let Poll::Ready(Ok(())) = io.as_mut().poll_ready(&mut cx)
        {
            // Nobody is left to be told of an error.
            let _sent = io.as_mut().start_send(farewell);
        }
        let _flushed = io.poll_flush(&mut cx);
    }

    /// Polls the transport for the writer; while a heartbeat waits for it as well, for both lanes.
    pub(super) fn as_writer<R>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> R,
    ) -> R {
        if self.outbox.waits(self.inline.slot().is_due()) {
            poll(&mut Context::from_waker(self.inline.waker()))
        } else {
            poll(cx)
        }
    }
}
