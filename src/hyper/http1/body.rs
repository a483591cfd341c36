//! The bodies of responses.

use std::{
    error::Error as StdError,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};

use crate::{
    error::{HeartbeatError, Stage},
    hyper::wire::Wire,
    wakers::Key,
};

/// A response body of a [`SendRequest`](super::SendRequest): hyper's, whose errors are the end of
/// the connection, with hyper's own as their source.
///
/// # Cancel safety
///
/// Dropping it before its end closes the connection, unless what is left has come in already.
pub struct ResponseBody {
    inner: Incoming,
    wire: Arc<Wire>,
    state: State,
}

enum State {
    Open,
    /// hyper doesn't say why it failed; the connection will.
    Settling {
        error: Arc<hyper::Error>,
        waiting: Key,
    },
    Closed,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, wire: Arc<Wire>) -> Self {
        ResponseBody {
            inner,
            wire,
            state: State::Open,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = HeartbeatError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HeartbeatError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open => match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                    Some(Err(error)) => {
                        let waiting = Key::NONE;
                        let error = Arc::new(error);
                        this.state = State::Settling { error, waiting };
                    }
                    Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                    None => {
                        this.state = State::Closed;
                        return Poll::Ready(None);
                    }
                },
                State::Settling { error, waiting } => {
                    if !knows_why(error) {
                        ready!(this.wire.poll_why(waiting, cx));
                    }
                    let error = this.wire.fail(Arc::clone(error) as _, Stage::Streaming);
                    this.wire.stop_waiting(waiting);
                    this.state = State::Closed;
                    return Poll::Ready(Some(Err(error)));
                }
                State::Closed => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Open => self.inner.is_end_stream(),
            State::Settling { .. } => false,
            State::Closed => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Open => self.inner.size_hint(),
            State::Settling { .. } => SizeHint::default(),
            State::Closed => SizeHint::with_exact(0),
        }
    }
}

/// Whoever reads the body gets the IO's or the decoder's error, which are `io::Error`s; otherwise hyper
/// says only that its connection failed, or is gone.
fn knows_why(error: &hyper::Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<io::Error>())
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        match &mut self.state {
            State::Open if !self.inner.is_end_stream() => self.wire.cancelled(),
            State::Settling { waiting, .. } => self.wire.stop_waiting(waiting),
            State::Open | State::Closed => {}
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
