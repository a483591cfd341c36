//! Clients, servers, lines and frames that the tests share.

pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod line;
pub(crate) mod server;

use std::{error::Error as StdError, time::Duration};

use tower_heartbeat::{Config, Error, Failure, HeartbeatError, Stage};

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Notices a vanished peer within a second.
pub(crate) fn within_a_second() -> Config {
    Config::detect_within(secs(1)).expect("a legal bound")
}

/// What a caller that names the type is told.
pub(crate) fn told<E>(error: &Error<E>) -> Option<(Failure, Stage)> {
    error
        .heartbeat()
        .map(|error| (error.failure(), error.stage()))
}

/// What a caller below any number of boxes finds.
pub(crate) fn found(error: &(dyn StdError + 'static)) -> Option<(Failure, Stage)> {
    HeartbeatError::find(error).map(|error| (error.failure(), error.stage()))
}

/// Polls `condition` until it holds; `limit` is there so that a failure ends.
pub(crate) async fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(millis(5)).await;
        }
    };
    if tokio::time::timeout(limit, waiting).await.is_err() {
        panic!("not within {limit:?}: {what}");
    }
}

/// Fails instead of hanging.
pub(crate) async fn soon<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
