//! The peer's word that it leaves.

use std::{error::Error as StdError, fmt, sync::Arc};

/// The peer sent a GOAWAY (RFC 9113, section 6.8): it takes no more requests, in good order
/// (code 0) or because of an error. A source of [`Failure::Transport`](crate::Failure::Transport), and of
/// [`Failure::TooManyPings`](crate::Failure::TooManyPings).
#[derive(Debug)]
pub struct GoAway {
    code: u32,
    about_pings: bool,
    source: hyper::Error,
}

impl GoAway {
    /// Returns the error code of RFC 9113, section 7: 0 where nothing is wrong, 11
    /// (`ENHANCE_YOUR_CALM`) from gRPC servers that are pinged too often.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The GOAWAY in `error`, or `error` itself.
    pub(super) fn unwrap_or(error: hyper::Error) -> Arc<dyn StdError + Send + Sync> {
        let Some(h2) = h2_error(&error).filter(|h2| h2.is_go_away() && h2.is_remote()) else {
            return Arc::new(error);
        };
        let code = h2.reason().map_or(0, u32::from);
        Arc::new(GoAway {
            code,
            // h2 tells the rest of it only so.
            about_pings: code == ENHANCE_YOUR_CALM && h2.to_string().contains("too_many_pings"),
            source: error,
        })
    }

    /// Whether the peer was pinged too often, by hyper's own keep-alive.
    pub(in crate::hyper) fn is_about_pings(&self) -> bool {
        self.about_pings
    }
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// hyper keeps h2's error as a cause of its own.
pub(super) fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return Some(h2);
        }
        source = cause.source();
    }
    None
}

impl fmt::Display for GoAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = h2::Reason::from(self.code);
        write!(
            f,
            "peer sent GOAWAY: {} ({})",
            reason.description(),
            self.code
        )
    }
}

impl StdError for GoAway {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}
