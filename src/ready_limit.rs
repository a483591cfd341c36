//! A limit for a service that would otherwise be awaited for ever.
//!
//! tower's `Balance` is pending while it has no endpoint, and so is `Reconnect` while it connects; a
//! `Timeout` bounds neither, because it begins with the call. [`ReadyLimit`] goes around them. It never
//! fails in `poll_ready`, which a `Buffer` above would not survive: when the limit has run out, it says
//! ready and fails the call with [`NotReady`].
//!
//! The calls behind one that waited in vain are failed at once for as long again, unless the service
//! becomes ready: those who queue up (in a `Buffer`, say) don't wait one after the other, each for the whole limit.
//!
//! ```
//! use std::time::Duration;
//! use tower::{Layer, Service, ServiceExt, balance::p2c::Balance, load::Constant};
//! use tower_heartbeat::ready_limit::{NotReady, ReadyLimitLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! # type Nobody = tower::util::BoxService<(), (), tower_heartbeat::BoxError>;
//! // There is no endpoint, and none comes.
//! let endpoints = futures_util::stream::pending::<Result<tower::discover::Change<u32, Constant<Nobody, u32>>, std::io::Error>>();
//! let limit = ReadyLimitLayer::new(Duration::from_secs(5))?;
//! let mut service = limit.layer(Balance::new(endpoints));
//!
//! let error = service.ready().await?.call(()).await.unwrap_err();
//! assert_eq!(error.downcast_ref::<NotReady>().unwrap().waited(), Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    config::{ConfigError, LONGEST, MILLISECOND, Setting},
    error::BoxError,
    moment::{Clock, Moment},
};

/// Wraps services in a [`ReadyLimit`].
#[derive(Clone)]
pub struct ReadyLimitLayer {
    limit: Duration,
    because: Option<Because>,
}

type Because = Arc<dyn Fn() -> Option<Reason> + Send + Sync>;

/// An error that more than one call is told.
pub type Reason = Arc<dyn StdError + Send + Sync>;

impl ReadyLimitLayer {
    /// Creates a layer with this limit, from the first poll that finds the service pending.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooShort`] under 1 ms, [`ConfigError::TooLong`] over 365 days.
    pub fn new(limit: Duration) -> Result<Self, ConfigError> {
        let setting = Setting::ReadyLimit;
        if limit < MILLISECOND {
            let least = MILLISECOND;
            return Err(ConfigError::TooShort { setting, least });
        }
        if limit > LONGEST {
            let most = LONGEST;
            return Err(ConfigError::TooLong { setting, most });
        }
        Ok(ReadyLimitLayer {
            limit,
            because: None,
        })
    }

    /// Has `because` asked why the service is not ready; [`NotReady`] has its answer as source.
    ///
    /// Default: there is no source.
    #[must_use]
    pub fn because<F>(self, because: F) -> Self
    where
        F: Fn() -> Option<Reason> + Send + Sync + 'static,
    {
        ReadyLimitLayer {
            because: Some(Arc::new(because)),
            ..self
        }
    }
}

impl<S> Layer<S> for ReadyLimitLayer {
    type Service = ReadyLimit<S>;

    fn layer(&self, inner: S) -> ReadyLimit<S> {
        ReadyLimit {
            inner,
            settings: self.clone(),
            clock: Clock::start(),
            state: State::Fresh,
        }
    }
}

impl fmt::Debug for ReadyLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyLimitLayer")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Fails calls that wait for too long until the service is ready. Made by [`ReadyLimitLayer`].
///
/// # Ties
///
/// A service that is ready when the limit runs out takes the call.
///
/// # Clone
///
/// A clone waits for itself.
pub struct ReadyLimit<S> {
    inner: S,
    settings: ReadyLimitLayer,
    clock: Clock,
    state: State,
}

enum State {
    Fresh,
    Waiting {
        sleep: Pin<Box<Sleep>>,
    },
    /// Told ready; the next call is failed, and those behind it until then: from that call on, if it is
    /// the one that waited.
    Failing {
        until: Option<Moment>,
    },
    /// The next calls are failed without a wait, unless the service becomes ready.
    Failed {
        until: Moment,
    },
}

impl<S> ReadyLimit<S> {
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.clock.now();
        match &self.state {
            State::Failing { .. } => return Poll::Ready(()),
            State::Failed { until } if now < *until => {
                let until = Some(*until);
                self.state = State::Failing { until };
                return Poll::Ready(());
            }
            State::Waiting { .. } => {}
            State::Fresh | State::Failed { .. } => {
                let Some(deadline) = self.clock.instant(now.after(self.settings.limit)) else {
                    return Poll::Pending;
                };
                let sleep = Box::pin(sleep_until(deadline));
                self.state = State::Waiting { sleep };
            }
        }
        if let State::Waiting { sleep } = &mut self.state
            && sleep.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        self.state = State::Failing { until: None };
        Poll::Ready(())
    }

    fn not_ready(&self) -> NotReady {
        NotReady {
            waited: self.settings.limit,
            source: self.settings.because.as_ref().and_then(|because| because()),
        }
    }
}

impl<S, Request> Service<Request> for ReadyLimit<S>
where
    S: Service<Request>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    /// Becomes ready when the inner service is, or when the limit has run out.
    ///
    /// # Errors
    ///
    /// The inner service's own.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a tokio runtime with time enabled.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.inner.poll_ready(cx) {
            Poll::Ready(ready) => {
                self.state = State::Fresh;
                Poll::Ready(ready.map_err(Into::into))
            }
            Poll::Pending => self.poll_limit(cx).map(Ok),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if let State::Failing { until } = self.state {
            let until = until.unwrap_or_else(|| self.clock.now().after(self.settings.limit));
            self.state = State::Failed { until };
            let error = Some(self.not_ready());
            let outcome = Outcome::Failed { error };
            return ResponseFuture { outcome };
        }
        let future = self.inner.call(request);
        let outcome = Outcome::Sent { future };
        ResponseFuture { outcome }
    }
}

impl<S> Clone for ReadyLimit<S>
where
    S: Clone,
{
    fn clone(&self) -> Self {
        self.settings.layer(self.inner.clone())
    }
}

impl<S> fmt::Debug for ReadyLimit<S>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyLimit")
            .field("inner", &self.inner)
            .field("limit", &self.settings.limit)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The response, or that the service was not ready in time.
    ///
    /// # Panics
    ///
    /// If it is polled again after it has completed.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        outcome: Outcome<F>,
    }
}

pin_project! {
    #[project = OutcomeProjection]
    enum Outcome<F> {
        Sent { #[pin] future: F },
        Failed { error: Option<NotReady> },
    }
}

impl<F, Response, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().outcome.project() {
            OutcomeProjection::Sent { future } => future.poll(cx).map_err(Into::into),
            OutcomeProjection::Failed { error } => {
                let error = error.take().expect("polled after completion");
                Poll::Ready(Err(error.into()))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A service was not ready in time. The request was not sent.
#[derive(Clone, Debug)]
pub struct NotReady {
    waited: Duration,
    source: Option<Reason>,
}

impl NotReady {
    /// Returns the limit that ran out.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service was not ready within {:?}", self.waited)
    }
}

impl StdError for NotReady {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
