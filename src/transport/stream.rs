//! A message transport with a heartbeat.

use std::{
    fmt::{self, Display},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream, stream::FusedStream};
use pin_project_lite::pin_project;
use tracing::Span;

use super::{
    core::{Core, Said},
    ear::Ear,
    protocol::Protocol,
    until::Until,
    watched::Watched,
};
use crate::{
    config::Config,
    error::{Error, HeartbeatError, Stage},
    handle::Handle,
    inline::Inline,
    link::InFlight,
    ping_policy::PingPolicy,
};

pin_project! {
    /// A transport of messages, any `Stream` + `Sink`, whose peer is pinged, and answered.
    ///
    /// It is a `Stream` and a `Sink` of the same messages, and may be `split()` into halves that two tasks drive. All its work
    /// is done while either half is polled: there is no task. One that nobody polls is not watched; a
    /// reader that comes late finds what there is to read first, and its peer alive.
    ///
    /// # Errors
    ///
    /// The transport's own errors come through as [`Error::Inner`]; when the transport ends, so does the stream. When the
    /// heartbeat ends the connection (a limit ran out, [`Handle::close`]), the stream yields what it had read ahead,
    /// [`Error::Heartbeat`] once, then nothing; sending fails with it from then on, and closing succeeds at once. Of messages
    /// that were taken before a flush that failed it is not known whether they arrived
    /// ([`Stage::AwaitingResponse`](crate::Stage::AwaitingResponse)).
    ///
    /// # Closing
    ///
    /// At such an end the transport is dropped in the same poll, after the protocol's
    /// [farewell](Protocol::farewell) if the transport takes it at once: no dead peer can hold that up. `Sink::poll_close`
    /// closes this side in good order instead. While that waits for a peer that takes nothing, a ping that
    /// becomes due ends it with [`Failure::PingBlocked`](crate::Failure::PingBlocked).
    ///
    /// # Panics
    ///
    /// A poll panics outside of a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it, or both halves, drops the transport and ends the connection with
    /// [`Failure::Closed`](crate::Failure::Closed); nothing of it is left.
    pub struct HeartbeatStream<T, P>
    where
        T: Stream,
        P: Protocol,
    {
        // Dropped first: when the connection has ended, its transport is closed already.
        #[pin]
        inner: Option<T>,
        // The user's futures that hold a connection stay small.
        core: Box<Core<P, T::Item>>,
    }
}

type Parts<'a, T, P> = (&'a mut Core<P, <T as Stream>::Item>, Pin<&'a mut T>);

impl<T, P> HeartbeatStream<T, P>
where
    T: Stream,
    P: Protocol,
{
    /// Watches the peer at the other end of `inner`, from now on: pings it as `config` says, and answers its pings.
    #[must_use]
    pub fn new(inner: T, protocol: P, config: Config) -> Self {
        let (inline, users) = Inline::new(Arc::new(config), None);
        HeartbeatStream {
            inner: Some(inner),
            core: Box::new(Core::new(protocol, Watched::new(users), inline)),
        }
    }

    /// Makes no pings, and leaves them to the peer, which has to ping or send at least every `interval`: once it was quiet for
    /// that long, it has `pong_timeout`, `max_missed` times, to be heard.
    ///
    /// For the side of a connection that only answers. Default: both sides ping.
    #[must_use]
    pub fn only_answer(mut self) -> Self {
        self.core.settings.pings = false;
        self
    }

    /// Hands the peer's pings, pongs and beats on to the reader, after they did their work. They
    /// don't restart `idle_timeout`. Default: they are swallowed.
    #[must_use]
    pub fn show_heartbeats(mut self) -> Self {
        self.core.settings.shows_heartbeats = true;
        self
    }

    /// Ends the connection with [`Failure::UnexpectedPong`](crate::Failure::UnexpectedPong) when a pong comes in that
    /// answers no ping. A pong answers its ping and those before it, also when they were given up for another
    /// sign of life; of a ping with a nonce only the first counts.
    ///
    /// Default: such a pong is a sign of life, and no more; WebSocket permits it (RFC 6455, section 5.5.3).
    #[must_use]
    pub fn strict_pongs(mut self) -> Self {
        self.core.settings.is_strict = true;
        self
    }

    /// Counts the peer's pings and beats. One that sends them more often than `policy` permits is sent off, with the
    /// protocol's [farewell](Protocol::farewell), and the connection ends with
    /// [`Failure::PingFlood`](crate::Failure::PingFlood). The ping that was too many is neither answered nor shown, and
    /// nothing behind it is read. Each message that is sent here forgives all strikes.
    ///
    /// Without a [`busy`](HeartbeatStream::busy) guard the connection is idle, so permit pings then:
    /// [`PingPolicy::while_idle`]. Replaces an earlier policy. Default: they are not counted; no flood makes anything grow.
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_util::{SinkExt, StreamExt};
    /// use tokio_util::codec::{Framed, LinesCodec};
    /// use tower_heartbeat::{Config, Failure, PingPolicy, transport::{HeartbeatStream, Lines}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_heartbeat::BoxError> {
    /// # let (socket, peer) = tokio::io::duplex(1_024);
    /// let policy = PingPolicy::default()
    ///     .min_interval(Duration::from_secs(10))?
    ///     .while_idle(true);
    /// let lines = Framed::new(socket, LinesCodec::new());
    /// let mut connection = HeartbeatStream::new(lines, Lines::new(), Config::default()).police_pings(policy);
    ///
    /// # let mut peer = Framed::new(peer, LinesCodec::new());
    /// // One is permitted, two are let pass.
    /// for _ in 0..4 {
    ///     peer.send("ping").await?;
    /// }
    /// let error = connection.next().await.expect("an error").unwrap_err();
    /// assert_eq!(error.heartbeat().expect("its own").failure(), Failure::PingFlood);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn police_pings(mut self, policy: PingPolicy) -> Self {
        self.core.police(policy);
        self
    }

    /// Takes each byte that `ear`'s IO reads for a sign of life, so that a message that is long on its way does not look
    /// like silence. Default: a message counts when it is whole.
    #[must_use]
    pub fn hear_bytes(self, ear: &Ear) -> Self {
        ear.listen_for(self.core.watched.link());
        self
    }

    /// Ends the connection with [`Failure::Closed`](crate::Failure::Closed) when `cancelled` resolves: tokio-util's
    /// `CancellationToken::cancelled_owned`, say. Where the peer has closed its side before, that ends what is left to write. It is
    /// polled by whoever polls the connection. Replaces an earlier one. Default: none.
    #[must_use]
    pub fn until<F>(mut self, cancelled: F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.core.watch(Until::new(cancelled));
        self
    }

    /// Returns a handle to the connection. It outlives the connection, and keeps nothing of it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.core.watched.handle()
    }

    /// Counts as a request in flight while the returned value is kept: an answer that is awaited, say. The
    /// connection is then not idle, `quiet_timeout` acts, and
    /// [`PingWhen::WhileBusy`](crate::PingWhen::WhileBusy) pings: for messages alone neither
    /// of the two ever does.
    #[must_use]
    pub fn busy(&self) -> InFlight {
        self.core.watched.busy()
    }

    /// Returns a reference to the inner transport, `None` once the heartbeat has ended the connection.
    pub fn get_ref(&self) -> Option<&T> {
        self.inner.as_ref()
    }

    /// Why the connection is of no more use, also to those who have something of it left to read.
    pub(super) fn verdict(&self) -> Option<HeartbeatError> {
        self.core.final_verdict()
    }

    /// Why nothing more can be written.
    pub(super) fn unwritable(&self) -> Option<HeartbeatError> {
        self.core.watched.verdict(Stage::NotSent)
    }

    pub(super) fn is_data(&self, message: &P::Message) -> bool {
        self.core.is_data(message)
    }

    /// Whether the peer's end is the end of both sides.
    pub(super) fn has_close_handshake(&self) -> bool {
        self.core.has_close_handshake()
    }

    pub(super) fn span(&self) -> Span {
        self.core.watched.link().span()
    }

    /// Says whether a peer is taken to live because it left much unread. Default: it is.
    pub(super) fn spare_unread(self: Pin<&mut Self>, spares: bool) {
        self.project().core.spares_unread = spares;
    }

    /// Polls for a reader that takes nothing for now: the heartbeats do their work, and up to 16 messages
    /// are kept for it.
    pub(super) fn poll_ahead<E>(self: Pin<&mut Self>, cx: &mut Context<'_>)
    where
        T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Display>,
        E: Display,
    {
        self.polling(|core, inner| core.poll_ahead(inner, cx), |_| ());
    }

    /// What the hot paths need, where there is no more to do.
    #[inline]
    fn calm(self: Pin<&mut Self>) -> Option<Parts<'_, T, P>> {
        let this = self.project();
        if this.core.is_calm() {
            this.inner
                .as_pin_mut()
                .map(|inner| (&mut **this.core, inner))
        } else {
            None
        }
    }

    /// Drops the transport once the heartbeat has ended the connection.
    fn polling<R, E>(
        self: Pin<&mut Self>,
        poll: impl FnOnce(&mut Core<P, T::Item>, Pin<&mut T>) -> R,
        without: impl FnOnce(&mut Core<P, T::Item>) -> R,
    ) -> R
    where
        T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Display>,
        E: Display,
    {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return without(this.core);
        };
        this.core.unsettle();
        let result = poll(this.core, inner.as_mut());
        if this.core.is_over() {
            this.core.take_leave(inner);
            this.inner.set(None);
        }
        this.core.settle();
        result
    }
}

/// The polls of one that is not calm. The argument is what the transport has just said, if it was asked.
impl<T, P, E> HeartbeatStream<T, P>
where
    T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Display>,
    P: Protocol,
    E: Display,
{
    #[inline(never)]
    fn next_uneasily(
        self: Pin<&mut Self>,
        first: Option<Said<Result<P::Message, E>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<P::Message, Error<E>>>> {
        self.polling(
            |core, inner| core.poll_next(first, inner, cx),
            |core| Poll::Ready(core.next_without_io().flatten()),
        )
    }

    #[inline(never)]
    fn ready_uneasily(
        self: Pin<&mut Self>,
        said: Option<Poll<Result<(), T::Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<T::Error>>> {
        self.polling(
            |core, inner| core.poll_ready(said, inner, cx),
            |core| Poll::Ready(core.writable(Stage::NotSent)),
        )
    }

    #[inline(never)]
    fn asked_uneasily(self: Pin<&mut Self>) -> Result<bool, Error<T::Error>> {
        self.polling(
            |core, inner| core.ready_to_send(inner),
            |core| core.writable(Stage::NotSent).map(|()| false),
        )
    }

    #[inline(never)]
    fn flush_uneasily(
        self: Pin<&mut Self>,
        said: Option<Poll<Result<(), T::Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<T::Error>>> {
        self.polling(
            |core, inner| core.poll_flush(said, inner, cx),
            |core| Poll::Ready(core.writable(Stage::AwaitingResponse)),
        )
    }
}

impl<T, P, E> Stream for HeartbeatStream<T, P>
where
    T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Display>,
    P: Protocol,
    E: Display,
{
    type Item = Result<P::Message, Error<E>>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some((core, inner)) = self.as_mut().calm() else {
            return self.next_uneasily(None, cx);
        };
        match inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                if core.hands_on(&message) {
                    return Poll::Ready(Some(Ok(message)));
                }
                self.next_uneasily(Some(Poll::Ready(Some(Ok(message)))), cx)
            }
            first => self.next_uneasily(Some(first), cx),
        }
    }
}

impl<T, P, E> FusedStream for HeartbeatStream<T, P>
where
    T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Display>,
    P: Protocol,
    E: Display,
{
    fn is_terminated(&self) -> bool {
        self.core.is_terminated()
    }
}

impl<T, P, E> Sink<P::Message> for HeartbeatStream<T, P>
where
    T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Display>,
    P: Protocol,
    E: Display,
{
    type Error = Error<<T as Sink<P::Message>>::Error>;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Some((core, inner)) = self.as_mut().calm() else {
            return self.ready_uneasily(None, cx);
        };
        match inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                core.promise_readiness();
                Poll::Ready(Ok(()))
            }
            said => self.ready_uneasily(Some(said), cx),
        }
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: P::Message) -> Result<(), Self::Error> {
        let keeps_readiness = match self.as_mut().calm() {
            Some((core, _)) => core.keeps_readiness(),
            None => false,
        };
        let takes = keeps_readiness || self.as_mut().asked_uneasily()?;
        let this = self.project();
        // Moved once: a second way for the message costs more than the rest.
        match this.inner.as_pin_mut() {
            Some(inner) if takes => {
                let sent = inner.start_send(message);
                sent.map_err(|error| this.core.fail(error))
            }
            _ => {
                this.core.hold(message);
                Ok(())
            }
        }
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Some((_, inner)) = self.as_mut().calm() else {
            return self.flush_uneasily(None, cx);
        };
        match inner.poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            said => self.flush_uneasily(Some(said), cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.polling(
            |core, inner| core.poll_close(inner, cx),
            |_| Poll::Ready(Ok(())),
        )
    }
}

impl<T, P> fmt::Debug for HeartbeatStream<T, P>
where
    T: Stream + fmt::Debug,
    P: Protocol,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeartbeatStream")
            .field("inner", &self.inner)
            .field("core", &self.core)
            .finish()
    }
}
