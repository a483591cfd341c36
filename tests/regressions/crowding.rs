//! A connection that was dated while there were few, and judged in a crowd.

use tokio::time::{Instant, sleep, sleep_until};
use tower_heartbeat::{Config, Failure};

use crate::support::{Mood, Watched, layer, millis, ms, paused_runtime, settle};

/// Few connections are dated to a whole tick, and many are late by up to a quarter of it; who is
/// first one of few and then one of many gets both.
#[test]
fn connections_that_come_later_do_not_stretch_the_bound() {
    let mut worst = (0, 0);
    for phase in 0..50 {
        let (took, bound) = paused_runtime().block_on(round(phase));
        worst = worst.max((took, bound));
    }
    let (took, bound) = worst;
    assert!(took <= bound + 5, "{took} ms, the bound is {bound} ms");
}

async fn round(phase: u64) -> (u64, u64) {
    let config = Config::builder()
        .interval(ms(8_000))
        .pong_timeout(ms(1_000))
        .ready_timeout(ms(0))
        .max_missed(1);
    let layer = layer(config);
    let bound = millis(config.build().unwrap().worst_case_detection());
    let connection = Watched::under(&layer);
    connection.served().await;
    settle().await;
    sleep(ms(1)).await;
    // Just after a look: dated a tick (1,000 ms) later, which the bound has room for.
    let heard_at = Instant::now();
    connection.served().await;
    connection.peer.be(Mood::Frozen);
    sleep_until(heard_at + ms(2_000 + 5 * phase)).await;
    // Others come, some of them to dead peers.
    let others = Watched::many(&layer, 200);
    for other in &others[..100] {
        other.peer.be(Mood::Frozen);
    }
    let failure = connection.death().await.1;
    assert_eq!(failure, Failure::PongTimeout);
    (millis(heard_at.elapsed()), bound)
}
