//! Connections that were made together don't ping together.

use tokio::time::sleep;
use tower_heartbeat::Failure;

use crate::support::{Mood, Watched, classic, layer, millis, ms};

const COUNT: usize = 100;
const INTERVAL: u64 = 1_000;
const TICK: u64 = 125;

/// Of 100 pings that fall anywhere in the interval, by chance alone, a twentieth of it has more than
/// this once in 10^8 runs; five are its fair share.
const A_FEW: usize = 25;

#[tokio::test(start_paused = true)]
async fn the_first_pings_of_connections_made_together_are_spread_over_the_interval() {
    let layer = layer(classic());
    let connections = Watched::many(&layer, COUNT);
    sleep(ms(INTERVAL + TICK)).await;
    let first: Vec<u64> = connections.iter().map(|c| c.peer.pings()[0]).collect();
    // Those that are due together are, within a fraction of a tick.
    assert!(
        first.iter().all(|at| *at <= INTERVAL + TICK / 8),
        "{first:?}"
    );
    assert_spread(first);
}

#[tokio::test(start_paused = true)]
async fn the_pings_stay_spread_while_pongs_come() {
    let layer = layer(classic());
    let connections = Watched::many(&layer, COUNT);
    for _ in 0..20 {
        sleep(ms(INTERVAL)).await;
    }
    for connection in &connections {
        let pings = connection.peer.pings();
        for pair in pings.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap.abs_diff(INTERVAL) <= TICK, "{pings:?}");
        }
    }
    let last = connections.iter().map(|c| *c.peer.pings().last().unwrap());
    assert_spread(last.collect());
}

#[tokio::test(start_paused = true)]
async fn spreading_makes_no_death_later_than_the_bound() {
    let layer = layer(classic());
    let connections = Watched::many(&layer, COUNT);
    for connection in &connections {
        connection.peer.be(Mood::Frozen);
    }
    let bound = millis(layer.config().worst_case_detection());
    for connection in &connections {
        let (died_at, failure) = connection.death().await;
        assert_eq!(failure, Failure::PongTimeout);
        assert!(died_at <= bound, "{died_at}");
        let waited = died_at - connection.peer.pings()[0];
        assert!(waited.abs_diff(3 * 200) <= TICK, "{waited}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_alone_pings_at_exactly_the_interval() {
    // Beside other layers: they are no company.
    let layers = [layer(classic()), layer(classic()), layer(classic())];
    let connections = layers.each_ref().map(Watched::under);
    sleep(ms(5 * INTERVAL + 10)).await;
    for connection in &connections {
        let pings = connection.peer.pings();
        assert_eq!(pings, [1_000, 2_000, 3_000, 4_000, 5_000]);
    }
}

fn assert_spread(mut pings: Vec<u64>) {
    pings.sort_unstable();
    for (n, from) in pings.iter().enumerate() {
        let until = from + INTERVAL / 20;
        let together = pings[n..].iter().take_while(|at| **at < until).count();
        assert!(together <= A_FEW, "{together} from {from} ms on: {pings:?}");
    }
}
