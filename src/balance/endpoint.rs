//! A connection as an endpoint of a balancer.

use std::{
    fmt,
    task::{Context, Poll},
};

use tower::load::Load;
use tower_service::Service;

use crate::{
    completion::{CompleteOnResponse, TrackCompletion},
    handle::Handle,
    service::Heartbeat,
};

/// A [`Heartbeat`] that takes its readiness back while calls are held back. Made by
/// [`Endpoints`](super::Endpoints).
///
/// A [`Heartbeat`] that has said that it is ready stays ready until it is called, as a `Service`
/// should. A balancer keeps its endpoints ready, so it would give each one that has become suspect
/// another call. `Balance` polls an endpoint again before it gives it a call, and takes another one if
/// that is pending.
pub struct Endpoint<S, C = CompleteOnResponse> {
    inner: Heartbeat<S, C>,
}

impl<S, C> Endpoint<S, C> {
    pub(super) fn new(inner: Heartbeat<S, C>) -> Self {
        Endpoint { inner }
    }

    /// Returns a handle to look at the connection and to close it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.inner.handle()
    }

    /// Returns a reference to the connection.
    pub fn get_ref(&self) -> &Heartbeat<S, C> {
        &self.inner
    }
}

impl<S, C, Request> Service<Request> for Endpoint<S, C>
where
    Heartbeat<S, C>: Service<Request>,
    S: Service<Request>,
    C: TrackCompletion<S::Response>,
{
    type Response = <Heartbeat<S, C> as Service<Request>>::Response;
    type Error = <Heartbeat<S, C> as Service<Request>>::Error;
    type Future = <Heartbeat<S, C> as Service<Request>>::Future;

    /// Becomes ready as [`Heartbeat`] does, and pending again when calls are held back.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.recall();
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.inner.call(request)
    }
}

impl<S, C> Load for Endpoint<S, C>
where
    S: Load,
{
    type Metric = S::Metric;

    fn load(&self) -> S::Metric {
        self.inner.load()
    }
}

impl<S, C> fmt::Debug for Endpoint<S, C>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("inner", &self.inner)
            .finish()
    }
}
