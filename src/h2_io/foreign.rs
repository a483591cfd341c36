//! Why a connection cannot be pinged.

use std::{error::Error as StdError, fmt};

/// The bytes of a connection are not HTTP/2's, so they pass as they are and it cannot be pinged. The
/// source of the event that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotHttp2;

impl fmt::Display for NotHttp2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection does not speak HTTP/2")
    }
}

impl StdError for NotHttp2 {}
