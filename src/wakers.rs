//! The wakers of those who wait on one connection.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::PoisonError,
    task::{Context, Waker},
};

use slab::Slab;

use crate::sync::{Mutex, MutexGuard};

/// A set of wakers behind one short lock.
///
/// No waker is woken or dropped under the lock: either may run a task's destructor, which may
/// come back here.
#[derive(Debug, Default)]
pub(crate) struct WakerSet {
    slots: Mutex<Slab<Option<Waker>>>,
}

/// A waiter's place in a [`WakerSet`]. Its owner gives it back with [`WakerSet::remove`].
#[derive(Debug)]
pub(crate) struct Key(usize);

impl Key {
    pub(crate) const NONE: Key = Key(usize::MAX);

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0 == usize::MAX
    }
}

impl WakerSet {
    pub(crate) fn new() -> WakerSet {
        WakerSet {
            slots: Mutex::new(Slab::new()),
        }
    }

    /// Registers the task of `cx` unless `over` already holds, and tells which.
    ///
    /// Whoever makes `over` true and calls [`wake_all`](WakerSet::wake_all) afterwards reaches
    /// every waiter that was told `true` here: both sides pass the lock.
    #[must_use]
    pub(crate) fn register(
        &self,
        key: &mut Key,
        cx: &Context<'_>,
        over: impl FnOnce() -> bool,
    ) -> bool {
        let mut slots = self.lock();
        if over() {
            return false;
        }
        let replaced = if key.is_none() {
            key.0 = slots.insert(Some(cx.waker().clone()));
            None
        } else {
            match slots.get_mut(key.0) {
                Some(Some(waker)) if waker.will_wake(cx.waker()) => None,
                Some(slot) => slot.replace(cx.waker().clone()),
                None => unreachable!("a key stays in the slab until it is removed"),
            }
        };
        drop(slots);
        drop(replaced);
        true
    }

    pub(crate) fn remove(&self, key: &mut Key) {
        if key.is_none() {
            return;
        }
        let mut slots = self.lock();
        let waker = slots.try_remove(key.0);
        drop(slots);
        key.0 = usize::MAX;
        drop(waker);
    }

    /// Wakes everybody who waits, also after a waker that panics. They keep their places.
    pub(crate) fn wake_all(&self) {
        let woken: Vec<Waker> = self
            .lock()
            .iter_mut()
            .filter_map(|(_, slot)| slot.take())
            .collect();
        for waker in woken {
            if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
                tracing::error!("waker panicked");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        // A panic can only come from a waker's `clone`, before anything was changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::model;

    #[test]
    fn a_place_survives_a_wake_and_is_reused_after_removal() {
        model(|| {
            let set = WakerSet::new();
            let cx = Context::from_waker(Waker::noop());
            let (mut a, mut b) = (Key::NONE, Key::NONE);
            assert!(set.register(&mut a, &cx, || false));
            set.wake_all();
            assert!(set.register(&mut b, &cx, || false));
            assert_ne!(a.0, b.0);
            assert!(set.register(&mut a, &cx, || false));
            set.remove(&mut a);
            set.remove(&mut b);
            assert!(set.lock().is_empty());
        });
    }

    #[test]
    fn nobody_registers_once_it_is_over() {
        model(|| {
            let set = WakerSet::new();
            let cx = Context::from_waker(Waker::noop());
            let mut key = Key::NONE;
            assert!(!set.register(&mut key, &cx, || true));
            assert!(key.is_none() && set.lock().is_empty());
        });
    }
}
