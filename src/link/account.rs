//! What a connection adds to the figures of the process.

use super::{Bits, Link, record::PING_OUT, status};
use crate::{
    error::Failure,
    metrics::{self, Outcome},
    rtt::Rtt,
};

impl Link {
    pub(super) fn count_begin(&self) {
        metrics::begin();
    }

    pub(super) fn count_ping(&self) {
        self.bits.set(PING_OUT, true);
        metrics::ping();
    }

    pub(super) fn count_pong(&self, rtt: Rtt) {
        close(&self.bits, Outcome::Answered(rtt));
    }

    /// No answer is waited for any more, though the connection goes on.
    pub(super) fn count_cancelled(&self) {
        close(&self.bits, Outcome::Cancelled);
    }

    pub(super) fn count_end(&self, failure: Failure) {
        let outcome = match failure {
            Failure::PongTimeout => Outcome::Missed,
            _ => Outcome::Cancelled,
        };
        close(&self.bits, outcome);
        metrics::end(failure);
    }
}

/// Whoever closes a ping first says what became of it: an end may come from any thread.
fn close(bits: &Bits, outcome: Outcome) {
    if bits.take(PING_OUT) {
        metrics::outcome(outcome);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // One that went out in the very moment of the end.
        self.count_cancelled();
        if self.status() != status::ENDED {
            metrics::gone();
        }
    }
}
