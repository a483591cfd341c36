//! A ping and requests that fill the way to the peer.

use tokio::{
    io::{AsyncReadExt, duplex},
    spawn,
    time::sleep,
};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{HeartbeatLayer, mux};

use crate::support::{at_most, in_order, lines, millis, settings};

#[tokio::test(start_paused = true)]
async fn a_ping_gets_out_though_there_is_always_another_request() {
    let (near, mut far) = duplex(32);
    let config = settings()
        .interval(millis(100))
        .pong_timeout(millis(60_000));
    let config = config.ready_timeout(millis(2_000)).build().expect("legal");
    let (mux, connection) = in_order().max_in_flight(at_most(10_000)).pair(lines(near));
    let mut service = HeartbeatLayer::new(config, mux::ping()).layer(mux);
    let handle = service.handle();
    spawn(mux::drive(connection, service.handle()));
    let asking = spawn(async move {
        let mut calls = Vec::new();
        while let Ok(ready) = service.ready().await {
            calls.push(ready.call("x".repeat(60)));
        }
    });
    // Slowly: 8 KiB, of which `Framed` says that it is full, in less than a second.
    let reading = spawn(async move {
        let mut bytes = [0; 32];
        while far.read(&mut bytes).await.is_ok_and(|length| length > 0) {
            sleep(millis(2)).await;
        }
    });
    sleep(millis(5_000)).await;
    assert_eq!(handle.failure(), None);
    asking.abort();
    reading.abort();
}
