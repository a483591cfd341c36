//! What comes in.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};

use super::Core;
use crate::{
    error::{BoxError, panic_message},
    mux::waiting::Whose,
    transport::{Answers, Ids, Kind, Protocol},
};

impl<P, I> Core<P, I>
where
    P: Protocol,
    I: Ids<P::Message>,
{
    pub(super) fn read<T, E>(&mut self, mut io: Pin<&mut T>, cx: &mut Context<'_>) -> Read
    where
        T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Into<BoxError>>,
        E: Into<BoxError>,
    {
        for _ in 0..READ_AT_ONCE {
            match io.as_mut().poll_next(cx) {
                Poll::Pending => return Read::All,
                Poll::Ready(Some(Ok(message))) => {
                    self.take_in(message);
                    // Each ping its answer, as far as the transport takes them.
                    if self.outbox.has_answer() && self.broken.is_none() {
                        self.broken = self.write_answer(io.as_mut(), cx).err();
                    }
                }
                Poll::Ready(Some(Err(error))) => return Read::Over(Some(error.into())),
                Poll::Ready(None) => return Read::Over(None),
            }
        }
        cx.waker().wake_by_ref();
        Read::More
    }

    fn take_in(&mut self, message: P::Message) {
        if let Some(link) = &self.link {
            link.heard();
        }
        if self.takes_anything {
            self.takes_anything = false;
            self.shared.slot.answer();
        }
        match self.protocol.classify(&message) {
            Kind::Data => self.hand_out(message),
            Kind::Ping => match self.protocol.pong(&message) {
                Some(pong) => self.outbox.answer(pong),
                None => self.outbox.wrote(),
            },
            Kind::Pong(nonce) => self.take_pong(nonce),
            Kind::Other => self.hand_over(message),
        }
    }

    fn hand_out(&mut self, mut message: P::Message) {
        match self.waiting.take(&self.ids, &mut message) {
            Whose::Asker(asker) => {
                if !asker.tell(Ok(message)) {
                    self.report("answer comes too late");
                }
            }
            Whose::Nobody => self.report("answer to no request"),
            Whose::Peer => self.hand_over(message),
        }
    }

    /// A message of the peer's own.
    fn hand_over(&self, message: P::Message) {
        let Some(hook) = &self.on_unsolicited else {
            self.report("message to nobody");
            return;
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(message))) {
            tracing::error!(message = panic_message(&*panic), "hook panicked");
        }
    }

    fn take_pong(&mut self, nonce: Option<u64>) {
        match self.nonces.take(nonce) {
            Answers::Newest => {
                // Then it is out, whatever else its flush waits for.
                if self.outbox.take_unflushed_ping() {
                    self.shared.slot.send();
                }
                self.shared.slot.answer();
            }
            Answers::Older | Answers::Nothing => {}
        }
    }

    #[cold]
    fn report(&self, what: &'static str) {
        let span = self
            .link
            .as_ref()
            .map_or_else(tracing::Span::none, |link| link.span());
        let _entered = span.enter();
        tracing::debug!("{what}");
    }
}

/// How far a poll got with what there is to read.
pub(super) enum Read {
    All,
    /// It will be polled again at once.
    More,
    /// The transport has ended.
    Over(Option<BoxError>),
}

/// How many messages are read in a poll before others get their turn.
pub(super) const READ_AT_ONCE: usize = 128;
