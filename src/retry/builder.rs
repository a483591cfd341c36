//! The settings of a [`RetryPolicy`], validated once.

use std::{fmt, sync::Arc, time::Duration};

use tower::retry::{
    backoff::{ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
    budget::TpsBudget,
};

use super::{ByClone, Dice, NoneIdempotent, RetryPolicy};
use crate::config::{ConfigError, Setting};

/// Builds a [`RetryPolicy`]; [`build`](RetryPolicyBuilder::build) checks the values.
#[must_use = "a builder does nothing until it is built"]
pub struct RetryPolicyBuilder<
    I = NoneIdempotent,
    R = ByClone,
    B = TpsBudget,
    W = ExponentialBackoff<Dice>,
> {
    policy: RetryPolicy<I, R, B, W>,
}

impl RetryPolicyBuilder {
    pub(super) fn new() -> Self {
        RetryPolicyBuilder {
            policy: RetryPolicy {
                idempotent: NoneIdempotent,
                requests: ByClone,
                budget: Arc::new(TpsBudget::default()),
                backoff: default_backoff(),
                max_attempts: 3,
                attempts: 0,
            },
        }
    }
}

impl<I, R, B, W> RetryPolicyBuilder<I, R, B, W> {
    /// Sets how often a request is sent at most, the first time included.
    ///
    /// Default: 3. One turns retries off.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.policy.max_attempts = max_attempts;
        self
    }

    /// Says which requests may be sent again after they were sent, `|request: &Request<_>|
    /// request.method().is_idempotent()` for HTTP. A request whose response was streaming when the
    /// connection ended is not seen here: its call had succeeded.
    ///
    /// Default: [`NoneIdempotent`].
    pub fn idempotent<T>(self, idempotent: T) -> RetryPolicyBuilder<T, R, B, W> {
        let policy = self.policy;
        RetryPolicyBuilder {
            policy: RetryPolicy {
                idempotent,
                requests: policy.requests,
                budget: policy.budget,
                backoff: policy.backoff,
                max_attempts: policy.max_attempts,
                attempts: 0,
            },
        }
    }

    /// Says how a request is copied before it is sent; where `None` comes back, it is sent once.
    ///
    /// Default: [`ByClone`], which needs requests that are `Clone`.
    pub fn clone_request<T>(self, clone_request: T) -> RetryPolicyBuilder<I, T, B, W> {
        let policy = self.policy;
        RetryPolicyBuilder {
            policy: RetryPolicy {
                idempotent: policy.idempotent,
                requests: clone_request,
                budget: policy.budget,
                backoff: policy.backoff,
                max_attempts: policy.max_attempts,
                attempts: 0,
            },
        }
    }

    /// Sets the budget: each answer pays into it, each retry takes from it. One budget can serve
    /// many policies.
    ///
    /// Default: [`TpsBudget`]'s own, ten retries a second and one for five answers.
    pub fn budget<T>(self, budget: Arc<T>) -> RetryPolicyBuilder<I, R, T, W> {
        let policy = self.policy;
        RetryPolicyBuilder {
            policy: RetryPolicy {
                idempotent: policy.idempotent,
                requests: policy.requests,
                budget,
                backoff: policy.backoff,
                max_attempts: policy.max_attempts,
                attempts: 0,
            },
        }
    }

    /// Sets the waits between the attempts of one request. They are waited out by that request; `Reconnect` makes
    /// no connection meanwhile unless another request asks for one.
    ///
    /// Default: 50 ms, doubled each time up to 1 s, and as much again at random.
    pub fn backoff<T>(self, mut maker: T) -> RetryPolicyBuilder<I, R, B, T::Backoff>
    where
        T: MakeBackoff,
    {
        let policy = self.policy;
        RetryPolicyBuilder {
            policy: RetryPolicy {
                idempotent: policy.idempotent,
                requests: policy.requests,
                budget: policy.budget,
                backoff: maker.make_backoff(),
                max_attempts: policy.max_attempts,
                attempts: 0,
            },
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`]: `max_attempts` not from 1 to 1,000.
    pub fn build(self) -> Result<RetryPolicy<I, R, B, W>, ConfigError> {
        if !(1..=MOST_ATTEMPTS).contains(&self.policy.max_attempts) {
            return Err(ConfigError::OutOfRange {
                setting: Setting::MaxAttempts,
                least: 1,
                most: MOST_ATTEMPTS,
            });
        }
        Ok(self.policy)
    }
}

impl<I, R, B, W> fmt::Debug for RetryPolicyBuilder<I, R, B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicyBuilder")
            .field("policy", &self.policy)
            .finish()
    }
}

fn default_backoff() -> ExponentialBackoff<Dice> {
    let (least, most) = (Duration::from_millis(50), Duration::from_secs(1));
    match ExponentialBackoffMaker::new(least, most, 1.0, Dice) {
        Ok(mut maker) => maker.make_backoff(),
        Err(_) => unreachable!("the defaults are legal, as the tests show"),
    }
}

const MOST_ATTEMPTS: u32 = 1_000;
