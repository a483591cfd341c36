//! When many peers are missing at once, the fault may be on this side.

use tokio::time::sleep;
use tower_heartbeat::{ConfigBuilder, Failure};

use crate::support::{Mood, Watched, classic, layer, millis, ms, settle};

const COUNT: usize = 20;
const TICK: u64 = 125;
const PONG_WAIT: u64 = 200;

#[tokio::test(start_paused = true)]
async fn when_most_miss_together_every_verdict_waits_one_more_window() {
    let connections = freeze_all_after_a_while(wary(), COUNT).await;
    let bound = millis(connections[0].handle.config().worst_case_detection());
    for connection in &connections {
        let (died_at, failure) = connection.death().await;
        assert_eq!(failure, Failure::PongTimeout);
        let error = connection.handle.error().expect("dead");
        assert_eq!(error.missed(), 4, "three, and one more");
        assert!(millis(error.quiet_for()) <= bound);
        let waited = died_at - connection.peer.pings().last().expect("asked");
        assert!(waited.abs_diff(4 * PONG_WAIT) <= TICK, "{waited}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_within_that_window_lives_and_pings_apart_from_the_others_again() {
    let connections = freeze_all_after_a_while(wary(), COUNT).await;
    let frozen_at = millis(connections[0].start.elapsed());
    // The first to be asked has missed three times.
    sleep(ms(3 * PONG_WAIT + 100)).await;
    assert!(connections.iter().any(|c| c.handle.missed() == 3));
    for connection in &connections {
        connection.peer.be(Mood::Answers);
    }
    let thawed_at = millis(connections[0].start.elapsed());
    sleep(ms(1_000 + TICK)).await;
    settle().await;
    let mut next: Vec<u64> = Vec::new();
    let mut together = 0;
    for connection in &connections {
        assert_eq!(connection.handle.failure(), None);
        let pings = connection.peer.pings();
        let asked = pings.iter().any(|at| (frozen_at..thawed_at).contains(at));
        together += usize::from(asked);
        next.extend(pings.iter().find(|at| **at >= thawed_at).filter(|_| asked));
    }
    assert!(together >= COUNT / 2, "{together} answered in one moment");
    next.sort_unstable();
    assert_eq!(next.len(), together);
    for (n, from) in next.iter().enumerate() {
        let crowd = next[n..].iter().take_while(|at| **at < from + 50).count();
        assert!(crowd <= 3, "{next:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_dead_peer_among_many_waits_for_nothing() {
    let connections = rest(wary(), COUNT).await;
    connections[7].peer.be(Mood::Frozen);
    assert_died_after_three_misses(&connections[7]).await;
    for (n, connection) in connections.iter().enumerate() {
        assert_eq!(connection.handle.failure().is_some(), n == 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_few_connections_are_no_crowd() {
    for connection in freeze_all_after_a_while(wary(), 7).await {
        assert_died_after_three_misses(&connection).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_nobody_waits() {
    for connection in freeze_all_after_a_while(classic(), COUNT).await {
        assert_died_after_three_misses(&connection).await;
    }
}

fn wary() -> ConfigBuilder {
    classic().local_fault_share(60)
}

async fn rest(config: ConfigBuilder, count: usize) -> Vec<Watched> {
    let layer = layer(config);
    let connections = Watched::many(&layer, count);
    sleep(ms(3_000)).await;
    settle().await;
    connections
}

async fn freeze_all_after_a_while(config: ConfigBuilder, count: usize) -> Vec<Watched> {
    let connections = rest(config, count).await;
    for connection in &connections {
        connection.peer.be(Mood::Frozen);
    }
    connections
}

async fn assert_died_after_three_misses(connection: &Watched) {
    let (died_at, failure) = connection.death().await;
    assert_eq!(failure, Failure::PongTimeout);
    assert_eq!(connection.handle.error().expect("dead").missed(), 3);
    let waited = died_at - connection.peer.pings().last().expect("asked");
    assert!(waited.abs_diff(3 * PONG_WAIT) <= TICK, "{waited}");
}
