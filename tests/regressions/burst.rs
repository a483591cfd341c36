//! What a burst of connections leaves behind.

use tokio::{runtime::Builder, time::sleep};
use tower_heartbeat::Config;

use crate::support::{Connection, Peer, layer, ms};
use tower::Layer;

#[test]
fn a_burst_is_given_back_while_one_connection_stays() {
    let peer = Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { Peer::new() });
    let mut kept = None;
    let kept_bytes = allocation_counter::measure(|| {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let stays = runtime.block_on(async {
            let layer = layer(Config::builder().interval(ms(600_000)));
            let mut services: Vec<_> = (0..100_000)
                .map(|_| layer.layer(Connection::to(&peer)))
                .collect();
            while peer_strong(&peer) < 200_001 {
                sleep(ms(1)).await;
            }
            sleep(ms(1_500)).await;
            let stays = services.swap_remove(0);
            drop(services);
            while peer_strong(&peer) > 3 {
                sleep(ms(1)).await;
            }
            sleep(ms(100)).await;
            (layer, stays)
        });
        kept = Some((runtime, stays));
    })
    .bytes_current;
    drop(kept);
    assert!(
        kept_bytes < 500_000,
        "{kept_bytes} bytes for one connection"
    );
}

fn peer_strong(peer: &std::sync::Arc<Peer>) -> usize {
    std::sync::Arc::strong_count(peer)
}
