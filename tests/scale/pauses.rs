//! A driver that was late itself gives every connection a fresh chance first.

use tokio::time::{advance, sleep, sleep_until};
use tower_heartbeat::{ConfigBuilder, Failure};

use crate::support::{Mood, Watched, classic, layer, millis, ms, settle};

const COUNT: usize = 300;

#[tokio::test(start_paused = true)]
async fn a_pause_convicts_none_of_many_connections_whose_pong_comes_after_it() {
    let connections = all_waiting_for_pongs(patient()).await;
    // The lid is closed for an hour.
    advance(ms(3_600_000)).await;
    sleep(ms(1)).await;
    assert_all_alive(&connections, "elapsed time alone");
    sleep(PONG_WAIT - ms(TICK + 2)).await;
    assert_all_alive(&connections, "a fresh pong wait for each");
    for connection in &connections {
        connection.peer.be(Mood::Answers);
    }
    sleep(ms(10 * MINUTE)).await;
    assert_all_alive(&connections, "their pongs came");
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_those_that_stay_silent_die_one_fresh_pong_wait_later() {
    let connections = all_waiting_for_pongs(patient()).await;
    advance(ms(MINUTE)).await;
    let resumed_at = millis(connections[0].start.elapsed());
    sleep(ms(100)).await;
    let (answering, silent) = connections.split_at(COUNT / 2);
    for connection in answering {
        connection.peer.be(Mood::Answers);
    }
    let fresh = resumed_at + millis(PONG_WAIT);
    for connection in silent {
        let (died_at, failure) = connection.death().await;
        assert_eq!(failure, Failure::PongTimeout);
        assert_within_a_tick(died_at, fresh);
    }
    sleep(ms(MINUTE)).await;
    assert_all_alive(answering, "they answered");
    for connection in silent {
        let error = connection.handle.error().expect("dead");
        assert_eq!(error.missed(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_misses_that_were_left_still_have_to_come() {
    let connections = all_waiting_for_pongs(patient().max_missed(3)).await;
    advance(ms(MINUTE)).await;
    let resumed_at = millis(connections[0].start.elapsed());
    for connection in &connections {
        let (died_at, failure) = connection.death().await;
        assert_eq!(failure, Failure::PongTimeout);
        assert_within_a_tick(died_at, resumed_at + 3 * millis(PONG_WAIT));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_up_to_the_limit_stretches_nobodys_wait() {
    let connections = all_waiting_for_pongs(patient()).await;
    let sent_at: Vec<u64> = connections.iter().map(|c| c.peer.pings()[0]).collect();
    advance(ms(900)).await;
    for (connection, sent_at) in connections.iter().zip(sent_at) {
        let (died_at, _) = connection.death().await;
        assert_within_a_tick(died_at, sent_at + millis(PONG_WAIT));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_while_all_rest_convicts_nobody_and_their_pings_follow() {
    let layer = layer(patient());
    let connections = Watched::many(&layer, COUNT);
    sleep(ms(1_500)).await;
    // Nobody freezes with a pong on its way.
    settle().await;
    for connection in &connections {
        connection.peer.be(Mood::Frozen);
    }
    advance(ms(MINUTE)).await;
    let resumed_at = millis(connections[0].start.elapsed());
    sleep(PONG_WAIT - ms(TICK + 1)).await;
    assert_all_alive(&connections, "nobody was asked before the pause");
    for connection in &connections {
        let pings = connection.peer.pings();
        let asked_at = *pings.last().expect("asked");
        assert!(asked_at >= resumed_at, "{pings:?}");
        assert!(asked_at <= resumed_at + 1_000 + TICK, "{pings:?}");
        let (died_at, _) = connection.death().await;
        assert_within_a_tick(died_at, asked_at + millis(PONG_WAIT));
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_again_and_again_keep_no_dead_peer_alive() {
    let connections = all_waiting_for_pongs(patient()).await;
    let mut pauses = 0;
    while connections.iter().any(|c| c.handle.failure().is_none()) {
        sleep(ms(500)).await;
        advance(ms(2_100)).await;
        sleep(ms(1)).await;
        pauses += 1;
        assert!(pauses < 4, "one fresh chance for the one window");
    }
}

const PONG_WAIT: std::time::Duration = ms(2_000);
const TICK: u64 = 125;
const MINUTE: u64 = 60_000;

/// So long a pong wait that all pings are out before the first is missed. `max_local_pause` is 1 s.
fn patient() -> ConfigBuilder {
    classic().pong_timeout(PONG_WAIT).max_missed(1)
}

/// Of one layer, frozen, each with its first ping out, none with a miss.
async fn all_waiting_for_pongs(config: ConfigBuilder) -> Vec<Watched> {
    let layer = layer(config);
    let connections = Watched::many(&layer, COUNT);
    for connection in &connections {
        connection.peer.be(Mood::Frozen);
    }
    sleep_until(connections[0].start + ms(1_000 + TICK)).await;
    for connection in &connections {
        assert_eq!(connection.handle.pings(), 1);
        assert_eq!(connection.handle.missed(), 0);
    }
    connections
}

fn assert_all_alive(connections: &[Watched], why: &str) {
    for connection in connections {
        assert_eq!(connection.handle.failure(), None, "{why}");
    }
}

#[track_caller]
fn assert_within_a_tick(at: u64, expected: u64) {
    assert!(at.abs_diff(expected) <= TICK, "{at}, not {expected}");
}
