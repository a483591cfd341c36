//! One layer in several runtimes whose paused clocks differ.

use tokio::time::{Instant, advance, sleep};
use tower_heartbeat::Failure;

use crate::support::{Mood, Watched, classic, layer, ms, paused_runtime, settle};

#[test]
fn a_layer_made_in_a_runtime_whose_clock_went_ahead_works_in_another() {
    let first = paused_runtime();
    let second = paused_runtime();
    let layer = first.block_on(async {
        advance(ms(3_600_000)).await;
        layer(classic())
    });
    second.block_on(async {
        let connection = Watched::under(&layer);
        settle().await;
        connection.peer.be(Mood::Frozen);
        let froze = Instant::now();
        assert_eq!(connection.death().await.1, Failure::PongTimeout);
        assert!(froze.elapsed() < ms(5_000), "{:?}", froze.elapsed());
    });
}
