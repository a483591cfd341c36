//! Random numbers, to keep those apart who would wait for the same time.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number. The hasher's keys differ from call to call, and the process's are random: no
/// secret depends on it.
pub(crate) fn roll() -> u64 {
    RandomState::new().build_hasher().finish()
}
