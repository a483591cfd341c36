//! The server's side of pings that are requests: they are answered without the service.
//!
//! [`PongLayer`] takes them out of what comes in. The service behind it may be slow, out of permits or not ready at all: the
//! peer still finds out that this process lives.
//!
//! ```
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_heartbeat::{BoxError, pong::PongLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .layer(PongLayer::new(|request: &String| {
//!         (request == "PING").then(|| "PONG".to_string())
//!     }))
//!     .load_shed() // a limit that says no goes below, so that it says so to others only
//!     .concurrency_limit(100)
//!     .service(service_fn(|request: String| async move {
//!         Ok::<_, BoxError>(request.to_lowercase())
//!     }));
//!
//! assert_eq!(service.ready().await?.call("PING".into()).await?, "PONG");
//! assert_eq!(service.ready().await?.call("HELLO".into()).await?, "hello");
//! # Ok(())
//! # }
//! ```

mod future;
#[cfg(feature = "tonic")]
mod health;
#[cfg(feature = "http")]
mod path;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

pub use future::PongFuture;
#[cfg(feature = "tonic")]
pub use health::GrpcPongs;
#[cfg(feature = "http")]
pub use path::PathPongs;

/// Says which requests are pings, and answers them.
///
/// A closure from `&Request` to `Option<Response>` is such.
pub trait Pongs<Request, Response> {
    /// Returns the pong, `None` if `request` is no ping.
    fn pong(&self, request: &Request) -> Option<Response>;
}

impl<F, Request, Response> Pongs<Request, Response> for F
where
    F: Fn(&Request) -> Option<Response>,
{
    fn pong(&self, request: &Request) -> Option<Response> {
        self(request)
    }
}

/// Wraps services in a [`Pong`].
pub struct PongLayer<A> {
    pongs: Arc<A>,
}

impl<A> PongLayer<A> {
    /// Answers the requests for which `pongs` has an answer.
    ///
    /// It is asked in `call`, and should not take long. `PongLayer::path` (feature `http`) and
    /// `PongLayer::grpc_health` (feature `tonic`) are such by themselves.
    #[must_use]
    pub fn new<Request, Response>(pongs: A) -> Self
    where
        A: Fn(&Request) -> Option<Response>,
    {
        PongLayer::from_pongs(pongs)
    }

    /// As [`new`](PongLayer::new), for a type of one's own.
    #[must_use]
    pub fn from_pongs(pongs: A) -> Self {
        PongLayer {
            pongs: Arc::new(pongs),
        }
    }
}

impl<S, A> Layer<S> for PongLayer<A> {
    type Service = Pong<S, A>;

    fn layer(&self, inner: S) -> Pong<S, A> {
        Pong {
            inner,
            pongs: Arc::clone(&self.pongs),
        }
    }
}

impl<A> Clone for PongLayer<A> {
    fn clone(&self) -> Self {
        PongLayer {
            pongs: Arc::clone(&self.pongs),
        }
    }
}

impl<A> fmt::Debug for PongLayer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PongLayer").finish_non_exhaustive()
    }
}

/// Answers pings without its service. Made by [`PongLayer`].
///
/// # Readiness
///
/// It is always ready, since the next request may be a ping, and never asks the inner service before there is a
/// request for it: a permit would be kept from others meanwhile. Each request waits in its own future, with a clone of the service, until
/// that is ready; `ShareLayer` makes clones of a service that is not `Clone`.
///
/// So there is no back-pressure left above: who calls without an end has calls that wait without an end. hyper, axum and tonic ask
/// no service for readiness before they read a request, and lose nothing. Elsewhere put a limit *and*
/// tower's `LoadShed` below, as [above](crate::pong), or a limit of the connection's own (`transport::Serve` has one).
///
/// # Clone
///
/// Clones are as good as the inner service's.
pub struct Pong<S, A> {
    inner: S,
    pongs: Arc<A>,
}

impl<S, A> Pong<S, A> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, A, Request> Service<Request> for Pong<S, A>
where
    S: Service<Request> + Clone,
    A: Pongs<Request, S::Response>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PongFuture<S, Request>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.pongs.pong(&request) {
            Some(pong) => PongFuture::answered(pong),
            None => PongFuture::waiting(self.inner.clone(), request),
        }
    }
}

impl<S, A> Clone for Pong<S, A>
where
    S: Clone,
{
    fn clone(&self) -> Self {
        Pong {
            inner: self.inner.clone(),
            pongs: Arc::clone(&self.pongs),
        }
    }
}

impl<S, A> fmt::Debug for Pong<S, A>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pong")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
