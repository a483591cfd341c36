//! Evidence against judge.

use super::{
    signals::{HEARD, PING_WANTED, USED},
    *,
};

#[test]
fn what_happened_before_a_look_was_seen_by_it_or_by_one_before() {
    bounded_model(|| {
        let shared = Arc::new((
            Signals::new(),
            [AtomicBool::new(false), AtomicBool::new(false)],
        ));
        let first = beside(&shared, |(signals, happened)| {
            signals.raise(USED);
            signals.raise(HEARD);
            happened[0].store(true, Ordering::Release);
        });
        let second = beside(&shared, |(signals, happened)| {
            signals.raise(HEARD);
            happened[1].store(true, Ordering::Release);
        });
        let (signals, happened) = &*shared;
        let mut seen = signals.take();
        let happened = happened.each_ref().map(|it| it.load(Ordering::Acquire));
        seen |= signals.take();
        assert!(!happened[0] || seen & USED != 0, "a request was lost");
        assert!(
            happened == [false; 2] || seen & HEARD != 0,
            "a sign of life was lost"
        );
        join(first);
        join(second);
        assert!((seen | signals.peek()) & (HEARD | USED) == HEARD | USED);
    });
}

/// A bit that is set already is not set again. If that was read late, the look that cleared it had
/// not happened before the evidence, and has counted for it.
#[test]
fn evidence_after_a_look_is_seen_by_a_later_one_though_its_bit_was_set_before() {
    bounded_model(|| {
        let (mut driver, connection) = Driver::asleep();
        connection.signals.raise(HEARD);
        let shared = Arc::new((Arc::clone(&connection), AtomicBool::new(false)));
        let tell = |(connection, looked): &(Arc<Connection>, AtomicBool)| {
            let after = looked.load(Ordering::Acquire);
            connection.signal(HEARD);
            after
        };
        let threads = [beside(&shared, tell), beside(&shared, tell)];
        driver.look();
        assert!(driver.has_seen(HEARD));
        driver.raised = 0;
        shared.1.store(true, Ordering::Release);
        driver.poll_if_woken();
        let after = threads.map(join).contains(&true);
        driver.settle();
        assert!(!after || driver.has_seen(HEARD));
    });
}

#[test]
fn a_signal_that_comes_while_the_driver_goes_to_sleep_wakes_it() {
    for bits in [[HEARD, USED], [HEARD, HEARD]] {
        bounded_model(move || {
            let (mut driver, connection) = Driver::asleep();
            let threads = bits.map(|bit| beside(&connection, move |it| it.signal(bit)));
            driver.look();
            driver.poll_if_woken();
            let _joined = threads.map(join);
            driver.settle();
            assert!(bits.iter().all(|bit| driver.has_seen(*bit)));
            assert_eq!(connection.signals.peek() & (HEARD | USED), 0);
        });
    }
}

#[test]
fn a_ping_that_is_wanted_wakes_a_driver_that_is_not_armed() {
    model(|| {
        let (mut driver, connection) = Driver::asleep();
        // As after a look that found traffic.
        connection.signals.take();
        let wants = beside(&connection, Connection::want_ping);
        let hears = beside(&connection, |it| it.signal(HEARD));
        driver.poll_if_woken();
        join(wants);
        join(hears);
        driver.settle();
        assert!(driver.has_seen(PING_WANTED));
    });
}
