//! The lock and the atomics of the small protocols, in one place: `tests/loom.rs` compiles those
//! files against loom's.

pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

/// Runs a test once; loom's runs it in every order.
#[cfg(test)]
pub(crate) fn model(test: impl Fn()) {
    test();
}
