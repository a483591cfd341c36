//! An HTTP request as a ping.

use std::{
    fmt,
    marker::PhantomData,
    num::NonZeroU32,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    error::BoxError,
    ping::{Ping, PingError, PingSource},
};

/// Pings with `HEAD` requests for `uri`, on a clone of the service.
///
/// The URI has to be absolute. Over HTTP/1, `hyper::http1` sends its path and a `Host` header; with
/// other clients it is sent as it is. Any answer is a pong, since any well-formed answer proves the
/// path to the peer (a reset of its HTTP/2 stream, too); [`expect_status`](HttpSource::expect_status)
/// is stricter. A peer that works on few requests at a time needs
/// [`max_concurrent_requests`](HttpSource::max_concurrent_requests). [`ping::request`](crate::ping::request) sends a request with headers of your own.
///
/// ```
/// use http::{StatusCode, Uri};
/// use tower_heartbeat::{Config, HeartbeatLayer, http::{CompleteOnBody, head}};
/// # type RequestBody = String;
///
/// let ping = head::<RequestBody>(Uri::from_static("http://localhost/health"))
///     .expect_status(StatusCode::NO_CONTENT);
/// let layer = HeartbeatLayer::new(Config::default(), ping)
///     .completion(CompleteOnBody::default());
/// # let _ = layer;
/// ```
pub fn head<B>(uri: Uri) -> HttpSource<B> {
    HttpSource::new(Method::HEAD, uri)
}

/// Pings with `OPTIONS` requests for `uri`; as [`head`] otherwise. Over HTTP/1, an answer with a body
/// that doesn't come at once costs the connection.
pub fn options<B>(uri: Uri) -> HttpSource<B> {
    HttpSource::new(Method::OPTIONS, uri)
}

/// The source of [`head`] and [`options`]; `B` is the service's request body, of which the ping
/// sends the default.
pub struct HttpSource<B> {
    method: Method,
    uri: Uri,
    expected: Option<StatusCode>,
    max_concurrent_requests: Option<NonZeroU32>,
    body: PhantomData<fn() -> B>,
}

impl<B> HttpSource<B> {
    fn new(method: Method, uri: Uri) -> Self {
        HttpSource {
            method,
            uri,
            expected: None,
            max_concurrent_requests: None,
            body: PhantomData,
        }
    }

    /// Takes only answers with this status as pongs. Any other ends the connection with
    /// [`Failure::PingFailed`](crate::Failure::PingFailed), its source an [`UnexpectedStatus`].
    #[must_use]
    pub fn expect_status(mut self, status: StatusCode) -> Self {
        self.expected = Some(status);
        self
    }

    /// Tells how many requests the peer works on at a time, pings included: over HTTP/2 its
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`, of which neither hyper nor tonic tells.
    ///
    /// While so many are in flight no ping is made, since it would wait behind them in the transport's
    /// queue, unseen, and slow requests would look like a dead peer; see
    /// [`ping`](crate::ping#a-peer-that-works-on-few-requests-at-a-time). Then only
    /// [`quiet_timeout`](crate::ConfigBuilder::quiet_timeout) watches the peer.
    /// It has to be what this connection's requests can use: those that others send beside the heartbeat are not
    /// counted.
    ///
    /// Default: none, pings are made however many are in flight.
    #[doc(alias = "max_concurrent_streams")]
    #[must_use]
    pub fn max_concurrent_requests(mut self, limit: NonZeroU32) -> Self {
        self.max_concurrent_requests = Some(limit);
        self
    }
}

impl<S, B, R> PingSource<S> for HttpSource<B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Default,
    R: Body,
{
    type Ping = HttpPing<S, B>;

    fn attach(&self, service: &S) -> Option<Self::Ping> {
        Some(HttpPing {
            service: service.clone(),
            source: self.clone(),
        })
    }
}

/// The pings of one connection, made by [`head`] or [`options`].
pub struct HttpPing<S, B> {
    service: S,
    source: HttpSource<B>,
}

impl<S, B, R> Ping for HttpPing<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Default,
    R: Body,
{
    type Pong = HttpPong<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        self.service.poll_ready(cx).map_err(PingError::new)
    }

    fn ping(&mut self) -> Self::Pong {
        let mut request = Request::new(B::default());
        *request.method_mut() = self.source.method.clone();
        *request.uri_mut() = self.source.uri.clone();
        HttpPong {
            response: self.service.call(request),
            expected: self.source.expected,
        }
    }

    fn call_off(&mut self) {
        self.service = self.service.clone();
    }

    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        self.source.max_concurrent_requests
    }
}

pin_project! {
    /// The answer to an HTTP ping.
    pub struct HttpPong<F> {
        #[pin]
        response: F,
        expected: Option<StatusCode>,
    }
}

impl<F, R, E> Future for HttpPong<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
    R: Body,
{
    type Output = Result<(), PingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.response.poll(cx)) {
            Ok(response) => response,
            Err(error) => {
                let error = error.into();
                return Poll::Ready(if is_from_a_living_peer(&*error) {
                    Ok(())
                } else {
                    Err(PingError::new(error))
                });
            }
        };
        if let Some(expected) = *this.expected
            && response.status() != expected
        {
            return Poll::Ready(Err(PingError::new(UnexpectedStatus {
                status: response.status(),
                expected,
            })));
        }
        // The head is the sign of life. What is there of a body is read, so that a stream that is
        // complete need not be reset; the rest goes with it.
        let mut body = pin!(response.into_body());
        for _ in 0..MOST_FRAMES {
            let Poll::Ready(Some(Ok(_))) = body.as_mut().poll_frame(cx) else {
                break;
            };
        }
        Poll::Ready(Ok(()))
    }
}

/// A body that is always ready must not hold the driver, which has no budget of tokio's to stop it.
const MOST_FRAMES: usize = 16;

/// A peer that resets the ping's stream (an overloaded one refuses it) has answered.
#[cfg(any(feature = "hyper", feature = "tonic"))]
pub(crate) fn is_from_a_living_peer(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.is_reset() && h2.is_remote();
        }
        next = error.source();
    }
    false
}

#[cfg(not(any(feature = "hyper", feature = "tonic")))]
fn is_from_a_living_peer(_: &(dyn std::error::Error + 'static)) -> bool {
    false
}

/// An HTTP ping was answered with another status than
/// [`expect_status`](HttpSource::expect_status) asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnexpectedStatus {
    status: StatusCode,
    expected: StatusCode,
}

impl UnexpectedStatus {
    /// Returns the status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the status that was asked for.
    #[must_use]
    pub fn expected(&self) -> StatusCode {
        self.expected
    }
}

impl fmt::Display for UnexpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ping was answered with status {}, expected {}",
            self.status, self.expected
        )
    }
}

impl std::error::Error for UnexpectedStatus {}

impl<B> Clone for HttpSource<B> {
    fn clone(&self) -> Self {
        HttpSource {
            method: self.method.clone(),
            uri: self.uri.clone(),
            expected: self.expected,
            max_concurrent_requests: self.max_concurrent_requests,
            body: PhantomData,
        }
    }
}

impl<B> fmt::Debug for HttpSource<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource")
            .field("method", &self.method)
            .field("uri", &self.uri)
            .field("expected", &self.expected)
            .field("max_concurrent_requests", &self.max_concurrent_requests)
            .finish()
    }
}

impl<S, B> fmt::Debug for HttpPing<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPing")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for HttpPong<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPong").finish_non_exhaustive()
    }
}
