//! A gRPC health check as a ping.

use std::{
    fmt,
    num::NonZeroU32,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, TE},
    uri::PathAndQuery,
};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower_service::Service;

use super::message::{SERVING, decode, encode};
use crate::{
    error::BoxError,
    http::is_from_a_living_peer,
    ping::{Ping, PingError, PingSource},
};

/// Pings with `grpc.health.v1.Health/Check`, on a clone of the channel.
///
/// Any answer with a `grpc-status` proves the path to the peer and is a pong: SERVING and
/// NOT_SERVING, and just so NOT_FOUND or UNAUTHENTICATED.
/// [`expect_serving`](HealthSource::expect_serving) is stricter. A reset of the ping's
/// stream by the peer is a pong as well. An answer that is not gRPC (a proxy's HTTP 502, say) ends the connection with
/// [`Failure::PingFailed`](crate::Failure::PingFailed), its source a [`HealthError`].
///
/// A server that works on few calls at a time needs
/// [`max_concurrent_requests`](HealthSource::max_concurrent_requests).
///
/// # Servers without a health service
///
/// They answer UNIMPLEMENTED. That is a sign of life, but it says that this peer
/// [cannot be pinged](PingError::unsupported): the connection goes on without pings, so that a peer
/// that vanishes is noticed by `idle_timeout` and `quiet_timeout` alone. A warning says so (`peer cannot be
/// pinged`), and [`Handle::can_ping`](crate::Handle::can_ping) is `false`. If that answer shall serve as
/// the pong, say so with [`accept_unimplemented`](HealthSource::accept_unimplemented).
///
/// # Origin
///
/// The request's URI is only a path, to which tonic's `Channel` adds the rest. Other services need
/// [`origin`](HealthSource::origin).
///
/// ```
/// use tower_heartbeat::{Config, HeartbeatLayer, http::CompleteOnBody, tonic::health};
///
/// let layer = HeartbeatLayer::new(Config::default(), health())
///     .completion(CompleteOnBody::default());
/// # let _ = layer;
/// ```
#[must_use]
pub fn health() -> HealthSource {
    HealthSource {
        uri: Uri::from_static(CHECK),
        request: encode(""),
        pongs: Pongs::Implemented,
        max_concurrent_requests: None,
    }
}

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// The source of [`health`].
#[derive(Clone, Debug)]
pub struct HealthSource {
    uri: Uri,
    request: Bytes,
    pongs: Pongs,
    max_concurrent_requests: Option<NonZeroU32>,
}

/// Which answers are pongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pongs {
    /// All of a server that knows the question.
    Implemented,
    All,
    Serving,
}

impl HealthSource {
    /// Sends the pings to the scheme and authority of `origin`, which has to be absolute; its path is
    /// not used. `hyper::http2` needs it, tonic's `Channel` has its own.
    ///
    /// Default: none.
    #[must_use]
    pub fn origin(mut self, origin: Uri) -> Self {
        let mut parts = origin.into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(CHECK));
        // One that is not absolute leaves the path alone, and an origin is as missing as it was.
        self.uri = Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static(CHECK));
        self
    }

    /// Asks for the health of this service.
    ///
    /// Default: the empty name, which stands for the whole server.
    #[must_use]
    pub fn service(mut self, name: &str) -> Self {
        self.request = encode(name);
        self
    }

    /// Takes UNIMPLEMENTED as a pong, too: a server that says that it has no health service has
    /// answered. Useless with [`expect_serving`](HealthSource::expect_serving), which it leaves as strict.
    ///
    /// Default: UNIMPLEMENTED stops the pings (see [`health`]).
    #[must_use]
    pub fn accept_unimplemented(mut self) -> Self {
        if self.pongs == Pongs::Implemented {
            self.pongs = Pongs::All;
        }
        self
    }

    /// Takes only SERVING as a pong. Any other answer ends the connection with
    /// [`Failure::PingFailed`](crate::Failure::PingFailed), its source a [`HealthError`]; the
    /// UNIMPLEMENTED of a server without a health service does so, too.
    #[must_use]
    pub fn expect_serving(mut self) -> Self {
        self.pongs = Pongs::Serving;
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

impl<S, B> PingSource<S> for HealthSource
where
    S: Service<Request<tonic::body::Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Ping = HealthPing<S>;

    fn attach(&self, service: &S) -> Option<HealthPing<S>> {
        Some(HealthPing {
            service: service.clone(),
            source: self.clone(),
        })
    }
}

/// The pings of one connection, made by [`health`].
pub struct HealthPing<S> {
    service: S,
    source: HealthSource,
}

impl<S, B> Ping for HealthPing<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Pong = HealthPong<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        self.service.poll_ready(cx).map_err(PingError::new)
    }

    fn ping(&mut self) -> Self::Pong {
        let body = Full::new(self.source.request.clone());
        let mut request = Request::new(tonic::body::Body::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.source.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        HealthPong {
            state: State::Asked {
                response: self.service.call(request),
            },
            pongs: self.source.pongs,
        }
    }

    fn call_off(&mut self) {
        self.service = self.service.clone();
    }

    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        self.source.max_concurrent_requests
    }
}

impl<S> fmt::Debug for HealthPing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthPing")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer to a health check.
    pub struct HealthPong<F, B> {
        #[pin]
        state: State<F, B>,
        pongs: Pongs,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Asked { #[pin] response: F },
        Reading { #[pin] body: B, answer: Answer },
    }
}

/// What has been read of a gRPC answer.
struct Answer {
    head: StatusCode,
    message: Vec<u8>,
    frames: usize,
}

/// An answer takes two; this many small ones are none. The driver has no budget of tokio's to stop a body
/// that is always ready.
const MOST_FRAMES: usize = 64;

/// Of the few bytes that an answer has, future fields included.
const LONGEST_MESSAGE: usize = 4096;

impl<F, B, E> Future for HealthPong<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = Result<(), PingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let pongs = *this.pongs;
        loop {
            match this.state.as_mut().project() {
                StateProjection::Asked { response } => match ready!(response.poll(cx)) {
                    Ok(response) => {
                        if let Some(status) = Status::from_header_map(response.headers()) {
                            return Poll::Ready(judge(pongs, status.code(), &[]));
                        }
                        let head = response.status();
                        if head != StatusCode::OK {
                            return Poll::Ready(Err(HealthError::NotGrpc { status: head }.into()));
                        }
                        this.state.set(State::Reading {
                            body: response.into_body(),
                            answer: Answer {
                                head,
                                message: Vec::new(),
                                frames: 0,
                            },
                        });
                    }
                    Err(error) => return Poll::Ready(unanswered(pongs, error.into())),
                },
                StateProjection::Reading { body, answer } => match ready!(body.poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        let frame = match frame.into_trailers() {
                            Ok(trailers) => return Poll::Ready(answer.end(pongs, &trailers)),
                            Err(frame) => frame,
                        };
                        if let Ok(data) = frame.into_data()
                            && !answer.take(data)
                        {
                            return Poll::Ready(Err(answer.not_grpc()));
                        }
                    }
                    Some(Err(error)) => return Poll::Ready(unanswered(pongs, error.into())),
                    None => return Poll::Ready(Err(answer.not_grpc())),
                },
            }
        }
    }
}

impl Answer {
    /// Returns whether it may still be the answer to a health check.
    fn take<D: Buf>(&mut self, data: D) -> bool {
        self.frames += 1;
        let fits = data.remaining() <= LONGEST_MESSAGE - self.message.len();
        if fits {
            self.message.put(data);
        }
        fits && self.frames <= MOST_FRAMES
    }

    fn end(&self, pongs: Pongs, trailers: &HeaderMap) -> Result<(), PingError> {
        match Status::from_header_map(trailers) {
            Some(status) => judge(pongs, status.code(), &self.message),
            None => Err(self.not_grpc()),
        }
    }

    fn not_grpc(&self) -> PingError {
        HealthError::NotGrpc { status: self.head }.into()
    }
}

impl<F, B> fmt::Debug for HealthPong<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthPong").finish_non_exhaustive()
    }
}

fn unanswered(pongs: Pongs, error: BoxError) -> Result<(), PingError> {
    if pongs != Pongs::Serving && is_from_a_living_peer(&*error) {
        return Ok(());
    }
    Err(PingError::new(error))
}

fn judge(pongs: Pongs, code: Code, message: &[u8]) -> Result<(), PingError> {
    match (pongs, code) {
        (Pongs::Implemented, Code::Unimplemented) => {
            Err(PingError::unsupported(HealthError::Unimplemented))
        }
        (Pongs::Implemented | Pongs::All, _) => Ok(()),
        (Pongs::Serving, Code::Ok) => match decode(message) {
            Some(SERVING) => Ok(()),
            Some(status) => Err(HealthError::NotServing { status }.into()),
            None => Err(HealthError::Malformed.into()),
        },
        (Pongs::Serving, code) => Err(HealthError::Refused { code }.into()),
    }
}

/// Why the answer to a health check was no pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthError {
    /// The answer had no `grpc-status`, or more to it than the answer to a health check has.
    #[non_exhaustive]
    NotGrpc {
        /// The HTTP status.
        status: StatusCode,
    },
    /// The server has no health service. It ends no connection: see [`health`].
    Unimplemented,
    /// The check itself failed, where [`expect_serving`](HealthSource::expect_serving) asked for SERVING.
    #[non_exhaustive]
    Refused {
        /// The gRPC status.
        code: Code,
    },
    /// The service is not SERVING, as [`expect_serving`](HealthSource::expect_serving) asked for.
    #[non_exhaustive]
    NotServing {
        /// The protocol's number: 0 is UNKNOWN, 2 NOT_SERVING, 3 SERVICE_UNKNOWN.
        status: u64,
    },
    /// The answer could not be decoded, where [`expect_serving`](HealthSource::expect_serving) asked for SERVING.
    Malformed,
}

impl fmt::Display for HealthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HealthError::NotGrpc { status } => {
                write!(
                    f,
                    "health check was not answered in gRPC (HTTP status {status})"
                )
            }
            HealthError::Unimplemented => f.write_str("peer has no gRPC health service"),
            HealthError::Refused { code } => write!(f, "health check failed: {code}"),
            HealthError::NotServing { status: 2 } => f.write_str("service is not serving"),
            HealthError::NotServing { status } => {
                write!(f, "service is not serving (health status {status})")
            }
            HealthError::Malformed => f.write_str("answer to the health check is malformed"),
        }
    }
}

impl std::error::Error for HealthError {}
