//! The IO below a connection of hyper's: evidence on the way up, the end on the way down.

use std::{
    error::Error as StdError,
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use pin_project_lite::pin_project;

use super::http2::GoAway;
use crate::{
    error::{Cause, Failure, HeartbeatError, Stage},
    lanes::{Lane, Lanes},
    link::{Link, is_abandoned, status},
    wakers::{Key, WakerSet},
};

/// What the parts of one connection know of each other.
///
/// hyper runs an HTTP/2 connection in two tasks: the *connection* future that the caller drives and
/// that learns why it ended, and an internal one that owns the IO. Streams fail from either, in any
/// order, so their errors wait here for the reason. Over HTTP/1 the connection future owns the IO,
/// and whoever gets an error gets the reason with it, once.
#[derive(Debug)]
pub(super) struct Wire {
    /// Whether calls outlast the connection future, so that the IO's end has to end them.
    streams: bool,
    link: OnceLock<Arc<Link>>,
    cut: OnceLock<HeartbeatError>,
    lanes: Lanes,
    known: AtomicU8,
    waiters: WakerSet,
}

/// Until when an error waits for its reason.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// The connection future has said why it ended.
    WhyIsKnown,
    /// The link has ended, by that or with the IO.
    LinkHasEnded,
}

/// The connection future has said why it ended.
const WHY: u8 = 1;
/// The IO is closed.
const IO: u8 = 2;
/// The connection future said that it ended in good order.
const IN_ORDER: u8 = 4;
/// hyper dropped the IO without having seen an error or shut it down. Together with `IN_ORDER`:
/// its keep-alive did it, of which hyper doesn't always get to tell.
const LET_GO: u8 = 8;
/// A call or a body was dropped before its end. Over HTTP/1 that closes the connection, unless
/// another exchange begins.
const CANCELLED: u8 = 16;
/// A call awaits its response. Over HTTP/1 there is one at most.
const EXCHANGE: u8 = 32;

impl Wire {
    pub(super) fn http1() -> Arc<Wire> {
        Arc::new(Wire::new(false))
    }

    pub(super) fn http2() -> Arc<Wire> {
        Arc::new(Wire::new(true))
    }

    fn new(streams: bool) -> Wire {
        Wire {
            streams,
            link: OnceLock::new(),
            cut: OnceLock::new(),
            lanes: Lanes::default(),
            known: AtomicU8::new(0),
            waiters: WakerSet::new(),
        }
    }

    /// From here on, what comes in is evidence for `link`, and the end of the IO its end.
    pub(super) fn watch(&self, link: &Arc<Link>) {
        // A second link would be a second `drive` of one connection, which its type rules out.
        let _first = self.link.set(Arc::clone(link));
    }

    /// To be called once the link was told.
    pub(super) fn learn_why(&self) {
        self.learn(WHY);
    }

    /// To be called before [`learn_why`](Wire::learn_why).
    pub(super) fn ended_in_order(&self) {
        self.known.fetch_or(IN_ORDER, Ordering::AcqRel);
    }

    /// Whether the connection future came to its end, and was not dropped before.
    pub(super) fn has_ended_in_order(&self) -> bool {
        self.knows(IN_ORDER)
    }

    pub(super) fn begin_exchange(&self) {
        self.known.fetch_and(!CANCELLED, Ordering::AcqRel);
        self.known.fetch_or(EXCHANGE, Ordering::AcqRel);
    }

    /// The response, or hyper's error, has come to the call that awaits it.
    pub(super) fn end_exchange(&self) {
        self.known.fetch_and(!EXCHANGE, Ordering::AcqRel);
        self.waiters.wake_all();
    }

    pub(super) fn cancelled(&self) {
        self.known.fetch_or(CANCELLED, Ordering::AcqRel);
    }

    pub(super) async fn exchange_ended(&self) {
        let mut place = Place::new(self);
        poll_fn(|cx| place.poll(cx, || !self.knows(EXCHANGE))).await;
    }

    pub(super) fn was_cancelled(&self) -> bool {
        self.knows(CANCELLED)
    }

    fn learn(&self, fact: u8) {
        let known = self.known.fetch_or(fact, Ordering::AcqRel) | fact;
        if self.streams
            && known & (WHY | IO) == WHY | IO
            && let Some(link) = self.link.get()
        {
            if is_abandoned(link) {
                link.end(Cause::new(Failure::Closed));
            } else if known & (IN_ORDER | LET_GO) == IN_ORDER | LET_GO {
                link.end(Cause::new(Failure::PongTimeout));
            } else {
                link.end_departed();
            }
        }
        self.waiters.wake_all();
    }

    /// Whether the connection future is over.
    pub(super) fn knows_why(&self) -> bool {
        self.knows(WHY)
    }

    fn knows(&self, fact: u8) -> bool {
        self.known.load(Ordering::Acquire) & fact != 0
    }

    /// Closes the IO: its next read or write fails with `error`.
    pub(super) fn cut(&self, error: &HeartbeatError) {
        if self.cut.set(error.clone()).is_ok() {
            self.lanes.wake();
        }
    }

    fn severed(&self) -> Option<io::Error> {
        let error = self.cut.get()?;
        Some(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            error.clone(),
        ))
    }

    /// Pends, unless the cut came before the waker was in place.
    fn pend<R>(&self, lane: Lane, cx: &Context<'_>) -> Poll<io::Result<R>> {
        self.lanes.register(lane, cx.waker());
        match self.severed() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }

    /// Tells the link that the peer takes no more requests, and returns what the one is told that
    /// it did not take.
    pub(super) fn refuse(&self, source: Source) -> HeartbeatError {
        self.leave_by(source, Stage::NotSent)
    }

    /// Why the connection ended, as far as is known, for a request that had got to `stage`.
    pub(super) fn reason(&self, source: Source, stage: Stage) -> HeartbeatError {
        match self.link.get() {
            Some(link) if link.status() >= status::LEAVING => link.refusal().at(stage),
            Some(_) | None => self.leave_by(source, stage),
        }
    }

    fn leave_by(&self, source: Source, stage: Stage) -> HeartbeatError {
        let cause = failed_by(source);
        if let Some(link) = self.link.get() {
            link.leave(cause.clone());
        }
        HeartbeatError::shared(Arc::new(cause), stage)
    }

    /// Ends the link because of an error that is the connection's own, if nothing else has, and
    /// returns why it ended for a request that had got to `stage`.
    pub(super) fn fail(&self, source: Source, stage: Stage) -> HeartbeatError {
        let cause = failed_by(source);
        match self.link.get() {
            Some(link) => {
                link.end(cause);
                link.refusal().at(stage)
            }
            None => HeartbeatError::shared(Arc::new(cause), stage),
        }
    }

    fn is_settled(&self, until: Until) -> bool {
        match self.link.get() {
            Some(link) => {
                link.ended().is_some()
                    || match until {
                        Until::WhyIsKnown => self.knows(WHY),
                        Until::LinkHasEnded => false,
                    }
            }
            None => true,
        }
    }

    /// Waits for the reason of an end. Bounded by what the error says is over: hyper's connection
    /// future resolves after its dispatcher, and the IO is dropped with the task that failed.
    pub(super) async fn settled(&self, until: Until) {
        let mut place = Place::new(self);
        poll_fn(|cx| place.poll(cx, || self.is_settled(until))).await;
    }

    pub(super) fn poll_why(&self, key: &mut Key, cx: &Context<'_>) -> Poll<()> {
        let settled = || self.is_settled(Until::WhyIsKnown);
        if self.waiters.register(key, cx, settled) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    pub(super) fn stop_waiting(&self, key: &mut Key) {
        self.waiters.remove(key);
    }

    pub(super) async fn io_closed(&self) {
        let mut place = Place::new(self);
        poll_fn(|cx| place.poll(cx, || self.knows(IO))).await;
    }

    /// The link has ended: whoever waits for that, sees it now.
    pub(super) fn wake_waiters(&self) {
        self.waiters.wake_all();
    }
}

type Source = Arc<dyn StdError + Send + Sync>;

/// The cause of an end that the transport reports.
pub(super) fn failed_by(source: Source) -> Cause {
    let go_away = source.downcast_ref::<GoAway>();
    let failure = if go_away.is_some_and(GoAway::is_about_pings) {
        Failure::TooManyPings
    } else {
        Failure::Transport
    };
    Cause {
        source: Some(source),
        ..Cause::new(failure)
    }
}

/// A place among those who wait on a wire, given up on drop.
struct Place<'a> {
    wire: &'a Wire,
    key: Key,
}

impl<'a> Place<'a> {
    fn new(wire: &'a Wire) -> Self {
        Place {
            wire,
            key: Key::NONE,
        }
    }

    fn poll(&mut self, cx: &Context<'_>, over: impl FnOnce() -> bool) -> Poll<()> {
        if self.wire.waiters.register(&mut self.key, cx, over) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.wire.waiters.remove(&mut self.key);
    }
}

pin_project! {
    /// The IO of a connection that a `handshake` made.
    ///
    /// What is read counts as a sign of life. When the heartbeat has ended the connection, reads
    /// and writes fail with an [`io::Error`] in which
    /// [`HeartbeatError::find`](crate::HeartbeatError::find) finds why.
    pub struct Io<T> {
        // Closed before its end is told.
        #[pin]
        inner: T,
        end: End,
    }
}

struct End {
    wire: Arc<Wire>,
    /// Whether hyper has seen an error, or shut the IO down.
    closed: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        self.wire.learn(if self.closed { IO } else { IO | LET_GO });
    }
}

impl<T> Io<T> {
    pub(super) fn new(inner: T, wire: Arc<Wire>) -> Self {
        Io {
            inner,
            end: End {
                wire,
                closed: false,
            },
        }
    }

    /// Returns a reference to the inner IO.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T> Read for Io<T>
where
    T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let End { wire, closed } = this.end;
        if let Some(error) = wire.severed() {
            *closed = true;
            return Poll::Ready(Err(error));
        }
        match this.inner.poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                // The cursor is gone, and with it the count. The end of the stream counts as life,
                // too, but the connection ends with it anyway.
                if let Some(link) = wire.link.get() {
                    link.heard();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                *closed = true;
                Poll::Ready(Err(error))
            }
            Poll::Pending => wire.pend(Lane::Read, cx),
        }
    }
}

impl<T> Write for Io<T>
where
    T: Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writing(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing(cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_mut().project().end.closed = true;
        if self.end.wire.cut.get().is_some() {
            // A frozen peer must not keep the socket open; dropping it closes it.
            return Poll::Ready(Ok(()));
        }
        self.writing(cx, |inner, cx| inner.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writing(cx, |inner, cx| inner.poll_write_vectored(cx, slices))
    }
}

impl<T> Io<T> {
    fn writing<R>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let this = self.project();
        let End { wire, closed } = this.end;
        if let Some(error) = wire.severed() {
            *closed = true;
            return Poll::Ready(Err(error));
        }
        match write(this.inner, cx) {
            Poll::Pending => wire.pend(Lane::Write, cx),
            ready => {
                *closed |= matches!(ready, Poll::Ready(Err(_)));
                ready
            }
        }
    }
}

impl<T> fmt::Debug for Io<T>
where
    T: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
