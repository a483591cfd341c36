//! Tests that need more than Cargo has: skipped aloud, and not where they are required.

use std::{
    env,
    io::{self, Write},
    thread,
};

/// Tells why a test that needs `what` does not run. Past the capture of the test harness, which shows
/// nothing of tests that pass.
///
/// Panics if `REQUIRED_PEERS` names it, in words.
pub(crate) fn skip(what: &str, reason: &str) {
    let required = env::var("REQUIRED_PEERS").unwrap_or_default();
    let required = required.split_whitespace().any(|word| word == what);
    assert!(!required, "`REQUIRED_PEERS` names {what}: {reason}");
    let test = thread::current().name().unwrap_or("a test").to_string();
    writeln!(io::stderr(), "skipped: {test}: {reason}").expect("writable");
}
