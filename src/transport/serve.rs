//! The server's half: a connection's messages as the requests of a service.

mod answers;
mod desk;
mod error;

use std::{
    fmt::{self, Display},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{HeartbeatStream, Ids, Protocol, until::Until};
use crate::config::{ConfigError, Setting};
use desk::{Desk, Turn};
pub use error::ServeError;

pin_project! {
    /// Serves the messages of one connection with a service, until the connection ends.
    ///
    /// A future: each message of the peer's is a request, and what the service answers goes back, in the order of the
    /// requests or [by id](Serve::by_id). `Response` is a message, or an `Option` of one, for requests that have no
    /// answer. All of it, the service's futures too, is polled by whoever polls this: one that blocks holds the pongs up.
    ///
    /// ```
    /// use futures_util::{SinkExt, StreamExt};
    /// use tokio_util::codec::{Framed, LinesCodec};
    /// use tower_heartbeat::{BoxError, Config, transport::{HeartbeatStream, Lines, Serve}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let (socket, peer) = tokio::io::duplex(1_024);
    /// let shout = tower::service_fn(|line: String| async move {
    ///     Ok::<_, BoxError>(line.to_uppercase())
    /// });
    /// let lines = Framed::new(socket, LinesCodec::new_with_max_length(1_024));
    /// let connection = HeartbeatStream::new(lines, Lines::new(), Config::default()).only_answer();
    /// let serving = tokio::spawn(Serve::new(connection, shout));
    ///
    /// let mut peer = Framed::new(peer, LinesCodec::new());
    /// peer.send("ping").await?;
    /// peer.send("hello").await?;
    /// assert_eq!(peer.next().await.transpose()?.as_deref(), Some("pong"));
    /// assert_eq!(peer.next().await.transpose()?.as_deref(), Some("HELLO"));
    /// drop(peer);
    /// serving.await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Heartbeats
    ///
    /// The peer's pings are answered at once, however slow the service is, and whether or not it is ready; heartbeats and
    /// other messages of the protocol's own never reach it. Each request is in flight
    /// ([`busy`](HeartbeatStream::busy)) until its answer is flushed, so that the connection is not
    /// idle meanwhile, `quiet_timeout` acts, and [`PingWhen::WhileBusy`](crate::PingWhen::WhileBusy) pings.
    ///
    /// # A full house
    ///
    /// While [`max_concurrent_requests`](Serve::max_concurrent_requests) are in flight, or the service is not ready, no request is
    /// taken, and up to 16 are read ahead for the pings behind them. A ping that lies behind more waits until there is
    /// room again. So a peer that sends that many at once needs a pong wait that is longer than the service takes
    /// for one, or has to take answers for signs of life, as [`HeartbeatStream`] does.
    ///
    /// A peer with that much unread that takes no answers either is not spared for what lies there: it is judged like
    /// one that is silent.
    ///
    /// # The end
    ///
    /// - The peer closes its side: `Ok`, once the answers in flight are written and this side is closed, too. Where it owes this
    ///   side's close an answer (WebSocket), none can be written any more: then at once. Nothing but the service and the
    ///   transport bounds how long the answers take; the `io` module's `write_timeout` does, around the socket.
    /// - [`drain_on`](Serve::drain_on)'s signal: `Ok`, once the answers in flight are written and this side is closed.
    /// - The heartbeat ends the connection, or [`until`](HeartbeatStream::until) does:
    ///   [`ServeError::Heartbeat`].
    /// - The transport fails: [`ServeError::Read`], [`ServeError::Write`].
    /// - The service fails: [`ServeError::Service`], once the answers that it had before are written. An error of which the
    ///   peer should be told, and after which the connection goes on, is an answer.
    ///
    /// But for the first two, requests that the service works on are dropped at once. In any case connection and service are dropped in the poll that
    /// returns the result.
    ///
    /// # Panics
    ///
    /// A poll panics outside of a tokio runtime with time enabled, if the service does, and after completion.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the connection, the service and the requests in flight; nothing of it is left.
    #[must_use = "futures do nothing unless polled"]
    pub struct Serve<T, P, S>
    where
        T: Stream,
        P: Protocol,
        S: Service<P::Message>,
    {
        #[pin]
        connection: Option<HeartbeatStream<T, P>>,
        desk: Option<Desk<P::Message, S>>,
    }
}

impl<T, P, S> Serve<T, P, S>
where
    T: Stream,
    P: Protocol,
    S: Service<P::Message>,
{
    /// Serves `connection` with `service`, which is asked for readiness once there is a request for it.
    ///
    /// The connection's own settings say how silent a peer may be: one that only pings this side is found by
    /// [`only_answer`](HeartbeatStream::only_answer).
    pub fn new(connection: HeartbeatStream<T, P>, service: S) -> Self {
        Serve {
            connection: Some(connection),
            desk: Some(Desk::new(service, MAX_CONCURRENT_REQUESTS)),
        }
    }

    /// Limits how many requests are in flight: from when they are read to when their answers are flushed. While there are
    /// so many, no other is taken ([A full house](Serve#a-full-house)). Default: 100.
    ///
    /// With 1 they are worked on one after the other.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`]: it is 0.
    pub fn max_concurrent_requests(mut self, limit: u32) -> Result<Self, ConfigError> {
        if limit == 0 {
            return Err(ConfigError::OutOfRange {
                setting: Setting::MaxConcurrentRequests,
                least: 1,
                most: u32::MAX,
            });
        }
        self.desk_mut().limit(limit);
        Ok(self)
    }

    /// Writes each answer as soon as it is there, with the id of its request. The answer to a request that has none goes
    /// nowhere (a debug event says so). Default: answers are written in the order of the requests, and a slow one
    /// holds up those behind it.
    pub fn by_id<I>(mut self, ids: I) -> Self
    where
        I: Ids<P::Message> + Send + Sync + 'static,
    {
        self.desk_mut().correlate(Box::new(ids));
        self
    }

    /// Takes no more requests once `signal` resolves: those in flight are answered, then this side is closed and the result is
    /// `Ok`; over WebSocket once the peer has answered the close frame, or is found dead. Pings are answered until
    /// this side closes; requests that come later are read and dropped.
    ///
    /// Nothing but the service and the transport bounds how long that takes; let [`until`](HeartbeatStream::until) resolve some time
    /// after `signal`. Replaces an earlier one. Default: none.
    ///
    /// ```
    /// use futures_util::{SinkExt, StreamExt};
    /// use tokio::sync::oneshot;
    /// use tokio_util::codec::{Framed, LinesCodec};
    /// use tower_heartbeat::{BoxError, Config, transport::{HeartbeatStream, Lines, Serve}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let (socket, peer) = tokio::io::duplex(1_024);
    /// # let echo = tower::service_fn(|line: String| async move { Ok::<_, BoxError>(line) });
    /// # let lines = Framed::new(socket, LinesCodec::new_with_max_length(1_024));
    /// # let connection = HeartbeatStream::new(lines, Lines::new(), Config::default());
    /// let (stop, stopped) = oneshot::channel::<()>();
    /// let serve = Serve::new(connection, echo).drain_on(async { drop(stopped.await) });
    /// let serving = tokio::spawn(serve);
    ///
    /// # let mut peer = Framed::new(peer, LinesCodec::new());
    /// peer.send("hello").await?;
    /// # tokio::task::yield_now().await;
    /// drop(stop);
    /// assert_eq!(peer.next().await.transpose()?.as_deref(), Some("hello"));
    /// assert!(peer.next().await.is_none());
    /// serving.await??;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "graceful_shutdown")]
    #[doc(alias = "with_graceful_shutdown")]
    pub fn drain_on<F>(mut self, signal: F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.desk_mut().drain_on(Until::new(signal));
        self
    }

    fn desk_mut(&mut self) -> &mut Desk<P::Message, S> {
        self.desk.as_mut().expect("it has not been polled")
    }
}

impl<T, P, S, E> Future for Serve<T, P, S>
where
    T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Display>,
    P: Protocol,
    S: Service<P::Message>,
    S::Response: Into<Option<P::Message>>,
    E: Display,
{
    type Output = Result<(), ServeError<E, <T as Sink<P::Message>>::Error, S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        for _ in 0..TURNS {
            let connection = this.connection.as_mut().as_pin_mut();
            let (Some(connection), Some(desk)) = (connection, this.desk.as_mut()) else {
                panic!("polled after completion");
            };
            let end = match desk.take_turn(connection, cx) {
                Ok(Turn::Waits) => return Poll::Pending,
                Ok(Turn::GoesOn) => continue,
                Ok(Turn::Done) => Ok(()),
                Err(error) => Err(error),
            };
            this.connection.set(None);
            *this.desk = None;
            return Poll::Ready(end);
        }
        // Others get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T, P, S> fmt::Debug for Serve<T, P, S>
where
    T: Stream + fmt::Debug,
    P: Protocol,
    S: Service<P::Message>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("connection", &self.connection)
            .field("desk", &self.desk)
            .finish()
    }
}

const MAX_CONCURRENT_REQUESTS: u32 = 100;

/// How often in a poll the house may fill up again.
const TURNS: usize = 4;
