//! The heartbeat of one message transport, without the transport.
//!
//! # Who polls what
//!
//! As at the IO (`h2_io`): the driver, pings, answers and beats, and a reading ahead where nobody reads, are
//! polled by whichever lane comes by, with the alarm, which wakes both lanes: a `Sink` keeps one waker, and
//! the lane that polled for a heartbeat may never come back. What a lane asks for itself is polled with that
//! lane's own waker, unless a heartbeat waits for the same.
//!
//! # Readiness
//!
//! A `Sink` is asked before each message, and a heartbeat may come between the user's question and the
//! message. So the transport is asked once more for that message, which is held here while the transport takes nothing:
//! at most one, since the user has to ask before the next.

mod attending;
mod calm;
mod reading;
mod writing;

use std::{
    collections::VecDeque,
    fmt::{self, Display},
    pin::Pin,
    task::{Context, Poll, ready},
};

use attending::Reads;
use futures_util::{Sink, Stream};

use super::{
    metronome::Metronome,
    nonces::Nonces,
    outbox::Outbox,
    protocol::{Kind, Protocol},
    settings::Settings,
    until::Until,
    watched::Watched,
};
use crate::{
    error::{Error, HeartbeatError, Stage},
    inline::Inline,
    lanes::Lane,
    ping_policy::{PingPolicy, Police},
};

/// `I` is the transport's item.
pub(super) struct Core<P: Protocol, I> {
    pub(super) watched: Watched,
    pub(super) settings: Settings,
    pub(super) police: Option<Box<Police>>,
    until: Option<Until>,
    inline: Inline,
    protocol: P,
    nonces: Nonces,
    metronome: Option<Metronome>,
    outbox: Outbox<P::Message>,
    /// Whether a ping is out that has no words, so that whatever comes in is its pong.
    takes_anything: bool,
    /// Whether who leaves much unread is taken to live.
    pub(super) spares_unread: bool,
    /// What was read while nobody asked.
    ahead: VecDeque<I>,
    /// How many messages were sent since somebody read.
    unread_sends: u8,
    reading: Reading,
    closing: Closing,
    /// What the last poll left; see `is_calm`.
    is_calm: bool,
}

/// What a transport says to its reader.
pub(super) type Said<I> = Poll<Option<I>>;

/// What a [`Core`] needs of a transport.
pub(super) trait Transport<M>:
    Stream<Item = Result<M, Self::ReadError>> + Sink<M, Error = Self::WriteError>
{
    type ReadError: Display;
    type WriteError: Display;
}

impl<T, M, R, W> Transport<M> for T
where
    T: Stream<Item = Result<M, R>> + Sink<M, Error = W>,
    R: Display,
    W: Display,
{
    type ReadError = R;
    type WriteError = W;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The transport has ended.
    Finished,
    /// The reader was told of that, or of the verdict.
    Told,
}

/// No heartbeat may be written any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    None,
    Begun,
    Done,
}

impl<P: Protocol, I> Core<P, I> {
    pub(super) fn new(protocol: P, watched: Watched, inline: Inline) -> Core<P, I> {
        let clock = watched.link().hub.clock();
        let beats = protocol.beat_interval();
        Core {
            watched,
            settings: Settings::default(),
            police: None,
            until: None,
            inline,
            protocol,
            nonces: Nonces::new(),
            metronome: beats.map(|interval| Metronome::new(interval, clock)),
            outbox: Outbox::new(),
            takes_anything: false,
            spares_unread: true,
            ahead: VecDeque::new(),
            unread_sends: 0,
            reading: Reading::Open,
            closing: Closing::None,
            is_calm: false,
        }
    }

    /// Whether the transport is of no more use. One that broke may have something to read left.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.watched.verdict(Stage::NotSent).is_some()
            && (self.reading != Reading::Open || !self.watched.has_rest())
    }

    /// What a writer is told where nothing more can be written.
    #[inline]
    pub(super) fn writable<E>(&self, stage: Stage) -> Result<(), Error<E>> {
        match self.watched.verdict(stage) {
            Some(error) => Err(Error::Heartbeat(error)),
            None => Ok(()),
        }
    }

    /// Of one that broke, or whose peer has closed its side, there may be something to read, or to write.
    pub(super) fn final_verdict(&self) -> Option<HeartbeatError> {
        let verdict = self.watched.verdict(Stage::NotSent);
        verdict.filter(|_| !self.watched.has_rest())
    }

    pub(super) fn is_data(&self, message: &P::Message) -> bool {
        self.protocol.classify(message) == Kind::Data
    }

    pub(super) fn has_close_handshake(&self) -> bool {
        self.protocol.has_close_handshake()
    }

    pub(super) fn police(&mut self, policy: PingPolicy) {
        let clock = self.watched.link().hub.clock();
        self.police = Some(Box::new(Police::new(policy, clock)));
    }

    pub(super) fn watch(&mut self, until: Until) {
        self.until = Some(until);
        // Whoever polls next polls it, too.
        self.inline.waker().wake_by_ref();
    }

    pub(super) fn is_terminated(&self) -> bool {
        let is_over = match self.reading {
            Reading::Open => false,
            Reading::Finished => self.final_verdict().is_none(),
            Reading::Told => true,
        };
        is_over && self.ahead.is_empty()
    }

    fn tell<M, E>(&mut self, error: HeartbeatError) -> Option<Result<M, Error<E>>> {
        self.reading = Reading::Told;
        Some(Err(Error::Heartbeat(error)))
    }
}

impl<P: Protocol, E> Core<P, Result<P::Message, E>> {
    /// `first` is what the transport has just said to the reader, if it was asked.
    pub(super) fn poll_next<T>(
        &mut self,
        first: Option<Said<Result<P::Message, E>>>,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<P::Message, Error<E>>>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        self.unread_sends = 0;
        let first = match first {
            Some(first) => first,
            None => {
                if let Some(over) = self.next_without_io() {
                    return Poll::Ready(over);
                }
                io.as_mut().poll_next(cx)
            }
        };
        let read = self.read_from(first, io.as_mut(), cx);
        if self.outbox.is_unflushed() {
            self.pump(io.as_mut());
        }
        if let Poll::Ready(item) = read {
            // What came in is told first, so it wins over a verdict that is due.
            self.attend(io, Reads::Ahead);
            return Poll::Ready(match item {
                Some(item) => Some(item.map_err(Error::Inner)),
                None => self.next_without_io().flatten(),
            });
        }
        // Before the alarm is looked at: one that rings from here on wakes the lane.
        self.inline.register(Lane::Read, cx.waker());
        self.attend(io, Reads::Nothing);
        match self.watched.verdict(Stage::NotSent) {
            Some(error) => Poll::Ready(self.tell(error)),
            None => Poll::Pending,
        }
    }

    /// What the reader gets without the transport: what was read ahead, then the end.
    pub(super) fn next_without_io(&mut self) -> Option<Option<Result<P::Message, Error<E>>>> {
        if let Some(item) = self.ahead.pop_front() {
            return Some(Some(item.map_err(Error::Inner)));
        }
        match self.reading {
            Reading::Open => {
                let error = self.final_verdict()?;
                Some(self.tell(error))
            }
            // A ping or an answer that the peer's end has overtaken is no news.
            Reading::Finished => {
                self.reading = Reading::Told;
                let verdict = self.final_verdict();
                Some(verdict.map(|error| Err(Error::Heartbeat(error))))
            }
            Reading::Told => Some(None),
        }
    }

    /// `said` is what the transport has just said to the writer, if it was asked.
    pub(super) fn poll_ready<T>(
        &mut self,
        said: Option<Poll<Result<(), T::WriteError>>>,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<T::WriteError>>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        let ready = match said {
            Some(said) => said,
            None => {
                ready!(self.poll_turn(io.as_mut(), cx, Stage::NotSent))?;
                if self.outbox.goes_first(self.inline.slot().is_due()) {
                    return self.park(io, cx, Stage::NotSent);
                }
                self.as_writer(cx, |cx| io.as_mut().poll_ready(cx))
            }
        };
        match ready {
            Poll::Ready(Ok(())) => {
                self.outbox.promise_readiness();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error))),
            Poll::Pending => self.park(io, cx, Stage::NotSent),
        }
    }

    /// Whether the transport takes a message now. If not, it is to be held.
    pub(super) fn ready_to_send<T>(&mut self, io: Pin<&mut T>) -> Result<bool, Error<T::WriteError>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        self.writable(Stage::NotSent)?;
        self.sends();
        if let Some(police) = &mut self.police {
            police.on_sent();
        }
        if !self.outbox.is_readiness_used() {
            return Ok(true);
        }
        let mut cx = Context::from_waker(self.inline.waker());
        match io.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(self.fail(error)),
            Poll::Pending => Ok(false),
        }
    }

    /// `said` as with [`poll_ready`](Core::poll_ready).
    pub(super) fn poll_flush<T>(
        &mut self,
        said: Option<Poll<Result<(), T::WriteError>>>,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<T::WriteError>>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        // What was taken from the user may be on its way.
        let stage = Stage::AwaitingResponse;
        let flushed = match said {
            Some(said) => said,
            None => {
                ready!(self.poll_turn(io.as_mut(), cx, stage))?;
                self.as_writer(cx, |cx| io.as_mut().poll_flush(cx))
            }
        };
        match flushed {
            Poll::Ready(flushed) => Poll::Ready(flushed.map_err(|error| self.fail(error))),
            Poll::Pending => self.park(io, cx, stage),
        }
    }

    pub(super) fn poll_close<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<T::WriteError>>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        // A peer that is gone must not keep the connection from being closed.
        if self.closing == Closing::Done || self.watched.verdict(Stage::NotSent).is_some() {
            return Poll::Ready(Ok(()));
        }
        let stage = Stage::AwaitingResponse;
        ready!(self.poll_turn(io.as_mut(), cx, stage))?;
        self.closing = Closing::Begun;
        self.outbox.close();
        match self.as_writer(cx, |cx| io.as_mut().poll_close(cx)) {
            Poll::Ready(closed) => {
                closed.map_err(|error| self.fail(error))?;
                self.closing = Closing::Done;
                self.after_close();
                self.attend(io, Reads::Ahead);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.park(io, cx, stage),
        }
    }

    /// The heartbeat's part of a writer's poll, up to where the writer may go on.
    fn poll_turn<T, W>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &Context<'_>,
        stage: Stage,
    ) -> Poll<Result<(), Error<W>>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        self.attend(io.as_mut(), Reads::Ahead);
        if self.outbox.waits(self.inline.slot().is_due()) {
            self.pump(io.as_mut());
        }
        self.writable(stage)?;
        if self.outbox.holds() {
            return self.park(io, cx, stage);
        }
        Poll::Ready(Ok(()))
    }

    /// The writer waits: for the transport, or for the verdict.
    fn park<T, R, W>(
        &mut self,
        io: Pin<&mut T>,
        cx: &Context<'_>,
        stage: Stage,
    ) -> Poll<Result<R, Error<W>>>
    where
        T: Transport<P::Message, ReadError = E>,
        E: Display,
    {
        // Before the alarm is looked at: one that rings from here on wakes the lane.
        self.inline.register(Lane::Write, cx.waker());
        self.attend(io, Reads::Ahead);
        self.writable(stage)?;
        Poll::Pending
    }

    #[cold]
    pub(super) fn fail<W: Display>(&mut self, error: W) -> Error<W> {
        self.watched.failed(&error);
        Error::Inner(error)
    }
}

impl<P: Protocol, I> fmt::Debug for Core<P, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("watched", &self.watched)
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}
