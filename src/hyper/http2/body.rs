//! The bodies of responses.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Frame, SizeHint};
use hyper::body::{Bytes, Incoming};

use super::send::Origin;
use crate::hyper::wire::{Until, Wire};

/// A response body of a [`SendRequest`](super::SendRequest): hyper's, whose errors come out once
/// the heartbeat above knows why the connection ended.
pub struct ResponseBody {
    pub(super) inner: Incoming,
    pub(super) state: State,
}

pub(super) enum State {
    Open { wire: Arc<Wire> },
    Settling { end: Settling },
    Closed,
}

/// Made once a body fails, not for every body.
type Settling = Pin<Box<dyn Future<Output = hyper::Error> + Send + Sync>>;

async fn settle(wire: Arc<Wire>, error: hyper::Error) -> hyper::Error {
    match Origin::of(&error) {
        // A response that has begun was taken: a peer that refuses it in good order contradicts
        // itself, and the stream fails alone.
        Origin::Stream | Origin::Refusal => {}
        Origin::Dropped | Origin::Connection => wire.settled(Until::WhyIsKnown).await,
        Origin::Io => wire.settled(Until::LinkHasEnded).await,
    }
    error
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open { wire } => match Pin::new(&mut this.inner).poll_frame(cx) {
                    Poll::Ready(Some(Err(error))) => {
                        let end = Box::pin(settle(Arc::clone(wire), error));
                        this.state = State::Settling { end };
                    }
                    other => return other,
                },
                State::Settling { end } => {
                    return end.as_mut().poll(cx).map(|error| {
                        this.state = State::Closed;
                        Some(Err(error))
                    });
                }
                State::Closed => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Open { .. } => self.inner.is_end_stream(),
            State::Settling { .. } => false,
            State::Closed => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Open { .. } => self.inner.size_hint(),
            State::Settling { .. } => SizeHint::default(),
            State::Closed => SizeHint::with_exact(0),
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
