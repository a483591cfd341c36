//! New connections beside many that come back in each turn.

use std::{
    io,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tower::{Layer, service_fn};
use tower_heartbeat::{Config, Failure, HeartbeatLayer, ping};

use crate::support::{ms, settle};

/// Pings that look again in every turn of the runtime, as a `try_recv` loop does.
#[test]
fn a_new_connection_is_watched_beside_pings_that_come_back_every_turn() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pinged = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&pinged);
        let ping = ping::from_fn(move || {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                loop {
                    yield_now().await;
                }
                #[allow(unreachable_code, reason = "names the type")]
                Ok::<_, io::Error>(())
            }
        });
        let config = Config::builder()
            .interval(ms(3_600_000))
            .pong_timeout(ms(3_600_000))
            .build()
            .unwrap();
        let layer = HeartbeatLayer::new(config, ping::out_of_band(ping));
        let service = || layer.layer(service_fn(|(): ()| async { Ok::<_, io::Error>(()) }));
        let many: Vec<_> = (0..400).map(|_| service()).collect();
        settle().await;
        for service in &many {
            let handle = service.handle();
            tokio::spawn(async move { handle.ping_now().await });
        }
        sleep(ms(200)).await;
        assert_eq!(pinged.load(Ordering::Relaxed), 400);
        let late = service();
        let handle = late.handle();
        tokio::spawn(async move { handle.ping_now().await });
        sleep(ms(1_000)).await;
        assert_eq!(pinged.load(Ordering::Relaxed), 401, "it was never pinged");
    });
}
