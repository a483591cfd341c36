//! Last drop against ping, and re-schedule against fire.

use super::{
    signals::{HEARD, USED},
    *,
};

#[test]
fn a_changed_fact_is_seen_once_it_is_queued() {
    model(|| {
        let (mut driver, connection) = Driver::asleep();
        let threads = [(); 2].map(|()| beside(&connection, Connection::change_fact));
        driver.poll_if_woken();
        driver.poll_if_woken();
        let _joined = threads.map(join);
        driver.settle();
        assert_eq!(driver.fact, 2);
        assert_eq!(driver.called, 1, "one place in the inbox");
    });
}

/// As a request does: it is counted, then signals.
#[test]
fn what_changed_before_a_bit_was_set_is_seen_by_the_look_that_takes_it() {
    model(|| {
        let (mut driver, connection) = Driver::asleep();
        let request = beside(&connection, |it| {
            it.fact.fetch_add(1, Ordering::Relaxed);
            it.signal(USED);
        });
        driver.look();
        assert!(!driver.has_seen(USED) || driver.fact == 1);
        driver.poll_if_woken();
        assert!(!driver.has_seen(USED) || driver.fact == 1);
        join(request);
        driver.settle();
        assert!(driver.has_seen(USED) && driver.fact == 1);
    });
}

#[test]
fn evidence_and_a_changed_fact_take_one_place_in_the_inbox() {
    model(|| {
        let (mut driver, connection) = Driver::asleep();
        let hears = beside(&connection, |it| it.signal(HEARD));
        let drops = beside(&connection, Connection::change_fact);
        driver.poll_if_woken();
        join(hears);
        join(drops);
        driver.settle();
        assert!(driver.has_seen(HEARD));
        assert_eq!(driver.fact, 1);
        assert_eq!(driver.called, 1);
    });
}

/// The driver comes by itself, too, when a deadline is due.
#[test]
fn a_look_on_time_loses_nothing_to_a_fact_that_changes() {
    bounded_model(|| {
        let (mut driver, connection) = Driver::asleep();
        let threads = [(); 2].map(|()| beside(&connection, Connection::change_fact));
        driver.look();
        driver.poll_if_woken();
        let _joined = threads.map(join);
        driver.settle();
        assert_eq!(driver.fact, 2);
        // One that was told to push, but hasn't yet, meets one that came after the look.
        assert!(driver.called <= 2);
    });
}

#[test]
fn signals_before_a_connection_has_an_id_are_seen_at_its_first_look_or_wake() {
    bounded_model(|| {
        let mut driver = Driver::new();
        driver.poll();
        let connection = Connection::new(&driver.inbox);
        let hears = beside(&connection, |it| it.signal(HEARD));
        let drops = beside(&connection, Connection::change_fact);
        driver.admit(&connection);
        driver.poll_if_woken();
        join(hears);
        join(drops);
        driver.settle();
        assert!(driver.has_seen(HEARD));
        assert_eq!(driver.fact, 1);
    });
}

#[test]
fn a_late_signal_for_a_freed_place_is_a_spurious_look_at_its_next_owner() {
    model(|| {
        let (mut driver, old) = Driver::asleep();
        let new = Connection::new(&driver.inbox);
        let late = beside(&old, Connection::change_fact);
        old.set_id(NO_ID);
        driver.place = None;
        driver.poll_if_woken();
        driver.admit(&new);
        let looks = driver.looks;
        let next = beside(&new, Connection::change_fact);
        driver.poll_if_woken();
        join(late);
        join(next);
        driver.settle();
        assert_eq!(driver.fact, 1, "the next owner's fact");
        assert!(driver.looks <= looks + 2);
    });
}

#[test]
fn no_id_is_lost_or_doubled_between_two_polls() {
    model(|| {
        let inbox = Arc::new(Inbox::new());
        let task = Task::new();
        let threads = [1, 2].map(|id| beside(&inbox, move |inbox| inbox.push(id)));
        let mut all = Vec::new();
        let mut poll = || {
            let mut ids = Vec::new();
            inbox.take(&task.waker(), &mut ids);
            all.extend(ids);
        };
        poll();
        if task.was_woken() {
            poll();
        }
        let _joined = threads.map(join);
        while task.was_woken() {
            poll();
        }
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

/// As after a turn of the runtime, or a newcomer.
#[test]
fn a_wake_without_an_id_reaches_a_driver_that_goes_to_sleep() {
    model(|| {
        let shared = Arc::new((Inbox::new(), AtomicUsize::new(0)));
        let task = Task::new();
        let turns = beside(&shared, |(inbox, turns)| {
            turns.fetch_add(1, Ordering::Relaxed);
            inbox.wake();
        });
        let pushes = beside(&shared, |(inbox, _)| inbox.push(1));
        let (inbox, turns_so_far) = &*shared;
        let (mut seen, mut ids) = (0, Vec::new());
        let mut poll = || {
            let mut called = Vec::new();
            inbox.take(&task.waker(), &mut called);
            ids.extend(called);
            seen = turns_so_far.load(Ordering::Relaxed);
        };
        poll();
        join(turns);
        join(pushes);
        while task.was_woken() {
            poll();
        }
        assert_eq!((seen, ids), (1, vec![1]));
    });
}
