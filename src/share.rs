//! Clones of a service that is not `Clone`.

mod desk;
mod future;

use std::{
    fmt,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use desk::Place;
pub use future::ShareFuture;

/// Makes a service that is not `Clone` cloneable, so that a ping can have a clone of its own.
///
/// ```
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, ServiceExt, util::BoxService};
/// use tower_heartbeat::{BoxError, Config, HeartbeatLayer, ShareLayer, ping};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// // A connection for one exchange at a time, which cannot be cloned.
/// let connection: BoxService<&'static str, String, BoxError> =
///     BoxService::new(tower::service_fn(|request: &'static str| async move {
///         Ok(request.replace('I', "O"))
///     }));
///
/// let mut service = ServiceBuilder::new()
///     .layer(HeartbeatLayer::new(
///         Config::detect_within(Duration::from_secs(10))?,
///         ping::request(|| "PING"),
///     ))
///     .layer(ShareLayer::new())
///     .service(connection);
///
/// assert_eq!(service.ready().await?.call("PING").await?, "PONG");
/// # Ok(())
/// # }
/// ```
///
/// `tower::buffer` makes clones as well, but its readiness is a free place in a queue: a ping would
/// be counted as sent while it still waits behind a slow request.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ShareLayer;

impl ShareLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        ShareLayer
    }
}

impl<S> Layer<S> for ShareLayer {
    type Service = Share<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Share::new(inner)
    }
}

/// One of the clones of a service that is not `Clone` itself. Made by [`ShareLayer`].
///
/// The inner service's readiness belongs to no clone in particular: all that wait for it are told
/// `Ready`, and the first that calls has it. A call that comes too late waits inside its own
/// future, keeps its request there, and is sent when the inner service is ready again.
///
/// Nothing is reserved by a clone that is held back, dropped, or waits: it keeps no other from going on.
///
/// # Clone
///
/// All clones share the one inner service, which is dropped with the last of them and of the calls
/// that wait. A clone is not ready.
pub struct Share<S> {
    place: Place<S>,
    /// An instance that was told `Ready` stays ready until `call`, whoever calls before it.
    told_ready: bool,
}

impl<S> Share<S> {
    /// Creates the first clone.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Share {
            place: Place::new(inner),
            told_ready: false,
        }
    }
}

impl<S, Request> Service<Request> for Share<S>
where
    S: Service<Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ShareFuture<S, Request, S::Future>;

    /// Becomes ready when the inner service is and no earlier call waits for it.
    ///
    /// # Errors
    ///
    /// The inner service's. Each clone asks it for itself, so it has to go on failing once it has
    /// failed, as services of connections do.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self.place.poll_turn(cx) {
            Poll::Ready(Ok(_)) => {
                self.told_ready = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if self.told_ready => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.told_ready = false;
        self.place.stop_waiting();
        if let Some(turn) = self.place.take_turn() {
            return ShareFuture::sent(turn.call(request));
        }
        ShareFuture::waiting(self.place.another(), request)
    }
}

impl<S> Clone for Share<S> {
    fn clone(&self) -> Self {
        Share {
            place: self.place.another(),
            told_ready: false,
        }
    }
}

impl<S> fmt::Debug for Share<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("told_ready", &self.told_ready)
            .finish_non_exhaustive()
    }
}
