//! The heartbeat's errors as what a generated client shows.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{BoxError, HeartbeatError};

/// Has tonic's clients say `Unavailable` where a heartbeat below ended the connection, with its
/// [`HeartbeatError`] in the status's sources: [`HeartbeatError::find`] finds it.
///
/// It belongs right below the client, outside of everything that acts on a failing `poll_ready`:
/// `Reconnect`, `Balance`, pools. A client turns an error of `poll_ready` into text; so the
/// service is ready then, and the next call fails with it.
///
/// Other errors become the status that tonic itself makes of them. A connection that did not come about
/// (`ConnectError` of the `hyper` feature) is `Unavailable`, too.
///
/// ```
/// use tonic::{Code, Status};
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_heartbeat::{Failure, HeartbeatError, Stage, tonic::StatusLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_heartbeat::BoxError> {
/// let dead = tower::service_fn(|_: http::Request<tonic::body::Body>| async {
///     let end = HeartbeatError::new(Failure::PongTimeout, Stage::AwaitingResponse);
///     Err::<http::Response<tonic::body::Body>, _>(end)
/// });
/// let mut channel = ServiceBuilder::new().layer(StatusLayer::new()).service(dead);
///
/// let request = http::Request::new(tonic::body::Body::empty());
/// let status: Status = channel.ready().await?.call(request).await.unwrap_err();
/// assert_eq!(status.code(), Code::Unavailable);
/// let end = HeartbeatError::find(&status).expect("in its sources");
/// assert_eq!(end.failure(), Failure::PongTimeout);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StatusLayer;

impl StatusLayer {
    /// Creates the layer.
    #[must_use]
    pub fn new() -> Self {
        StatusLayer
    }
}

impl<S> Layer<S> for StatusLayer {
    type Service = StatusService<S>;

    fn layer(&self, inner: S) -> StatusService<S> {
        StatusService {
            inner,
            refusal: None,
        }
    }
}

/// A channel whose errors are statuses. Made by [`StatusLayer`].
///
/// # Clone
///
/// A clone is not ready, and has not failed.
pub struct StatusService<S> {
    inner: S,
    /// What `poll_ready` failed with, for the call that it let through.
    refusal: Option<Status>,
}

impl<S> StatusService<S> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, Request, B> Service<Request> for StatusService<S>
where
    S: Service<Request, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Response = Response<StatusBody<B>>;
    type Error = Status;
    type Future = StatusFuture<S::Future>;

    /// Becomes ready when the inner service is, or when it has failed: its error is the next call's.
    /// After that call the inner service is asked again.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.refusal.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map(|result| {
            self.refusal = result.err().map(|error| status_of(error.into()));
            Ok(())
        })
    }

    fn call(&mut self, request: Request) -> Self::Future {
        StatusFuture {
            state: match self.refusal.take() {
                Some(status) => State::Refused {
                    status: Some(status),
                },
                None => State::Sent {
                    future: self.inner.call(request),
                },
            },
        }
    }
}

impl<S> Clone for StatusService<S>
where
    S: Clone,
{
    fn clone(&self) -> Self {
        StatusService {
            inner: self.inner.clone(),
            refusal: None,
        }
    }
}

impl<S> fmt::Debug for StatusService<S>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of a [`StatusService`].
    ///
    /// # Panics
    ///
    /// If it is polled again after it has completed.
    #[must_use = "futures do nothing unless polled"]
    pub struct StatusFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Sent { #[pin] future: F },
        Refused { status: Option<Status> },
    }
}

impl<F, B, E> Future for StatusFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<StatusBody<B>>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Sent { future } => future.poll(cx).map(|result| match result {
                Ok(response) => Ok(response.map(|inner| StatusBody { inner })),
                Err(error) => Err(status_of(error.into())),
            }),
            StateProjection::Refused { status } => {
                Poll::Ready(Err(status.take().expect("polled after completion")))
            }
        }
    }
}

impl<F> fmt::Debug for StatusFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// A response body whose errors are statuses. `Unpin` where the inner body is.
    #[derive(Debug)]
    pub struct StatusBody<B> {
        #[pin]
        inner: B,
    }
}

impl<B> StatusBody<B> {
    /// Returns a reference to the inner body.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B> http_body::Body for StatusBody<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = self.project().inner.poll_frame(cx);
        frame.map_err(|error| status_of(error.into()))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn status_of(error: BoxError) -> Status {
    let message = match HeartbeatError::find(&*error) {
        Some(end) => end.to_string(),
        None if has_no_connection(&*error) => error.to_string(),
        None => return Status::from_error(error),
    };
    let mut status = Status::unavailable(message);
    status.set_source(Arc::from(error));
    status
}

#[cfg(feature = "hyper")]
fn has_no_connection(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<crate::hyper::http2::ConnectError>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(not(feature = "hyper"))]
fn has_no_connection(_: &(dyn StdError + 'static)) -> bool {
    false
}
