//! hyper's `SendRequest` as a tower service.

use std::{
    error::Error as StdError,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Method, Request, Response, Uri, header::HOST};
use hyper::client::conn::http1;
use tower_service::Service;

use super::body::ResponseBody;
use crate::{
    error::Stage,
    hyper::{
        error::SendError,
        wire::{Until, Wire},
    },
    wakers::Key,
};

/// hyper's HTTP/1 `SendRequest` as a tower service. Made by [`handshake`](super::handshake).
///
/// It is ready when no exchange is under way: from the end of a response's body to the next call.
///
/// # Clone
///
/// It has none, since one exchange at a time is all there is; [`ShareLayer`](crate::ShareLayer)
/// makes clones that take turns.
pub struct SendRequest<B> {
    inner: http1::SendRequest<B>,
    wire: Arc<Wire>,
    waiting: Key,
    told_ready: bool,
}

impl<B> SendRequest<B> {
    pub(super) fn new(inner: http1::SendRequest<B>, wire: Arc<Wire>) -> Self {
        SendRequest {
            inner,
            wire,
            waiting: Key::NONE,
            told_ready: false,
        }
    }
}

impl<B> Service<Request<B>> for SendRequest<B>
where
    B: http_body::Body + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = SendError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if let Err(error) = ready!(self.inner.poll_ready(cx)) {
            ready!(self.wire.poll_why(&mut self.waiting, cx));
            let reason = self.wire.reason(Arc::new(error), Stage::NotSent);
            return Poll::Ready(Err(SendError::Refused(reason)));
        }
        self.told_ready = true;
        Poll::Ready(Ok(()))
    }

    /// # Panics
    ///
    /// If `poll_ready` has not returned `Ready` before: hyper would hold the request back unseen.
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        assert!(
            mem::take(&mut self.told_ready),
            "connection was called before it was ready"
        );
        into_origin_form(&mut request);
        let response = self.inner.try_send_request(request);
        let wire = Arc::clone(&self.wire);
        let mut exchange = Exchange::begin(wire);
        ResponseFuture {
            inner: Box::pin(async move {
                let response = response.await;
                exchange.end();
                let wire = &exchange.wire;
                match response {
                    Ok(response) => {
                        Ok(response.map(|inner| ResponseBody::new(inner, Arc::clone(wire))))
                    }
                    Err(mut failed) => {
                        // hyper gives the request back if no part of it was written.
                        let unsent = failed.take_message().is_some();
                        Err(settle(wire, failed.into_error(), unsent).await)
                    }
                }
            }),
        }
    }
}

async fn settle(wire: &Wire, error: hyper::Error, unsent: bool) -> SendError {
    if unsent {
        // The connection failed before it got to the request, and tells nobody else why.
        if error
            .source()
            .is_some_and(|cause| cause.is::<hyper::Error>())
        {
            return SendError::Refused(wire.refuse(Arc::new(error)));
        }
        wire.settled(Until::WhyIsKnown).await;
        return SendError::Refused(wire.reason(Arc::new(error), Stage::NotSent));
    }
    if error.is_user() {
        // What the request itself did wrong ends the connection future, too. If that was dropped,
        // hyper says "user error" as well.
        wire.settled(Until::WhyIsKnown).await;
        return if wire.has_ended_in_order() {
            SendError::Failed(error)
        } else {
            SendError::GivenUp(wire.reason(Arc::new(error), Stage::AwaitingResponse))
        };
    }
    SendError::GivenUp(wire.fail(Arc::new(error), Stage::AwaitingResponse))
}

/// One that is dropped before its response is there has hyper close the connection.
struct Exchange {
    wire: Arc<Wire>,
    over: bool,
}

impl Exchange {
    fn begin(wire: Arc<Wire>) -> Exchange {
        wire.begin_exchange();
        Exchange { wire, over: false }
    }

    fn end(&mut self) {
        self.over = true;
        self.wire.end_exchange();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.over {
            self.wire.cancelled();
            self.wire.end_exchange();
        }
    }
}

/// The path in the request line, the authority in `Host`: as a server expects it, where the user has
/// not said otherwise.
fn into_origin_form<B>(request: &mut Request<B>) {
    if request.method() == Method::CONNECT || request.headers().contains_key(HOST) {
        return;
    }
    let uri = request.uri();
    let Some(authority) = uri.authority() else {
        return;
    };
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let Ok(host) = HeaderValue::from_str(host) else {
        return;
    };
    let path = uri.path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    request.headers_mut().insert(HOST, host);
}

impl<B> Drop for SendRequest<B> {
    fn drop(&mut self) {
        self.wire.stop_waiting(&mut self.waiting);
    }
}

impl<B> fmt::Debug for SendRequest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRequest")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// The response of a [`SendRequest`].
///
/// # Cancel safety
///
/// Dropping it closes the connection: HTTP/1 has no other way to give a request up.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    // hyper's own future has no name.
    inner: Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, SendError>> + Send>>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
