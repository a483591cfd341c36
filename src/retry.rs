//! A policy for [`tower::retry`] that tells a safe retry from an unsafe one.
//!
//! | the error says | sent again |
//! |---|---|
//! | [`Stage::NotSent`], or that no connection came about | always |
//! | [`Stage::AwaitingResponse`], [`Stage::Streaming`] | if the request is idempotent |
//! | neither: it is somebody else's | never |
//!
//! "Always" within [`max_attempts`](RetryPolicyBuilder::max_attempts) and tower's
//! [`Budget`]; tower's [`Backoff`] waits in between.
//!
//! `Retry` belongs outside of what reconnects: a dead connection stays dead, so a retry has to find
//! another one.
//!
//! ```
//! use tower::{Service, ServiceExt, retry::Retry};
//! use tower_heartbeat::{Error, Failure, HeartbeatError, Stage, retry::RetryPolicy};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! // Its first connection dies under the request.
//! let mut connections = 0;
//! let service = tower::service_fn(move |request: &'static str| {
//!     connections += 1;
//!     let dies = connections == 1;
//!     async move {
//!         if dies {
//!             let end = HeartbeatError::new(Failure::PongTimeout, Stage::AwaitingResponse);
//!             return Err(Error::<std::io::Error>::Heartbeat(end));
//!         }
//!         Ok(request.len())
//!     }
//! });
//! let policy = RetryPolicy::builder()
//!     .idempotent(|request: &&str| request.starts_with("GET"))
//!     .build()?;
//!
//! let answer = Retry::new(policy.clone(), service.clone()).oneshot("GET x").await;
//! assert_eq!(answer?, 5);
//! let answer = Retry::new(policy, service).oneshot("SET x").await;
//! assert!(answer.is_err());
//! # Ok(())
//! # }
//! ```

mod builder;
mod progress;
mod request;

use std::{fmt, sync::Arc};

use tower::{
    retry::{
        Policy,
        backoff::{Backoff, ExponentialBackoff},
        budget::{Budget, TpsBudget},
    },
    util::rng::Rng,
};

pub use self::{
    builder::RetryPolicyBuilder,
    progress::Progress,
    request::{ByClone, CloneRequest, Idempotent, NoneIdempotent},
};
use crate::{dice::roll, error::Stage};

/// A [`Policy`] for the failures of a heartbeat; the [module](self) has its rule.
///
/// `I` says which requests are idempotent, `R` how a request is cloned, `B` is the budget and
/// `W` the waits between attempts.
///
/// # Clone
///
/// A clone shares the budget and begins its own count of attempts: tower makes one for each request.
pub struct RetryPolicy<I = NoneIdempotent, R = ByClone, B = TpsBudget, W = ExponentialBackoff<Dice>>
{
    idempotent: I,
    requests: R,
    budget: Arc<B>,
    backoff: W,
    max_attempts: u32,
    attempts: u32,
}

impl RetryPolicy {
    /// Starts from the defaults, which [`RetryPolicyBuilder`] names setting by setting.
    pub fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder::new()
    }
}

impl<I, R, B, W, Request, Response, E> Policy<Request, Response, E> for RetryPolicy<I, R, B, W>
where
    I: Idempotent<Request>,
    R: CloneRequest<Request>,
    B: Budget,
    W: Backoff,
    E: Progress,
{
    type Future = W::Future;

    fn retry(
        &mut self,
        request: &mut Request,
        result: &mut Result<Response, E>,
    ) -> Option<Self::Future> {
        let stage = match result {
            Ok(_) => {
                self.budget.deposit();
                return None;
            }
            Err(error) => error.progress()?,
        };
        self.attempts = self.attempts.saturating_add(1);
        let refused = if stage != Stage::NotSent && !self.idempotent.is_idempotent(request) {
            Some("not idempotent")
        } else if self.attempts >= self.max_attempts {
            Some("no attempts left")
        } else if !self.budget.withdraw() {
            Some("no budget left")
        } else {
            None
        };
        if let Some(reason) = refused {
            tracing::debug!(
                attempt = self.attempts,
                ?stage,
                reason,
                "request is not sent again"
            );
            return None;
        }
        tracing::debug!(attempt = self.attempts, ?stage, "request is sent again");
        Some(self.backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        self.requests.clone_request(request)
    }
}

impl<I, R, B, W> Clone for RetryPolicy<I, R, B, W>
where
    I: Clone,
    R: Clone,
    W: Clone,
{
    fn clone(&self) -> Self {
        RetryPolicy {
            idempotent: self.idempotent.clone(),
            requests: self.requests.clone(),
            budget: Arc::clone(&self.budget),
            backoff: self.backoff.clone(),
            max_attempts: self.max_attempts,
            attempts: 0,
        }
    }
}

impl<I, R, B, W> fmt::Debug for RetryPolicy<I, R, B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("max_attempts", &self.max_attempts)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// The random numbers of the default back-off.
///
/// tower's own generator is cloned with its state, so that all requests would wait for the same time.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Dice;

impl Rng for Dice {
    fn next_u64(&mut self) -> u64 {
        roll()
    }
}
