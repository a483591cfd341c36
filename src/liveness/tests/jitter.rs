//! Jitter shortens an interval by up to its share, and never lengthens it.

use std::collections::BTreeSet;

use super::*;

#[test]
fn jitter_cuts_an_interval_by_no_more_than_its_share() {
    for percent in [1, 10, 25] {
        let shortest = INTERVAL * (100 - u32::from(percent)) / 100;
        for seed in 0..1_000 {
            for drawn in draws(percent, seed, 3) {
                assert!(
                    shortest <= drawn && drawn <= INTERVAL,
                    "{drawn:?} of seed {seed} at {percent} %"
                );
            }
        }
    }
}

#[test]
fn jitter_uses_its_whole_share() {
    let drawn: BTreeSet<_> = (0..1_000).flat_map(|seed| draws(25, seed, 1)).collect();
    assert!(drawn.len() > 990);
    assert!(drawn.first() < Some(&Duration::from_millis(22_600)));
    assert!(drawn.last() > Some(&Duration::from_millis(29_900)));
}

#[test]
fn jitter_differs_from_ping_to_ping() {
    let drawn: BTreeSet<_> = draws(25, 7, 100).into_iter().collect();
    assert!(drawn.len() > 95);
}

#[test]
fn without_jitter_every_interval_is_whole() {
    for seed in 0..100 {
        assert_eq!(draws(0, seed, 3), [INTERVAL; 3]);
    }
}

#[test]
fn a_sign_of_life_postpones_by_the_interval_of_this_round() {
    let mut machine = jittered(25, 7);
    let drawn = machine.next_timeout().expect("a ping is due").since(at(0));
    machine.on_heard(at(10));
    assert_eq!(machine.next_timeout(), Some(at(10).after(drawn)));
}

#[test]
fn with_jitter_the_bound_holds() {
    for seed in 0..1_000 {
        let mut machine = jittered(25, seed);
        let ping_at = machine.next_timeout().expect("a ping is due");
        send_ping(&mut machine, ping_at);
        drain(&mut machine, ping_at.after(2 * PONG_TIMEOUT));
        let end_at = ping_at.after(3 * PONG_TIMEOUT);
        assert_due_at(&machine, end_at, Action::LookAgain);
        assert!(end_at.since(at(0)) <= INTERVAL + 3 * PONG_TIMEOUT);
    }
}

/// The first intervals of a machine, from ping to ping, with every pong at once.
fn draws(percent: u8, seed: u64, count: usize) -> Vec<Duration> {
    let mut machine = jittered(percent, seed);
    let mut last_at = at(0);
    let mut drawn = Vec::new();
    while drawn.len() < count {
        let ping_at = machine.next_timeout().expect("a ping is due");
        drawn.push(ping_at.since(last_at));
        last_at = ping_at;
        send_ping(&mut machine, ping_at);
        machine.on_pong(ping_at);
    }
    drawn
}

fn jittered(percent: u8, seed: u64) -> Liveness {
    let config = settings().jitter(percent).build().expect("legal");
    Liveness::new(Arc::new(config), at(0), true, seed)
}
