//! A service that counts its requests, with their bodies, for its connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    body::{RequestBody, ResponseBody},
    handle::{Busy, Handle},
    reason::Reason,
    shared::Shared,
};

/// The service of one connection: each request is in flight to the end of its response's body, and has its
/// connection's [`Handle`] in its extensions.
///
/// It is hyper's `Service` and tower's, as the inner one is. Of tower's, a request is in flight from when it waits for the
/// service to be ready.
///
/// # Clone
///
/// All clones are of one connection; each waits for itself.
pub struct CountedService<S> {
    inner: S,
    shared: Arc<Shared>,
    /// The request that waits until the inner service is ready: servers ask for one only.
    waiting: Option<Busy>,
}

impl<S> CountedService<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        CountedService {
            inner,
            shared,
            waiting: None,
        }
    }

    #[inline]
    fn begin<B>(&self, request: &mut Request<B>) -> Begun {
        let is_serial = request.version() <= Version::HTTP_11;
        self.shared.begin_request(is_serial);
        let begun = Begun {
            is_serial,
            is_connect: request.method() == Method::CONNECT,
            busy: Some(Busy::begun(Arc::clone(&self.shared))),
        };
        let handle = Handle::new(Arc::clone(&self.shared));
        request.extensions_mut().insert(handle);
        begun
    }
}

impl<S, B, R> hyper::service::Service<Request<B>> for CountedService<S>
where
    S: hyper::service::Service<Request<RequestBody<B>>, Response = Response<R>>,
    B: Body,
    R: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let begun = self.begin(&mut request);
        let request = request.map(|body| RequestBody::new(body, &self.shared));
        CountedFuture {
            inner: self.inner.call(request),
            begun,
        }
    }
}

impl<S, B, R> tower_service::Service<Request<B>> for CountedService<S>
where
    S: tower_service::Service<Request<RequestBody<B>>, Response = Response<R>>,
    B: Body,
    R: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let ready = self.inner.poll_ready(cx);
        if ready.is_pending() && self.waiting.is_none() {
            self.shared.tell(|machine, now| machine.on_busy(now));
            self.waiting = Some(Busy::begun(Arc::clone(&self.shared)));
        }
        ready
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let begun = self.begin(&mut request);
        let request = request.map(|body| RequestBody::new(body, &self.shared));
        self.waiting = None;
        CountedFuture {
            inner: self.inner.call(request),
            begun,
        }
    }
}

impl<S> Clone for CountedService<S>
where
    S: Clone,
{
    fn clone(&self) -> Self {
        CountedService {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            waiting: None,
        }
    }
}

impl<S> fmt::Debug for CountedService<S>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

struct Begun {
    is_serial: bool,
    is_connect: bool,
    busy: Option<Busy>,
}

impl Begun {
    /// Whether the response hands the connection over to another protocol.
    fn is_upgraded_by(&self, status: StatusCode) -> bool {
        let is_upgrade = status == StatusCode::SWITCHING_PROTOCOLS;
        self.is_serial && (is_upgrade || self.is_connect && status.is_success())
    }
}

pin_project! {
    /// The future of a [`CountedService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CountedFuture<F> {
        // Dropped first: the handler is gone before its request stops counting.
        #[pin]
        inner: F,
        begun: Begun,
    }
}

impl<F, R, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let Some(busy) = this.begun.busy.take() else {
            unreachable!("a future is not polled after it was ready")
        };
        let is_upgrade = this.begun.is_upgraded_by(response.status());
        // Nobody else sees it where nobody drives the connection.
        if is_upgrade
            && let Some(shared) = busy.shared()
            && shared.is_alone()
        {
            shared.end(Reason::Upgraded, None);
        }
        if this.begun.is_serial && !is_upgrade && busy.is_last() {
            // A client that is told does not send its next request into a connection that closes.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        let is_serial = this.begun.is_serial;
        Poll::Ready(Ok(
            response.map(|body| ResponseBody::new(body, busy, is_serial))
        ))
    }
}

impl<F> fmt::Debug for CountedFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedFuture").finish_non_exhaustive()
    }
}
