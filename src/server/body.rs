//! Bodies that tell their connection how far they are.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::{handle::Busy, shared::Shared};

pin_project! {
    /// The body of a request, as handlers get it: while somebody waits for it, `read_timeout` runs, and until
    /// it ends or is dropped its connection is in use.
    ///
    /// [`into_inner`](RequestBody::into_inner) gives the inner body back, for services that insist on
    /// its type, and with it up the limit.
    ///
    /// `Unpin` where the inner body is.
    pub struct RequestBody<B = Incoming> {
        #[pin]
        inner: B,
        upload: Option<Upload>,
    }
}

impl<B> RequestBody<B>
where
    B: Body,
{
    pub(super) fn new(inner: B, shared: &Arc<Shared>) -> Self {
        RequestBody {
            upload: (!inner.is_end_stream()).then(|| Upload::new(Arc::clone(shared))),
            inner,
        }
    }
}

impl<B> RequestBody<B> {
    /// Returns the inner body, for which nothing is limited any more.
    pub fn into_inner(self) -> B {
        self.inner
    }

    /// Returns a reference to the inner body.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = this.inner.as_mut().poll_frame(cx);
        let Some(upload) = this.upload.as_mut() else {
            return frame;
        };
        match &frame {
            Poll::Pending => upload.await_more(),
            Poll::Ready(Some(Ok(_))) if !this.inner.is_end_stream() => upload.go_on(),
            Poll::Ready(_) => *this.upload = None,
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for RequestBody<B>
where
    B: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// A request's body that has not ended.
struct Upload {
    shared: Arc<Shared>,
    is_awaited: bool,
}

impl Upload {
    fn new(shared: Arc<Shared>) -> Upload {
        shared.tell(|machine, now| machine.on_upload_start(now));
        Upload {
            shared,
            is_awaited: false,
        }
    }

    fn await_more(&mut self) {
        let limited = self.shared.limits().read_timeout.is_some();
        if limited && !std::mem::replace(&mut self.is_awaited, true) {
            self.shared.tell(|machine, now| machine.on_await_start(now));
        }
    }

    fn go_on(&mut self) {
        if std::mem::take(&mut self.is_awaited) {
            self.shared.tell(|machine, now| machine.on_await_end(now));
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.go_on();
        self.shared.tell(|machine, now| machine.on_upload_end(now));
    }
}

pin_project! {
    /// The body of a response: until it ends or is dropped its request is in flight.
    ///
    /// `Unpin` where the inner body is.
    pub struct ResponseBody<B> {
        // Dropped first: the body is gone before its request stops counting.
        #[pin]
        inner: B,
        download: Option<Download>,
    }
}

impl<B> ResponseBody<B>
where
    B: Body,
{
    pub(super) fn new(inner: B, busy: Busy, is_serial: bool) -> Self {
        ResponseBody {
            download: if inner.is_end_stream() {
                None
            } else {
                Download::new(busy, is_serial)
            },
            inner,
        }
    }

    /// Of a connection that nobody watches.
    #[cfg(feature = "tonic-server")]
    pub(super) fn uncounted(inner: B) -> Self {
        ResponseBody {
            inner,
            download: None,
        }
    }
}

impl<B> ResponseBody<B> {
    /// Returns a reference to the inner body.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(download) = this.download.as_mut() else {
            return this.inner.poll_frame(cx);
        };
        let frame = this.inner.as_mut().poll_frame(cx);
        match &frame {
            Poll::Pending => download.is_asked(),
            Poll::Ready(Some(Ok(_))) if !this.inner.is_end_stream() => download.gives(),
            Poll::Ready(_) => *this.download = None,
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for ResponseBody<B>
where
    B: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// A response's body that has not ended.
struct Download {
    shared: Arc<Shared>,
    /// Whether it gave a frame, over HTTP/2 its head to begin with, and was not asked for the next. Who asks has room: hyper
    /// does not before HTTP/2's flow control or its own buffer has some. What keeps HTTP/1 from asking right after the head
    /// is a write that pends, of which the machine knows.
    is_untaken: bool,
}

impl Download {
    fn new(busy: Busy, is_serial: bool) -> Option<Download> {
        let mut download = Download {
            shared: busy.hand_over()?,
            is_untaken: false,
        };
        if !is_serial {
            download.gives();
        }
        Some(download)
    }

    /// The next frame, after it was asked for.
    fn gives(&mut self) {
        if self.shared.limits().write_timeout.is_none() {
            return;
        }
        let took = std::mem::replace(&mut self.is_untaken, true);
        self.shared.tell(|machine, now| {
            if took {
                machine.on_taken(now);
            }
            machine.on_untaken(now);
        });
    }

    /// For the next frame, which is not there yet.
    fn is_asked(&mut self) {
        if std::mem::take(&mut self.is_untaken) {
            self.shared.tell(|machine, now| machine.on_taken(now));
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let took = self.is_untaken;
        self.shared.tell(|machine, now| {
            if took {
                machine.on_taken(now);
            }
            machine.on_request_end(now);
        });
    }
}
