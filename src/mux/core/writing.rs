//! What goes out.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};

use super::{Core, Ending};
use crate::{
    error::{BoxError, Failure, HeartbeatError, Stage},
    mux::{error::MuxError, shared::Call},
    transport::{Ids, Next, Protocol},
};

impl<P, I> Core<P, I>
where
    P: Protocol,
    I: Ids<P::Message>,
{
    /// Brings out what waits, as far as it goes: heartbeats, then requests.
    pub(super) fn write<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Result<(), BoxError>
    where
        T: Sink<P::Message, Error: Into<BoxError>>,
    {
        self.poll_beat(cx);
        if self.shared.slot.is_due() && self.outbox.lacks_ping() {
            self.make_ping();
        }
        self.write_heartbeats(io.as_mut(), cx)?;
        if self.outbox.goes_first(self.shared.slot.is_due()) {
            self.flush(io.as_mut(), cx)?;
        }
        if !self.outbox.goes_first(self.shared.slot.is_due()) {
            self.write_requests(io.as_mut(), cx)?;
        }
        self.flush(io, cx)
    }

    fn flush<T>(&mut self, io: Pin<&mut T>, cx: &mut Context<'_>) -> Result<(), BoxError>
    where
        T: Sink<P::Message, Error: Into<BoxError>>,
    {
        if self.outbox.is_unflushed()
            && let Poll::Ready(flushed) = io.poll_flush(cx)
        {
            flushed.map_err(Into::into)?;
            self.outbox.flushed();
            if self.outbox.take_unflushed_ping() {
                self.shared.slot.send();
            }
        }
        Ok(())
    }

    fn write_heartbeats<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Result<(), BoxError>
    where
        T: Sink<P::Message, Error: Into<BoxError>>,
    {
        while let Some(next) = self.outbox.next(self.shared.slot.is_due()) {
            let Poll::Ready(ready) = io.as_mut().poll_ready(cx) else {
                return Ok(());
            };
            ready.map_err(Into::into)?;
            let message = self.outbox.take(next, &mut self.nonces, &mut self.protocol);
            if let Some(message) = message {
                self.outbox.wrote();
                io.as_mut().start_send(message).map_err(Into::into)?;
            }
        }
        Ok(())
    }

    fn write_requests<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Result<(), BoxError>
    where
        T: Sink<P::Message, Error: Into<BoxError>>,
    {
        for _ in 0..WRITTEN_AT_ONCE {
            if self.poll_call(cx).is_pending() {
                return Ok(());
            }
            let Poll::Ready(ready) = io.as_mut().poll_ready(cx) else {
                return Ok(());
            };
            ready.map_err(Into::into)?;
            let Some(call) = self.next_call.take() else {
                return Ok(());
            };
            let Call {
                mut request,
                asker,
                queued,
            } = call;
            drop(queued);
            match self.waiting.enter(&self.ids, &mut request, asker) {
                Ok(()) => {
                    self.outbox.wrote();
                    self.outbox.end_turn();
                    io.as_mut().start_send(request).map_err(Into::into)?;
                }
                Err(asker) => {
                    asker.tell(Err(MuxError::NoId));
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Waits for a call whose caller has not left.
    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &self.next_call {
                Some(call) if call.asker.has_left() => self.next_call = None,
                Some(_) => return Poll::Ready(()),
                None => match self.calls.poll_recv(cx) {
                    Poll::Ready(Some(call)) => self.next_call = Some(call),
                    // That nobody is left is seen by the next poll.
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    pub(super) fn write_answer<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Result<(), BoxError>
    where
        T: Sink<P::Message, Error: Into<BoxError>>,
    {
        let Poll::Ready(ready) = io.as_mut().poll_ready(cx) else {
            return Ok(());
        };
        ready.map_err(Into::into)?;
        let answer = self
            .outbox
            .take(Next::Answer, &mut self.nonces, &mut self.protocol);
        if let Some(answer) = answer {
            self.outbox.wrote();
            io.start_send(answer).map_err(Into::into)?;
        }
        Ok(())
    }

    fn poll_beat(&mut self, cx: &mut Context<'_>) {
        if let Some(metronome) = &mut self.metronome
            && metronome.poll_beat(cx).is_ready()
        {
            self.outbox.beat();
        }
    }

    /// A ping is due.
    fn make_ping(&mut self) {
        let nonce = self.nonces.next();
        match self.protocol.ping(nonce) {
            Some(ping) => self.outbox.put_ping(nonce, ping),
            None => {
                self.takes_anything = true;
                self.shared.slot.send();
            }
        }
    }

    /// Says goodbye, as far as that goes at once.
    pub(in crate::mux) fn take_leave<T, E>(
        &mut self,
        mut io: Pin<&mut T>,
        ending: &Ending,
        cx: &mut Context<'_>,
    ) where
        T: Stream<Item = Result<P::Message, E>> + Sink<P::Message>,
    {
        let farewell = match ending {
            Ending::Left => {
                let left = HeartbeatError::new(Failure::Closed, Stage::NotSent);
                self.protocol.farewell(&left)
            }
            Ending::Verdict(error) => self.protocol.farewell(error),
            Ending::Transport(_) => None,
        };
        if let Some(farewell) = farewell
            && let Poll::Ready(Ok(())) = io.as_mut().poll_ready(cx)
        {
            // Nobody is left to be told of an error.
            let _sent = io.as_mut().start_send(farewell);
            let _flushed = io.poll_flush(cx);
        }
    }
}

/// How many requests are written in a poll before what came in is looked at again.
const WRITTEN_AT_ONCE: usize = 128;
