//! Peers that are near are found in a fraction of the longest wait, through every rest.

use tokio::time::{advance, sleep};
use tower_heartbeat::{ConfigBuilder, Detector, Failure};

use crate::support::{Mood, Watched, classic, layer, millis, ms, settle};

const LONGEST: u64 = 8_000;
const FLOOR: u64 = 40;
/// 40, 80 and 160 ms.
const WINDOWS: u64 = 7 * FLOOR;
const TICK: u64 = 125;

#[tokio::test(start_paused = true)]
async fn peers_that_froze_at_rest_are_found_after_their_own_short_waits() {
    for detector in [Detector::RoundTrips, Detector::PhiAccrual] {
        for count in [1, 200] {
            let connections = rested(adaptive(detector), count).await;
            for connection in connections.iter().skip(count / 2) {
                connection.peer.be(Mood::Frozen);
            }
            for (n, connection) in connections.iter().enumerate() {
                if n >= count / 2 {
                    assert_waited(connection, WINDOWS).await;
                }
            }
            let dead = connections.iter().filter(|c| c.handle.failure().is_some());
            assert_eq!(dead.count(), count - count / 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_never_heard_has_the_longest_waits() {
    let connection = Watched::under(&layer(adaptive(Detector::RoundTrips)));
    connection.peer.be(Mood::Frozen);
    assert_waited(&connection, 3 * LONGEST).await;
}

#[tokio::test(start_paused = true)]
async fn many_that_miss_together_wait_for_the_longest_wait_as_well() {
    let wary = adaptive(Detector::RoundTrips).local_fault_share(60);
    let connections = rested(wary, 100).await;
    for connection in &connections {
        connection.peer.be(Mood::Frozen);
    }
    let bound = millis(connections[0].handle.config().worst_case_detection());
    for connection in &connections {
        assert_waited(connection, WINDOWS + LONGEST).await;
        let error = connection.handle.error().expect("dead");
        assert_eq!(error.missed(), 4, "three, and one more");
        assert!(millis(error.quiet_for()) <= bound);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_exceeds_short_waits_convicts_nobody() {
    let connection = rested(adaptive(Detector::RoundTrips), 1).await.remove(0);
    connection.peer.be(Mood::Frozen);
    let pings = connection.handle.pings();
    while connection.handle.pings() == pings {
        sleep(ms(1)).await;
    }
    // Far below half of `pong_timeout`.
    advance(ms(2 * WINDOWS)).await;
    settle().await;
    sleep(ms(LONGEST - 10)).await;
    assert_eq!(connection.handle.failure(), None);
    assert_eq!(connection.death().await.1, Failure::PongTimeout);
}

fn adaptive(detector: Detector) -> ConfigBuilder {
    classic()
        .pong_timeout(ms(LONGEST))
        .detector(detector)
        .pong_floor(ms(FLOOR))
}

/// After a few pongs.
async fn rested(config: ConfigBuilder, count: usize) -> Vec<Watched> {
    let connections = Watched::many(&layer(config), count);
    sleep(ms(3_500)).await;
    settle().await;
    connections
}

async fn assert_waited(connection: &Watched, expected: u64) {
    let (died_at, failure) = connection.death().await;
    assert_eq!(failure, Failure::PongTimeout);
    let waited = died_at - connection.peer.pings().last().expect("asked");
    assert!((expected..=expected + TICK).contains(&waited), "{waited}");
}
