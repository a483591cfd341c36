//! A request through the service as a ping.

use std::{
    fmt,
    future::{Ready, ready},
    num::NonZeroU32,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{FnPong, Ping, PingError, PingSource};
use crate::error::BoxError;

/// Pings with the request that `make` returns, sent through a clone of the wrapped service.
///
/// The clone is the ping's own: no readiness of the traffic is used up. Any response counts as a
/// pong; [`RequestSource::check`] is stricter. An error of the inner service fails the ping, and with
/// it the connection, so limits and load shedding belong *outside* the heartbeat.
///
/// ```
/// use tower_heartbeat::{Config, HeartbeatLayer, ping};
///
/// let layer = HeartbeatLayer::new(Config::default(), ping::request(|| "PING"));
/// # let _: HeartbeatLayer<_> = layer;
/// ```
pub fn request<M, Req>(make: M) -> RequestSource<M>
where
    M: Fn() -> Req + Clone,
{
    RequestSource {
        make,
        check: AnyResponse,
        max_concurrent_requests: None,
    }
}

/// The source of [`request`].
#[derive(Clone)]
pub struct RequestSource<M, C = AnyResponse> {
    make: M,
    check: C,
    max_concurrent_requests: Option<NonZeroU32>,
}

impl<M> RequestSource<M> {
    /// Has `check` judge each response: only `Ok` is a pong, an error ends the connection with
    /// [`Failure::PingFailed`](crate::Failure::PingFailed) and is its source.
    ///
    /// It runs inside the pong wait, and may read the response's body.
    ///
    /// ```
    /// use tower_heartbeat::{Config, HeartbeatLayer, ping};
    ///
    /// let ping = ping::request(|| "PING").check(|answer: String| async move {
    ///     match answer.as_str() {
    ///         "PONG" => Ok(()),
    ///         other => Err(format!("answered {other:?} to PING")),
    ///     }
    /// });
    /// let layer = HeartbeatLayer::new(Config::default(), ping);
    /// # let _: HeartbeatLayer<_> = layer;
    /// ```
    pub fn check<F, Response, Fut, E>(self, check: F) -> RequestSource<M, CheckFn<F>>
    where
        F: Fn(Response) -> Fut + Clone,
        Fut: Future<Output = Result<(), E>>,
        E: Into<PingError>,
    {
        RequestSource {
            make: self.make,
            check: CheckFn(check),
            max_concurrent_requests: self.max_concurrent_requests,
        }
    }
}

impl<M, C> RequestSource<M, C> {
    /// Tells how many requests the peer works on at a time, pings included: over HTTP/2 its
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`, of which neither hyper nor tonic tells.
    ///
    /// While so many are in flight no ping is made, since it would wait behind them in the transport's
    /// queue, unseen, and slow requests would look like a dead peer; see
    /// [`ping`](super#a-peer-that-works-on-few-requests-at-a-time). Then only
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

/// Judges the response to a ping. Implemented by [`AnyResponse`] and [`CheckFn`].
pub trait Check<Response> {
    /// The judgement.
    type Future: Future<Output = Result<(), PingError>>;

    /// Judges `response`.
    fn check(&self, response: Response) -> Self::Future;
}

/// Takes any response as a pong.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AnyResponse;

impl<Response> Check<Response> for AnyResponse {
    type Future = Ready<Result<(), PingError>>;

    fn check(&self, _: Response) -> Self::Future {
        ready(Ok(()))
    }
}

/// Asks a closure. Made by [`RequestSource::check`].
#[derive(Clone)]
pub struct CheckFn<F>(F);

impl<F, Response, Fut, E> Check<Response> for CheckFn<F>
where
    F: Fn(Response) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<PingError>,
{
    type Future = FnPong<Fut>;

    fn check(&self, response: Response) -> Self::Future {
        FnPong::new((self.0)(response))
    }
}

impl<S, M, Req, C> PingSource<S> for RequestSource<M, C>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    M: Fn() -> Req + Clone,
    C: Check<S::Response> + Clone,
{
    type Ping = RequestPing<S, M, C>;

    fn attach(&self, service: &S) -> Option<Self::Ping> {
        Some(RequestPing {
            service: service.clone(),
            make: self.make.clone(),
            check: self.check.clone(),
            max_concurrent_requests: self.max_concurrent_requests,
        })
    }
}

/// The pings of one connection, made by [`request`].
pub struct RequestPing<S, M, C> {
    service: S,
    make: M,
    check: C,
    max_concurrent_requests: Option<NonZeroU32>,
}

impl<S, M, Req, C> Ping for RequestPing<S, M, C>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    M: Fn() -> Req,
    C: Check<S::Response> + Clone,
{
    type Pong = RequestPong<S::Future, C, C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        self.service.poll_ready(cx).map_err(PingError::new)
    }

    fn ping(&mut self) -> Self::Pong {
        RequestPong {
            state: State::Calling {
                future: self.service.call((self.make)()),
                check: self.check.clone(),
            },
        }
    }

    fn call_off(&mut self) {
        // A fresh clone holds no readiness; the old one's permits go back with it.
        self.service = self.service.clone();
    }

    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        self.max_concurrent_requests
    }
}

pin_project! {
    /// The response to a ping, then its judgement.
    pub struct RequestPong<F, C, J> {
        #[pin]
        state: State<F, C, J>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, C, J> {
        Calling { #[pin] future: F, check: C },
        Judging { #[pin] judgement: J },
    }
}

impl<F, C, Response, E> Future for RequestPong<F, C, C::Future>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<BoxError>,
    C: Check<Response>,
{
    type Output = Result<(), PingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let judgement = match state.as_mut().project() {
                StateProjection::Calling { future, check } => match ready!(future.poll(cx)) {
                    Ok(response) => check.check(response),
                    Err(error) => return Poll::Ready(Err(PingError::new(error))),
                },
                StateProjection::Judging { judgement } => return judgement.poll(cx),
            };
            state.set(State::Judging { judgement });
        }
    }
}

impl<M, C> fmt::Debug for RequestSource<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSource").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for CheckFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckFn").finish_non_exhaustive()
    }
}

impl<S, M, C> fmt::Debug for RequestPing<S, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPing").finish_non_exhaustive()
    }
}

impl<F, C, J> fmt::Debug for RequestPong<F, C, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPong").finish_non_exhaustive()
    }
}
