//! A call that comes in while the connection stops taking calls: it is turned away, or counted.
//!
//! The count is an `Arc`'s, whose clone is relaxed, so this imitates `Users::enter` and
//! `Link::meet_calls` on a plain number.

use std::sync::Arc;

use loom::{
    model,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence},
    thread,
};

const LEAVING: u8 = 4;

struct Counted {
    /// The services' own, and one a call.
    count: AtomicUsize,
    status: AtomicU8,
}

impl Counted {
    fn new() -> Arc<Counted> {
        Arc::new(Counted {
            count: AtomicUsize::new(1),
            status: AtomicU8::new(0),
        })
    }

    /// `true` if it goes through.
    fn call(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Acquire);
        if self.status.load(Ordering::Acquire) < LEAVING {
            return true;
        }
        self.count.fetch_sub(1, Ordering::Release);
        false
    }

    fn leave(&self) {
        let left = |now: u8| (now < LEAVING).then_some(LEAVING);
        let update = self
            .status
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, left);
        assert!(update.is_ok());
    }

    fn meet_calls(&self) {
        self.count.fetch_add(1, Ordering::Acquire);
        self.count.fetch_sub(1, Ordering::Release);
    }

    fn in_flight(&self) -> usize {
        let all = self.count.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        all - 1
    }
}

#[test]
fn a_driver_that_stops_calls_counts_all_that_it_does_not_turn_away() {
    for calls in [1, 2] {
        model(move || {
            let counted = Counted::new();
            let call = |_| {
                let counted = Arc::clone(&counted);
                thread::spawn(move || counted.call())
            };
            let calls: Vec<_> = (0..calls).map(call).collect();
            counted.leave();
            counted.meet_calls();
            let seen = counted.in_flight();
            let through = calls.into_iter().map(|call| call.join().unwrap());
            assert!(seen >= through.filter(|through| *through).count());
        });
    }
}

#[test]
fn a_driver_that_finds_calls_stopped_counts_all_that_went_through() {
    model(|| {
        let counted = Counted::new();
        let caller = Arc::clone(&counted);
        let call = thread::spawn(move || caller.call());
        let transport = Arc::clone(&counted);
        let departure = thread::spawn(move || transport.leave());
        let leaving = counted.status.load(Ordering::Acquire) == LEAVING;
        if leaving {
            counted.meet_calls();
        }
        let seen = counted.in_flight();
        departure.join().unwrap();
        assert!(!call.join().unwrap() || !leaving || seen == 1);
    });
}
