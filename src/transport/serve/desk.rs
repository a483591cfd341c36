//! What is between a connection and the service: requests on their way in, answers on their way out.

use std::{
    collections::VecDeque,
    fmt::{self, Display},
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{
    Sink, Stream, StreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};
use tower_service::Service;

use super::{
    ServeError,
    answers::{Answer, Answers, Finished},
};
use crate::{
    error::Error,
    link::InFlight,
    transport::{HeartbeatStream, Ids, Protocol, until::Until},
};

pub(super) struct Desk<M, S: Service<M>> {
    service: S,
    limit: usize,
    ids: Option<Box<dyn Ids<M> + Send + Sync>>,
    state: State<S::Error>,
    drain: Option<Until>,
    /// Taken from the peer, before the service was asked for readiness: that may be a
    /// permit, which nobody keeps for a peer with nothing to say.
    next: Option<(M, InFlight)>,
    answers: Answers<S::Future>,
    /// Wait for the transport.
    finished: VecDeque<(M, Option<InFlight>)>,
    /// Of the answers that the transport has, and has not flushed.
    unflushed: Vec<Option<InFlight>>,
}

enum State<E> {
    Open,
    /// No request is taken any more.
    Draining,
    /// The peer has closed its side.
    PeerDone,
    /// The service has failed. What it had answered before is still written.
    Failed(E),
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Waits,
    /// There was none for a request, and now there is; or one that is not taken may have another behind it.
    GoesOn,
    Done,
}

type End<R, T, M, S> = ServeError<R, <T as Sink<M>>::Error, <S as Service<M>>::Error>;

impl<M, S: Service<M>> Desk<M, S> {
    pub(super) fn new(service: S, limit: u32) -> Desk<M, S> {
        let mut desk = Desk {
            service,
            limit: 0,
            ids: None,
            state: State::Open,
            drain: None,
            next: None,
            answers: Answers::AsAsked(FuturesOrdered::new()),
            finished: VecDeque::new(),
            unflushed: Vec::new(),
        };
        desk.limit(limit);
        desk
    }

    pub(super) fn limit(&mut self, limit: u32) {
        self.limit = usize::try_from(limit).unwrap_or(usize::MAX);
    }

    pub(super) fn correlate(&mut self, ids: Box<dyn Ids<M> + Send + Sync>) {
        self.ids = Some(ids);
        self.answers = Answers::AsFinished(FuturesUnordered::new());
    }

    pub(super) fn drain_on(&mut self, drain: Until) {
        self.drain = Some(drain);
    }

    fn in_flight(&self) -> usize {
        let asked = usize::from(self.next.is_some()) + self.answers.len();
        asked + self.finished.len() + self.unflushed.len()
    }

    /// Takes requests, as many as there is room for, then writes the answers that are there.
    pub(super) fn take_turn<T, P, E>(
        &mut self,
        mut connection: Pin<&mut HeartbeatStream<T, P>>,
        cx: &mut Context<'_>,
    ) -> Result<Turn, End<E, T, M, S>>
    where
        T: Stream<Item = Result<M, E>> + Sink<M, Error: Display>,
        P: Protocol<Message = M>,
        S::Response: Into<Option<M>>,
        E: Display,
    {
        if let Some(drain) = &mut self.drain
            && drain.poll(cx).is_ready()
        {
            self.drain = None;
            if matches!(self.state, State::Open) {
                self.state = State::Draining;
            }
        }
        let lacked_room = self.take_requests(connection.as_mut(), cx)?;
        if let Some(error) = connection.verdict() {
            return Err(ServeError::Heartbeat(error));
        }
        if matches!(self.state, State::PeerDone) && self.in_flight() > 0 {
            if connection.has_close_handshake() {
                return Ok(Turn::Done);
            }
            if let Some(error) = connection.unwritable() {
                return Err(ServeError::Heartbeat(error));
            }
        }
        self.finish(&connection, cx);
        let is_stuck = self.write(connection.as_mut(), cx)?;
        connection.as_mut().spare_unread(!is_stuck);
        if self.in_flight() == 0 {
            if self.is_closed(connection, cx) {
                return Ok(Turn::Done);
            }
            if matches!(self.state, State::Failed(_))
                && let State::Failed(error) = mem::replace(&mut self.state, State::Open)
            {
                return Err(ServeError::Service(error));
            }
        }
        let is_draining = matches!(self.state, State::Draining);
        let has_room = self.next.is_none() && self.in_flight() < self.limit;
        Ok(if lacked_room && (has_room || is_draining) {
            Turn::GoesOn
        } else {
            Turn::Waits
        })
    }

    /// Closes this side where nobody is to come any more, and nothing is left to answer. What that fails with is no news
    /// to anybody.
    fn is_closed<T, P, E>(
        &self,
        connection: Pin<&mut HeartbeatStream<T, P>>,
        cx: &mut Context<'_>,
    ) -> bool
    where
        T: Stream<Item = Result<M, E>> + Sink<M, Error: Display>,
        P: Protocol<Message = M>,
        E: Display,
    {
        let peer_owes_its_close = match self.state {
            State::Open | State::Failed(_) => return false,
            State::Draining => connection.has_close_handshake(),
            State::PeerDone => false,
        };
        match connection.poll_close(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => !peer_owes_its_close,
            Poll::Ready(Err(_)) => true,
        }
    }

    /// Returns whether it stopped for lack of room, or to let others have their turn.
    fn take_requests<T, P, E>(
        &mut self,
        mut connection: Pin<&mut HeartbeatStream<T, P>>,
        cx: &mut Context<'_>,
    ) -> Result<bool, End<E, T, M, S>>
    where
        T: Stream<Item = Result<M, E>> + Sink<M, Error: Display>,
        P: Protocol<Message = M>,
        E: Display,
    {
        loop {
            if let Some(error) = connection.verdict() {
                return Err(ServeError::Heartbeat(error));
            }
            if self.next.is_none() {
                let has_room = self.in_flight() < self.limit;
                let takes = matches!(self.state, State::Open) && has_room;
                // Reads on, so that pings behind what is not taken are answered, and the peer's end is seen.
                let is_draining = matches!(self.state, State::Draining);
                if !takes && !is_draining {
                    connection.as_mut().poll_ahead(cx);
                    return Ok(!has_room);
                }
                match connection.as_mut().poll_next(cx) {
                    Poll::Pending => return Ok(false),
                    Poll::Ready(Some(Ok(message))) if takes && connection.is_data(&message) => {
                        self.next = Some((message, connection.busy()));
                    }
                    // The next turn goes on: a flood of what is no request keeps nobody from theirs.
                    Poll::Ready(Some(Ok(_))) => return Ok(true),
                    Poll::Ready(Some(Err(Error::Heartbeat(error)))) => {
                        return Err(ServeError::Heartbeat(error));
                    }
                    Poll::Ready(Some(Err(Error::Inner(error)))) => {
                        return Err(ServeError::Read(error));
                    }
                    Poll::Ready(None) => self.state = State::PeerDone,
                }
                continue;
            }
            match self.service.poll_ready(cx) {
                Poll::Pending => {
                    connection.as_mut().poll_ahead(cx);
                    return Ok(false);
                }
                Poll::Ready(Ok(())) => self.call(),
                Poll::Ready(Err(error)) => self.fail(error),
            }
        }
    }

    fn call(&mut self) {
        if let Some((message, in_flight)) = self.next.take() {
            let id = self.ids.as_ref().and_then(|ids| ids.id(&message));
            let future = self.service.call(message);
            self.answers.push(Answer::new(future, id, in_flight));
        }
    }

    fn fail(&mut self, error: S::Error) {
        self.state = State::Failed(error);
        self.next = None;
        self.answers.clear();
    }

    /// Lets the service's futures go on, also while the transport takes nothing.
    fn finish<T, P>(&mut self, connection: &HeartbeatStream<T, P>, cx: &mut Context<'_>)
    where
        T: Stream,
        P: Protocol<Message = M>,
        S::Response: Into<Option<M>>,
    {
        while let Poll::Ready(Some(answer)) = self.answers.poll_next_unpin(cx) {
            let Finished {
                result,
                id,
                in_flight,
            } = answer;
            let mut message = match result.map(Into::into) {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(error) => return self.fail(error),
            };
            match (&self.ids, id) {
                (Some(ids), Some(id)) => ids.set_id(&mut message, id),
                (None, _) => {}
                (Some(_), None) => {
                    connection
                        .span()
                        .in_scope(|| tracing::debug!("answer has no request"));
                    continue;
                }
            }
            self.finished.push_back((message, in_flight));
        }
    }

    /// Returns whether the transport takes nothing.
    fn write<T, P, E>(
        &mut self,
        mut connection: Pin<&mut HeartbeatStream<T, P>>,
        cx: &mut Context<'_>,
    ) -> Result<bool, End<E, T, M, S>>
    where
        T: Stream<Item = Result<M, E>> + Sink<M, Error: Display>,
        P: Protocol<Message = M>,
        E: Display,
    {
        while !self.finished.is_empty() {
            match connection.as_mut().poll_ready(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(ready) => ready.map_err(unwritten)?,
            }
            if let Some((message, in_flight)) = self.finished.pop_front() {
                let sent = connection.as_mut().start_send(message);
                sent.map_err(unwritten)?;
                self.unflushed.push(in_flight);
            }
        }
        if self.unflushed.is_empty() {
            return Ok(false);
        }
        match connection.poll_flush(cx) {
            Poll::Pending => Ok(true),
            Poll::Ready(flushed) => {
                flushed.map_err(unwritten)?;
                self.unflushed.clear();
                Ok(false)
            }
        }
    }
}

fn unwritten<R, W, S>(error: Error<W>) -> ServeError<R, W, S> {
    match error {
        Error::Heartbeat(error) => ServeError::Heartbeat(error),
        Error::Inner(error) => ServeError::Write(error),
    }
}

impl<M, S: Service<M>> fmt::Debug for Desk<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("limit", &self.limit)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
