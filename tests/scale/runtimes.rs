//! Where drivers run: in each runtime one of its own, for as long as that runtime.

use std::sync::Arc;

use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};
use tokio_test::{assert_pending, assert_ready_err, task};
use tower::{Layer, Service};
use tower_heartbeat::{Failure, State};

use crate::support::{
    Connection, Mood, Peer, Request, Watched, alive_tasks, classic, in_time, layer, ms,
    paused_runtime, settle,
};

#[test]
fn a_runtime_that_shuts_down_ends_its_connections_and_the_next_runtime_gets_a_driver() {
    let layer = layer(classic());
    for runtime in [paused_runtime(), threads()] {
        let mut connections = in_context(&runtime, || Watched::many(&layer, 10));
        runtime.block_on(settle());
        connections[0].peer.be(Mood::Frozen);
        let mut service = connections[0].service.clone();
        let mut call = task::spawn(service.call(Request::Work));
        assert_pending!(call.poll());
        let handle = connections[1].handle.clone();
        let mut closed = task::spawn(handle.closed());
        assert_pending!(closed.poll());

        drop(runtime);
        assert!(call.is_woken());
        let error = assert_ready_err!(call.poll());
        let error = error.heartbeat().expect("the heartbeat's");
        assert_eq!(error.failure(), Failure::MonitorGone);
        assert!(closed.is_woken());
        for connection in &mut connections {
            assert_eq!(connection.handle.failure(), Some(Failure::MonitorGone));
            let mut late = task::spawn(connection.service.call(Request::Work));
            assert_ready_err!(late.poll());
        }
        assert_eq!(connections[1].peer.calls(), 0);

        paused_runtime().block_on(async {
            let next = Watched::under(&layer);
            next.at(1_010).await;
            assert_eq!(next.peer.pings(), [1_000]);
            next.assert_watched().await;
        });
    }
}

#[test]
fn a_runtime_that_shuts_down_while_pings_are_out_leaves_nothing_behind() {
    let layer = layer(classic().pong_timeout(ms(10_000)));
    let runtime = paused_runtime();
    let connections = in_context(&runtime, || Watched::many(&layer, 10));
    for connection in &connections {
        connection.peer.be(Mood::Frozen);
    }
    runtime.block_on(async { sleep(ms(1_001)).await });
    assert!(connections.iter().all(|c| c.handle.pings() == 1));
    drop(runtime);
    for connection in connections {
        assert_eq!(connection.handle.failure(), Some(Failure::MonitorGone));
        drop(connection.service);
        assert_eq!(Arc::strong_count(&connection.peer), 1);
    }
}

#[test]
fn a_connection_wrapped_in_a_runtime_that_is_gone_ends_at_once() {
    let layer = layer(classic());
    let runtime = paused_runtime();
    let gone = runtime.handle().clone();
    let earlier = in_context(&runtime, || Watched::under(&layer));
    drop(runtime);
    let entered = gone.enter();
    let late = Watched::under(&layer);
    drop(entered);
    assert_eq!(earlier.handle.failure(), Some(Failure::MonitorGone));
    assert_eq!(late.handle.failure(), Some(Failure::MonitorGone));
    paused_runtime().block_on(async { Watched::under(&layer).assert_watched().await });
}

#[test]
fn one_layer_serves_two_runtimes_at_once() {
    let layer = layer(classic());
    let [first, second] = [paused_runtime(), paused_runtime()];
    let in_first = in_context(&first, || Watched::many(&layer, 10));
    let in_second = in_context(&second, || Watched::many(&layer, 10));
    let more_in_first = in_context(&first, || Watched::many(&layer, 10));
    for runtime in [&first, &second] {
        runtime.block_on(async {
            sleep(ms(1_126)).await;
            settle().await;
        });
        assert_eq!(runtime.metrics().num_alive_tasks(), 1, "each has its own");
    }
    for connection in in_first.iter().chain(&more_in_first).chain(&in_second) {
        assert_eq!(connection.handle.failure(), None);
        assert!(connection.handle.pongs() > 0);
    }

    drop(first);
    for connection in in_first.iter().chain(&more_in_first) {
        assert_eq!(connection.handle.failure(), Some(Failure::MonitorGone));
    }
    second.block_on(async {
        for connection in &in_second {
            connection.served().await;
        }
        Watched::under(&layer).assert_watched().await;
        for connection in &in_second {
            connection.assert_watched().await;
        }
    });
}

#[test]
fn a_connection_that_ends_in_one_runtime_leaves_the_driver_of_the_other() {
    let layer = layer(classic());
    let [first, second] = [paused_runtime(), paused_runtime()];
    let in_first = in_context(&first, || Watched::under(&layer));
    let in_second = in_context(&second, || Watched::under(&layer));
    drop(in_first);
    first.block_on(settle());
    assert_eq!(first.metrics().num_alive_tasks(), 0);
    second.block_on(in_second.assert_watched());
}

#[test]
fn a_layer_on_several_threads_at_once_watches_all_connections() {
    let runtime = threads();
    let config = classic().interval(ms(50)).pong_timeout(ms(10_000));
    let layer = layer(config.max_missed(1));
    let makers = (0..8).map(|_| {
        let layer = layer.clone();
        runtime.spawn(async move { Watched::many(&layer, 100) })
    });
    let makers: Vec<_> = makers.collect();
    runtime.block_on(async {
        for maker in makers {
            for connection in maker.await.unwrap() {
                while connection.handle.pongs() < 2 {
                    assert_eq!(connection.handle.failure(), None);
                    sleep(ms(1)).await;
                }
            }
        }
    });
}

#[test]
fn connections_wrapped_outside_of_any_runtime_join_the_driver_where_they_are_first_polled() {
    let layer = layer(classic());
    let outside = Watched::many(&layer, 5);
    let runtime = paused_runtime();
    runtime.block_on(async {
        let inside = Watched::under(&layer);
        sleep(ms(5_000)).await;
        for connection in &outside {
            assert_eq!(connection.handle.pings(), 0, "nobody polled it");
        }
        for connection in &outside {
            connection.served().await;
        }
        settle().await;
        assert_eq!(alive_tasks(), 1, "one driver for all");
        sleep(ms(2_000)).await;
        for connection in outside.iter().chain([&inside]) {
            connection.assert_watched().await;
        }
    });
}

#[test]
fn a_connection_that_is_never_polled_leaves_nothing_behind() {
    let layer = layer(classic());
    let peer = Peer::new();
    let services = [(); 10].map(|()| layer.layer(Connection::to(&peer)));
    let handles = services.each_ref().map(|service| service.handle());
    for handle in &handles {
        assert_eq!(handle.state(), State::Alive);
    }
    drop(services);
    for handle in &handles {
        assert_eq!(handle.state(), State::Closed);
    }
    assert_eq!(Arc::strong_count(&peer), 1);

    // Nor in a runtime that never got to run.
    let runtime = paused_runtime();
    let never_run = in_context(&runtime, || layer.layer(Connection::to(&peer)));
    let handle = never_run.handle();
    drop(never_run);
    drop(runtime);
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(Arc::strong_count(&peer), 1);
}

#[test]
fn a_connection_dropped_in_another_runtime_or_none_is_closed_in_its_own() {
    let layer = layer(classic());
    let [own, other] = [paused_runtime(), paused_runtime()];
    let connections = in_context(&own, || Watched::many(&layer, 3));
    let handles: Vec<_> = connections.iter().map(|c| c.handle.clone()).collect();
    own.block_on(settle());
    let mut connections = connections.into_iter();
    let [first, second] = [connections.next(), connections.next()];
    drop(first);
    other.block_on(async move { drop(second) });
    own.block_on(async {
        assert_eq!(in_time(handles[0].closed()).await, Failure::Closed);
        assert_eq!(in_time(handles[1].closed()).await, Failure::Closed);
        assert_eq!(handles[2].failure(), None);
    });
}

fn threads() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
}

/// Makes connections of a runtime, from outside of it.
fn in_context<T>(runtime: &Runtime, make: impl FnOnce() -> T) -> T {
    let _entered = runtime.enter();
    make()
}
