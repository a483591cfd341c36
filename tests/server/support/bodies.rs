//! Bodies of responses.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Frame};
use tokio::time::Sleep;

use super::{Body, Guard};

pub(crate) fn full(text: &str) -> Body {
    Full::new(Bytes::from(text.to_string())).boxed()
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

/// Gives a chunk whenever it is asked.
pub(crate) struct Endless {
    _guard: Guard,
}

impl Endless {
    pub(crate) fn new(guard: Guard) -> Endless {
        Endless { _guard: guard }
    }
}

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 16_384] = [b'x'; 16_384];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}

/// Ends after some time, in which it gives nothing.
pub(crate) struct Held {
    until: Pin<Box<Sleep>>,
    _guard: Guard,
}

impl Held {
    pub(crate) fn new(time: Duration, guard: Guard) -> Held {
        Held {
            until: Box::pin(tokio::time::sleep(time)),
            _guard: guard,
        }
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(None)
    }
}

/// A request's body: a byte every so often, so many times.
pub(crate) struct Drip {
    every: Duration,
    left: u32,
    is_silent: bool,
    next: Pin<Box<Sleep>>,
}

impl Drip {
    pub(crate) fn new(every: Duration, left: u32) -> Drip {
        Drip {
            every,
            left,
            is_silent: false,
            next: Box::pin(tokio::time::sleep(every)),
        }
    }

    /// Then nothing, and no end.
    pub(crate) fn then_silent(mut self) -> Body {
        self.is_silent = true;
        self.boxed()
    }
}

impl hyper::body::Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return if self.is_silent {
                Poll::Pending
            } else {
                Poll::Ready(None)
            };
        }
        ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(tokio::time::sleep(self.every));
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}
