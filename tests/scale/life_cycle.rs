//! One driver for the connections of a layer, from the first to the last of them.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Builder, time::sleep};
use tower::Layer;
use tower_heartbeat::{Failure, Handle, State};

use crate::support::{
    Connection, Drivers, Mood, Peer, Watched, alive_tasks, classic, in_time, layer, ms, settle,
};

#[tokio::test(start_paused = true)]
async fn all_connections_of_a_layer_share_one_driver() {
    let drivers = Drivers::default();
    let layer = drivers.of(layer(classic()));
    assert_eq!(drivers.started(), 0, "it starts with a connection");
    let connections = Watched::many(&layer, 100);
    sleep(ms(1_200)).await;
    assert_eq!(drivers.started(), 1);
    assert_eq!(drivers.running(), 1);
    for connection in &connections {
        assert_eq!(connection.handle.failure(), None);
        assert!(connection.handle.pongs() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_its_last_connection_and_the_next_one_gets_another() {
    let drivers = Drivers::default();
    let layer = drivers.of(layer(classic()));
    for round in 1..=3 {
        let mut connections = Watched::many(&layer, 10);
        sleep(ms(500)).await;
        connections.truncate(1);
        settle().await;
        assert_eq!(drivers.running(), 1, "one connection is left");
        assert_eq!(alive_tasks(), 1);
        let handle = connections[0].handle.clone();
        connections.clear();
        assert_eq!(in_time(handle.closed()).await, Failure::Closed);
        settle().await;
        assert_eq!(drivers.running(), 0);
        assert_eq!(alive_tasks(), 0);
        assert_eq!(drivers.started(), round);
    }
    let next = Watched::under(&layer);
    next.at(1_010).await;
    assert_eq!(next.peer.pings(), [1_000]);
    assert_eq!(drivers.started(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_verdict_too() {
    let layer = layer(classic());
    let connections = Watched::many(&layer, 10);
    for connection in &connections {
        connection.peer.be(Mood::Frozen);
    }
    sleep(layer.config().worst_case_detection() + ms(1)).await;
    for connection in &connections {
        assert_eq!(connection.handle.failure(), Some(Failure::PongTimeout));
    }
    assert_eq!(alive_tasks(), 0, "though their services are kept");
    Watched::under(&layer).assert_watched().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_keeps_the_driver_when_all_services_are_gone() {
    let layer = layer(classic());
    let connection = Watched::under(&layer);
    connection.peer.be(Mood::Frozen);
    let call = connection.call();
    settle().await;
    let (handle, peer) = (connection.handle, connection.peer);
    drop(connection.service);
    sleep(ms(1)).await;
    assert_eq!(handle.failure(), None);
    peer.be(Mood::Answers);
    in_time(call).await.unwrap().expect("served");
    settle().await;
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_layer_share_one_driver() {
    let drivers = Drivers::default();
    let first = drivers.of(layer(classic()));
    let second = first.clone();
    let third = second.clone();
    let connections = [&third, &second, &first].map(Watched::under);
    drop((first, second, third));
    sleep(ms(1_200)).await;
    assert_eq!(drivers.started(), 1);
    for connection in &connections {
        assert!(connection.handle.pongs() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_outlive_their_layer_and_stay_watched() {
    let layer = layer(classic());
    let connections = Watched::many(&layer, 10);
    drop(layer);
    sleep(ms(2_500)).await;
    for connection in connections {
        connection.assert_watched().await;
    }
    settle().await;
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_aborted_ends_its_connections_and_the_next_one_gets_another() {
    let drivers = Drivers::default();
    let layer = drivers.of(layer(classic()));
    let connections = Watched::many(&layer, 10);
    connections[0].peer.be(Mood::Frozen);
    let call = connections[0].call();
    sleep(ms(300)).await;
    drivers.abort_all();
    let error = in_time(call).await.unwrap().expect_err("nobody watches");
    let error = error.heartbeat().expect("the heartbeat's");
    assert_eq!(error.failure(), Failure::MonitorGone);
    for connection in &connections {
        assert_eq!(connection.handle.failure(), Some(Failure::MonitorGone));
    }
    Watched::under(&layer).assert_watched().await;
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_drops_the_driver_leaves_no_connection_unwatched() {
    let layer = layer(classic()).executor(drop);
    for _ in 0..3 {
        let connections = Watched::many(&layer, 3);
        for connection in &connections {
            assert_eq!(connection.death().await.1, Failure::MonitorGone);
            assert!(!connection.service.is_alive());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connections_come_and_go_while_others_are_watched() {
    let layer = layer(classic());
    let lasting = Watched::under(&layer);
    for round in 0..200_u64 {
        let connections = Watched::many(&layer, 5);
        sleep(ms(round * 7 % 1_300)).await;
        let handles: Vec<Handle> = connections.iter().map(|c| c.handle.clone()).collect();
        drop(connections);
        for handle in handles {
            assert_eq!(in_time(handle.closed()).await, Failure::Closed);
        }
    }
    settle().await;
    assert_eq!(alive_tasks(), 1);
    lasting.assert_watched().await;
}

#[test]
fn a_hundred_thousand_connections_close_at_once() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let peer = Peer::new();
    // No ping falls due meanwhile, however slow the machine is.
    let layer = layer(classic().interval(Duration::from_secs(3_600)));
    let entered = runtime.enter();
    let connect = |_| layer.layer(Connection::to(&peer));
    let services: Vec<_> = (0..100_000).map(connect).collect();
    drop(entered);
    let handles: Vec<Handle> = services.iter().map(|service| service.handle()).collect();
    runtime.block_on(settle());
    let start = Instant::now();
    drop(services);
    runtime.block_on(async {
        for handle in &handles {
            assert_eq!(in_time(handle.closed()).await, Failure::Closed);
            assert_eq!(handle.state(), State::Closed);
        }
    });
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let by = Instant::now() + Duration::from_secs(10);
    while runtime.metrics().num_alive_tasks() > 0 {
        assert!(Instant::now() < by, "the driver is left");
        runtime.block_on(settle());
        thread::sleep(ms(1));
    }
    assert_eq!(Arc::strong_count(&peer), 1, "nothing of them is left");
}
