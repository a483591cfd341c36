//! The life of a connection, up to its reason to end.

use std::{
    fmt,
    future::{Pending, pending},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Sink, Stream};
use pin_project_lite::pin_project;
use tokio::{
    sync::mpsc,
    time::{Timeout, timeout},
};

use super::{
    builder::OnUnsolicited,
    core::{Core, Ending},
    shared::{Call, Shared},
};
use crate::{
    error::{BoxError, panic_message},
    handle::Handle,
    link::Link,
    transport::{Ear, Ids, Protocol},
};

/// Has `connection` run for the heartbeat of `handle`: what comes in is a sign of life, the verdict closes the transport, and why
/// the transport ended is recorded.
///
/// At a verdict the transport is dropped at once, after the protocol's [farewell](Protocol::farewell) if the transport takes
/// it at once. For an idle or closed connection it is closed in good order, which takes at most half a second.
pub fn drive<T, P, I>(mut connection: Connection<T, P, I>, handle: Handle) -> Connection<T, P, I>
where
    P: Protocol,
{
    connection.watch(handle.link());
    connection
}

pin_project! {
    /// A connection to be spawned: a future that reads and writes until its end. Made by
    /// [`Builder::pair`](super::Builder::pair).
    ///
    /// It ends with the transport, at the heartbeat's verdict if it has one ([`drive`]), and when every [`Mux`](super::Mux) and
    /// every response is dropped: then it closes the transport in good order, in half a second at most.
    ///
    /// It needs a tokio runtime with time enabled, for beats and to close in good order. A panic for want of it is caught, as one in the
    /// code of the transport or of the protocol is: it ends the connection, with [`Failure::Transport`](crate::Failure::Transport).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the transport; calls in flight fail, new ones are refused.
    #[must_use = "a connection does nothing unless it is polled"]
    pub struct Connection<T, P, I>
    where
        P: Protocol,
    {
        // Dropped first: who is told of the end finds the transport closed.
        #[pin]
        io: Option<T>,
        core: Core<P, I>,
        phase: Phase,
    }
}

enum Phase {
    Open,
    Closing {
        time: Pin<Box<Timeout<Pending<()>>>>,
        /// Whether this side is.
        closed: bool,
    },
    Over,
}

impl<T, P, I> Connection<T, P, I>
where
    P: Protocol,
{
    pub(super) fn new(
        io: T,
        protocol: P,
        ids: I,
        calls: mpsc::UnboundedReceiver<Call<P::Message>>,
        shared: Arc<Shared>,
        on_unsolicited: Option<OnUnsolicited<P::Message>>,
    ) -> Self {
        Connection {
            io: Some(io),
            core: Core::new(protocol, ids, calls, shared, on_unsolicited),
            phase: Phase::Open,
        }
    }

    /// Takes each byte that `ear`'s IO reads for a sign of life, so that a message that is long on its way does not look like
    /// silence. Default: a message counts when it is whole.
    pub fn hear_bytes(mut self, ear: &Ear) -> Self {
        self.core.hear_bytes(ear);
        self
    }

    fn watch(&mut self, link: &Arc<Link>) {
        self.core.watch(link);
    }
}

impl<T, P, I, E> Connection<T, P, I>
where
    T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Into<BoxError>>,
    E: Into<BoxError>,
    P: Protocol,
    I: Ids<P::Message>,
{
    fn advance(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            let Some(mut io) = this.io.as_mut().as_pin_mut() else {
                return Poll::Ready(());
            };
            match this.phase {
                Phase::Open => {
                    let ending = ready!(this.core.poll_open(io.as_mut(), cx));
                    this.core.take_leave(io, &ending, cx);
                    if ending.is_in_good_order() {
                        this.core.end(ending);
                        *this.phase = Phase::Closing {
                            time: Box::pin(timeout(GOODBYE, pending())),
                            closed: false,
                        };
                    } else {
                        this.io.set(None);
                        this.core.end(ending);
                        *this.phase = Phase::Over;
                    }
                }
                Phase::Closing { time, closed } => {
                    let over = this.core.poll_close(io, closed, cx).is_ready();
                    if !over && time.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.io.set(None);
                    *this.phase = Phase::Over;
                }
                Phase::Over => return Poll::Ready(()),
            }
        }
    }
}

impl<T, P, I, E> Future for Connection<T, P, I>
where
    T: Stream<Item = Result<P::Message, E>> + Sink<P::Message, Error: Into<BoxError>>,
    E: Into<BoxError>,
    P: Protocol,
    I: Ids<P::Message>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let advanced = catch_unwind(AssertUnwindSafe(|| self.as_mut().advance(cx)));
        advanced.unwrap_or_else(|panic| {
            let message = format!("panicked: {}", panic_message(&*panic));
            let mut this = self.project();
            this.io.set(None);
            this.core.end(Ending::Transport(Some(message.into())));
            *this.phase = Phase::Over;
            Poll::Ready(())
        })
    }
}

const GOODBYE: Duration = Duration::from_millis(500);

impl<T, P, I> fmt::Debug for Connection<T, P, I>
where
    P: Protocol,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Open => "Open",
            Phase::Closing { .. } => "Closing",
            Phase::Over => "Over",
        };
        f.debug_tuple("Connection").field(&phase).finish()
    }
}
