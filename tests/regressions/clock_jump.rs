//! A machine that was suspended for a month.

use tokio::time::{advance, sleep};
use tower_heartbeat::Failure;

use crate::support::{Mood, Watched, classic, layer, ms, settle};

const DAY: u64 = 24 * 60 * 60 * 1_000;

#[tokio::test(start_paused = true)]
async fn after_a_pause_of_a_month_a_dead_peer_is_found_within_the_bound() {
    let layer = layer(classic());
    let connection = Watched::under(&layer);
    sleep(ms(1_500)).await;
    settle().await;
    connection.peer.be(Mood::Frozen);
    advance(ms(30 * DAY)).await;
    sleep(ms(60_000)).await;
    assert_eq!(connection.handle.failure(), Some(Failure::PongTimeout));
}
