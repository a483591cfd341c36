//! A driver whose runtime is entered again and again, as `pair()` allows.

use std::{
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::runtime::Builder;
use tower_heartbeat::{Config, Failure};

use crate::support::{Connection, Mood, Peer, classic, layer, ms};

/// The runtime drops what was deferred when `block_on` returns; the driver then never asks again.
#[test]
fn a_driver_in_a_runtime_that_is_entered_bit_by_bit_still_finds_a_dead_peer() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let (layer, peer) = {
        let _entered = runtime.enter();
        (
            layer(
                classic()
                    .interval(ms(40))
                    .pong_timeout(ms(20))
                    .max_missed(1),
            ),
            Peer::new(),
        )
    };
    peer.be(Mood::Frozen);
    let (service, mut driver) = layer.pair(Connection::to(&peer));
    let handle = service.handle();
    let began = Instant::now();
    while handle.failure().is_none() && began.elapsed() < Duration::from_secs(3) {
        // One poll of the driver beside other work, and out again.
        runtime.block_on(async {
            poll_fn(|cx| {
                let _pending = Pin::new(&mut driver).poll(cx);
                Poll::Ready(())
            })
            .await;
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(handle.failure(), Some(Failure::PongTimeout));
}
