//! One connection without its transport: what is read, what is written, who is told.

mod reading;
mod writing;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use futures_util::{Sink, Stream};
use reading::{READ_AT_ONCE, Read};
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{
    builder::OnUnsolicited,
    error::MuxError,
    shared::{Call, Shared},
    waiting::Waiting,
};
use crate::{
    error::{BoxError, Cause, Failure, HeartbeatError, Stage},
    link::Link,
    moment::Clock,
    transport::{Ear, Ids, Metronome, Nonces, Outbox, Protocol},
};

pub(super) struct Core<P: Protocol, I> {
    protocol: P,
    ids: I,
    waiting: Waiting<P::Message>,
    calls: mpsc::UnboundedReceiver<Call<P::Message>>,
    /// Next to be written, once the transport takes it.
    next_call: Option<Call<P::Message>>,
    shared: Arc<Shared>,
    /// The heartbeat's, if there is one.
    link: Option<Arc<Link>>,
    ear: Option<Ear>,
    nonces: Nonces,
    metronome: Option<Metronome>,
    outbox: Outbox<P::Message>,
    /// Whether a ping is out that has no words, so that whatever comes in is its pong.
    takes_anything: bool,
    /// With what the transport failed to write. The peer may have answered before it closed.
    broken: Option<BoxError>,
    /// How many more polls look for such answers.
    looks_left: u32,
    on_unsolicited: Option<OnUnsolicited<P::Message>>,
}

/// Why a connection ends.
pub(super) enum Ending {
    /// Nobody uses it any more.
    Left,
    /// The heartbeat said so.
    Verdict(HeartbeatError),
    /// The transport did: with an error, or because the peer closed it.
    Transport(Option<BoxError>),
}

impl Ending {
    /// Whether the peer may be told, and answer.
    pub(super) fn is_in_good_order(&self) -> bool {
        match self {
            Ending::Left => true,
            Ending::Verdict(error) => error.failure().allows_goodbye(),
            Ending::Transport(_) => false,
        }
    }
}

impl<P: Protocol, I> Core<P, I> {
    pub(super) fn new(
        protocol: P,
        ids: I,
        calls: mpsc::UnboundedReceiver<Call<P::Message>>,
        shared: Arc<Shared>,
        on_unsolicited: Option<OnUnsolicited<P::Message>>,
    ) -> Self {
        let beats = protocol.beat_interval();
        Core {
            metronome: beats.map(|interval| Metronome::new(interval, Clock::start())),
            protocol,
            ids,
            waiting: Waiting::new(shared.in_order),
            calls,
            next_call: None,
            shared,
            link: None,
            ear: None,
            nonces: Nonces::new(),
            outbox: Outbox::new(),
            takes_anything: false,
            broken: None,
            looks_left: LOOKS,
            on_unsolicited,
        }
    }

    /// What comes in is evidence for `link` from here on, and its end the connection's.
    pub(super) fn watch(&mut self, link: &Arc<Link>) {
        if let Some(ear) = &self.ear {
            ear.listen_for(link);
        }
        let shared = Arc::clone(&self.shared);
        link.on_end(Box::new(move |error| shared.cut(error)));
        self.link = Some(Arc::clone(link));
    }

    pub(super) fn hear_bytes(&mut self, ear: &Ear) {
        if let Some(link) = &self.link {
            ear.listen_for(link);
        }
        self.ear = Some(ear.clone());
    }

    /// Everybody is told, the heartbeat first: it explains what the others are told.
    pub(super) fn end(&mut self, ending: Ending) {
        if self.shared.ended().is_some() {
            return;
        }
        let error = match ending {
            Ending::Left => HeartbeatError::new(Failure::Closed, Stage::NotSent),
            Ending::Verdict(error) => error,
            Ending::Transport(source) => {
                let cause = Cause {
                    source: source.map(Arc::from),
                    ..Cause::new(Failure::Transport)
                };
                if let Some(link) = &self.link {
                    link.leave(cause.clone());
                }
                HeartbeatError::shared(Arc::new(cause), Stage::NotSent)
            }
        };
        self.shared.end(error.clone());
        self.let_go(&error);
    }

    fn let_go(&mut self, error: &HeartbeatError) {
        // What is sent into it from here on fails there.
        self.calls.close();
        let refused = || MuxError::Refused(error.clone().at(Stage::NotSent));
        if let Some(call) = self.next_call.take() {
            call.asker.tell(Err(refused()));
        }
        loop {
            match self.calls.try_recv() {
                Ok(call) => {
                    call.asker.tell(Err(refused()));
                }
                // A thread found it open and was interrupted before its call was in, which nobody would take out later.
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        for asker in self.waiting.drain() {
            let error = error.clone().at(Stage::AwaitingResponse);
            asker.tell(Err(MuxError::GivenUp(error)));
        }
    }
}

impl<P, I> Core<P, I>
where
    P: Protocol,
    I: Ids<P::Message>,
{
    /// Reads and writes until there is a reason to end.
    pub(super) fn poll_open<T, E>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Ending>
    where
        T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Into<BoxError>>,
        E: Into<BoxError>,
    {
        self.shared.register(cx.waker());
        // What came in is told first, so it wins over a verdict.
        if let Read::Over(error) = self.read(io.as_mut(), cx) {
            return Poll::Ready(Ending::Transport(self.broken.take().or(error)));
        }
        if let Some(verdict) = self.shared.verdict() {
            return Poll::Ready(Ending::Verdict(verdict.clone()));
        }
        if self.calls.is_closed() {
            return Poll::Ready(Ending::Left);
        }
        if self.broken.is_none() {
            self.broken = self.write(io.as_mut(), cx).err();
        }
        if self.broken.is_none() {
            return Poll::Pending;
        }
        if self.looks_left > 0 && matches!(self.read(io, cx), Read::More) {
            self.looks_left -= 1;
            return Poll::Pending;
        }
        Poll::Ready(Ending::Transport(self.broken.take()))
    }

    /// Closes the transport in good order.
    pub(super) fn poll_close<T, E>(
        &mut self,
        mut io: Pin<&mut T>,
        closed: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<()>
    where
        T: Stream<Item = Result<P::Message, E>> + Sink<P::Message>,
    {
        if !*closed {
            *closed = ready!(io.as_mut().poll_close(cx)).is_ok();
        }
        if !*closed || !self.protocol.has_close_handshake() {
            return Poll::Ready(());
        }
        // What a peer still sends is nobody's; its end is all that is awaited.
        for _ in 0..READ_AT_ONCE {
            match ready!(io.as_mut().poll_next(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: Protocol, I> Drop for Core<P, I> {
    fn drop(&mut self) {
        self.end(Ending::Transport(Some(
            "task that ran the connection is gone".into(),
        )));
    }
}

/// A peer that never stops sending would hold up the end of a connection that nothing can be written to.
const LOOKS: u32 = 64;
