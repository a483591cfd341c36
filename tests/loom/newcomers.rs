//! Newcomers against a driver that ends, sleeps or is dropped.

use loom::cell::UnsafeCell;

use super::{arrivals::Arrivals, *};

/// Those who come to one driver.
struct Fleet {
    arrivals: Arrivals<u32>,
    inbox: Inbox,
    /// loom objects if two drivers get here without one having ended before the other began.
    alone: UnsafeCell<()>,
}

impl Fleet {
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "loom's threads are none, and it watches the cell"
    )]
    fn new() -> Arc<Fleet> {
        Arc::new(Fleet {
            arrivals: Arrivals::new(),
            inbox: Inbox::new(),
            alone: UnsafeCell::new(()),
        })
    }

    /// Comes as `newcomer`, and drives if nobody does. Whom it took over.
    fn come(&self, newcomer: u32) -> Vec<u32> {
        if self.arrivals.join(newcomer) {
            self.inbox.wake();
            return Vec::new();
        }
        self.drive()
    }

    /// A driver whose connections end as soon as it has them.
    fn drive(&self) -> Vec<u32> {
        let mut taken = Vec::new();
        loop {
            taken.extend(self.take());
            // Whoever comes between the two finds it running, and is taken over.
            drop(self.inbox.forget());
            if self.arrivals.close_if_empty() {
                return taken;
            }
        }
    }

    fn take(&self) -> Vec<u32> {
        self.alone.with_mut(|_| ());
        self.arrivals.take()
    }
}

fn sorted(taken: impl IntoIterator<Item = Vec<u32>>) -> Vec<u32> {
    let mut all: Vec<u32> = taken.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

#[test]
fn whoever_comes_while_the_driver_ends_is_taken_by_it_or_starts_the_only_other() {
    model(|| {
        let fleet = Fleet::new();
        let threads = [1, 2].map(|newcomer| beside(&fleet, move |fleet| fleet.come(newcomer)));
        let mine = fleet.come(0);
        let [first, second] = threads.map(join);
        assert_eq!(sorted([mine, first, second]), [0, 1, 2]);
        assert!(!fleet.arrivals.is_running());
    });
}

#[test]
fn whoever_comes_while_the_driver_goes_to_sleep_wakes_it() {
    model(|| {
        let fleet = Fleet::new();
        let task = Task::new();
        assert!(!fleet.arrivals.join(0));
        let threads = [1, 2].map(|newcomer| beside(&fleet, move |fleet| fleet.come(newcomer)));
        let mut taken = Vec::new();
        let mut poll = || {
            fleet.inbox.take(&task.waker(), &mut Vec::new());
            taken.extend(fleet.take());
        };
        poll();
        if task.was_woken() {
            poll();
        }
        let [first, second] = threads.map(join);
        while task.was_woken() {
            poll();
        }
        assert_eq!(sorted([taken, first, second]), [0, 1, 2]);
        assert!(fleet.arrivals.is_running());
    });
}

#[test]
fn whoever_comes_while_the_driver_is_dropped_is_ended_by_it_or_starts_the_only_other() {
    model(|| {
        let fleet = Fleet::new();
        assert!(!fleet.arrivals.join(0));
        let threads = [1, 2].map(|newcomer| beside(&fleet, move |fleet| fleet.come(newcomer)));
        let taken = fleet.take();
        let ended = fleet.arrivals.close();
        let [first, second] = threads.map(join);
        assert_eq!(sorted([taken, ended, first, second]), [0, 1, 2]);
        assert!(!fleet.arrivals.is_running());
    });
}
