//! Connections, threads and runtimes that come and go under one layer, and what hooks and pings may do.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]
#![allow(dead_code, unused_imports, reason = "shared helpers")]

#[path = "scale/support/mod.rs"]
mod support;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant as Real},
};

use tokio::{
    runtime::Builder,
    task::LocalSet,
    time::{Instant, advance, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{Config, Failure, Handle, HeartbeatLayer, PingWhen, ping};

use support::{Connection, Mood, Peer, Request, Watched, classic, layer, millis, ms, settle};

/// Idle and quiet limits of many, to a tick.
#[tokio::test(start_paused = true)]
async fn idle_and_quiet_limits_are_exact_to_a_tick_in_a_crowd() {
    let config = classic()
        .interval(ms(30_000))
        .idle_timeout(ms(1_000))
        .quiet_timeout(ms(800));
    let tick = millis(config.build().unwrap().tick());
    let layer = layer(config);
    let all = Watched::many(&layer, 200);
    let mut tasks = Vec::new();
    for (n, watched) in all.iter().enumerate() {
        let service = watched.service.clone();
        let start = watched.start;
        let handle = watched.handle.clone();
        let peer = Arc::clone(&watched.peer);
        tasks.push(tokio::spawn(async move {
            let n = n as u64;
            for k in 0..n % 7 {
                sleep(ms((n * 37 + k * 91) % 700)).await;
                support::call(&service).await.unwrap().expect("alive");
            }
            if n.is_multiple_of(3) {
                sleep(ms(n % 50)).await;
                peer.be(Mood::Frozen);
                let call = support::call(&service);
                let from = millis(start.elapsed());
                assert!(call.await.unwrap().is_err());
                let took = millis(start.elapsed()) - from;
                assert_eq!(handle.failure(), Some(Failure::ReadTimeout));
                assert!((800..=800 + tick + 3).contains(&took), "{took}");
            } else {
                let from = millis(start.elapsed());
                let failure = handle.closed().await;
                assert_eq!(failure, Failure::IdleTimeout);
                let took = millis(start.elapsed()) - from;
                assert!((1_000..=1_000 + tick + 3).contains(&took), "{took}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Two hundred days.
#[tokio::test(start_paused = true)]
async fn milliseconds_that_wrap_miss_no_ping() {
    const DAY: u64 = 24 * 60 * 60 * 1_000;
    let layer = layer(classic().interval(ms(5 * DAY)).pong_timeout(ms(DAY)));
    let long = Watched::many(&layer, 100);
    sleep(ms(200 * DAY)).await;
    settle().await;
    for watched in &long {
        let pings = watched.peer.pings();
        assert!((40..=41).contains(&pings.len()), "{}", pings.len());
    }
    long[50].peer.be(Mood::Frozen);
    let froze = Instant::now();
    assert_eq!(long[50].handle.closed().await, Failure::PongTimeout);
    assert!(froze.elapsed() <= long[50].handle.config().worst_case_detection());
}

#[tokio::test(start_paused = true)]
async fn a_limit_a_year_away_comes_in_time() {
    const DAY: u64 = 24 * 60 * 60 * 1_000;
    let layer = layer(
        classic()
            .interval(ms(365 * DAY))
            .idle_timeout(ms(300 * DAY)),
    );
    let watched = Watched::under(&layer);
    assert_eq!(watched.handle.closed().await, Failure::IdleTimeout);
    let at = millis(watched.start.elapsed());
    assert!((300 * DAY..300 * DAY + 5).contains(&at), "{at}");
}

/// The round-trip times come back whole from a rest, longer than 2^32 ns too.
#[tokio::test(start_paused = true)]
async fn long_round_trips_survive_a_rest() {
    for when in [PingWhen::Quiet, PingWhen::Always] {
        let rtts = [5_000_u64, 20, 7_000, 30, 30, 4_295];
        let next = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&next);
        let ping = ping::from_fn(move || {
            let n = count.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(ms(*rtts.get(n).unwrap_or(&1))).await;
                Ok::<_, io::Error>(())
            }
        });
        let config = Config::builder()
            .interval(ms(30_000))
            .ping_when(when)
            .build()
            .unwrap();
        let layer = HeartbeatLayer::new(config, ping::out_of_band(ping));
        let service = layer.layer(service_fn(|(): ()| async { Ok::<_, io::Error>(()) }));
        let handle = service.handle();
        let (mut smoothed, mut min) = (0.0, u64::MAX);
        for (n, rtt) in rtts.into_iter().enumerate() {
            while handle.pongs() <= n as u64 {
                sleep(ms(100)).await;
            }
            let figures = handle.rtt().unwrap();
            min = min.min(rtt);
            smoothed = if n == 0 {
                rtt as f64
            } else {
                smoothed * 0.875 + rtt as f64 / 8.0
            };
            assert!(figures.last().abs_diff(ms(rtt)) <= ms(2), "{figures:?}");
            assert!(figures.min().abs_diff(ms(min)) <= ms(2), "{figures:?}");
            assert!(
                (figures.smoothed().as_secs_f64() * 1e3 - smoothed).abs() < 3.0,
                "{figures:?} {smoothed}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_and_pings_that_come_back_into_the_layer_do_no_harm() {
    let slot: Arc<OnceLock<support::TestLayer>> = Arc::default();
    let base = layer(classic());
    let others: Arc<Mutex<Vec<Watched>>> = Arc::default();
    let _set = slot.set(base.clone());
    let first = Watched::under(&base);
    let second = Watched::under(&base);
    let third = Watched::under(&base);
    let victim = second.handle.clone();
    let pinged = third.handle.clone();
    let made = Arc::clone(&others);
    let inner = Arc::clone(&slot);
    let mut last = Some(Watched::under(&base));
    first.handle.on_end(move |_| {
        made.lock()
            .unwrap()
            .push(Watched::under(inner.get().unwrap()));
        victim.close();
        drop(last.take());
        tokio::spawn(async move { pinged.ping_now().await.unwrap() });
    });
    sleep(ms(1_500)).await;
    settle().await;
    first.peer.be(Mood::Frozen);
    first.death().await;
    settle().await;
    assert_eq!(second.handle.failure(), Some(Failure::Closed));
    assert!(third.handle.pongs() > 1);
    let other = others.lock().unwrap().remove(0);
    other.assert_watched().await;
    third.assert_watched().await;
}

/// A ping that wraps another service, drops the last user of its own connection, and so on.
#[tokio::test(start_paused = true)]
async fn a_ping_may_drop_its_own_last_service() {
    type Slot = Arc<Mutex<Option<Box<dyn std::any::Any + Send>>>>;
    let slot: Slot = Arc::default();
    let own = Arc::clone(&slot);
    let ping = ping::from_fn(move || {
        drop(own.lock().unwrap().take());
        async { Ok::<_, io::Error>(()) }
    });
    let config = classic().build().unwrap();
    let layer = HeartbeatLayer::new(config, ping::out_of_band(ping));
    let make = || layer.layer(service_fn(|(): ()| async { Ok::<_, io::Error>(()) }));
    let other = make();
    let service = make();
    let handle = service.handle();
    *slot.lock().unwrap() = Some(Box::new(service));
    assert_eq!(handle.closed().await, Failure::Closed);
    sleep(ms(3_000)).await;
    assert!(other.handle().pongs() >= 2);
}

#[tokio::test(start_paused = true)]
async fn closures_of_the_layer_that_panic_harm_only_the_call() {
    let panics = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&panics);
    let handles: Arc<Mutex<Vec<Handle>>> = Arc::default();
    let seen = Arc::clone(&handles);
    let layer = layer(classic())
        .executor(move |driver| {
            assert!(!flag.load(Ordering::Relaxed), "an executor");
            tokio::spawn(driver);
        })
        .on_connect(move |handle| seen.lock().unwrap().push(handle.clone()));
    let peer = Peer::new();
    for _ in 0..3 {
        let caught = catch_unwind(AssertUnwindSafe(|| layer.layer(Connection::to(&peer))));
        assert!(caught.is_err());
    }
    settle().await;
    for handle in handles.lock().unwrap().iter() {
        assert!(handle.failure().is_some(), "nobody hangs");
    }
    panics.store(false, Ordering::Relaxed);
    let watched = Watched::under(&layer);
    watched.assert_watched().await;
    // Nothing is left of those that failed.
    assert_eq!(Arc::strong_count(&peer), 1);
}

/// Runtimes that come and go around one layer, from several threads, with strays.
#[test]
fn runtimes_come_and_go_around_one_layer() {
    let layer = layer(
        classic()
            .interval(ms(20))
            .pong_timeout(ms(500))
            .max_missed(1),
    );
    let until = Real::now() + Duration::from_secs(6);
    let handles: Arc<Mutex<Vec<Handle>>> = Arc::default();
    let peers = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4_u64)
        .map(|seed| {
            let (layer, handles, peers) = (layer.clone(), Arc::clone(&handles), Arc::clone(&peers));
            thread::spawn(move || {
                let mut n = seed;
                while Real::now() < until {
                    n = n
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let r = n >> 33;
                    let runtime = if r & 1 == 0 {
                        Builder::new_current_thread().enable_all().build().unwrap()
                    } else {
                        Builder::new_multi_thread()
                            .worker_threads(2)
                            .enable_all()
                            .build()
                            .unwrap()
                    };
                    let service = |_| {
                        peers.fetch_add(1, Ordering::Relaxed);
                        layer.layer(service_fn(|_: Request| async { Ok::<_, io::Error>(()) }))
                    };
                    let mut all: Vec<_> = if r & 2 == 0 {
                        (0..20).map(service).collect()
                    } else {
                        let _entered = runtime.enter();
                        (0..20).map(service).collect()
                    };
                    for service in &all {
                        handles.lock().unwrap().push(service.handle());
                    }
                    runtime.block_on(async {
                        for service in &mut all {
                            match service.ready().await {
                                Ok(ready) => drop(ready.call(Request::Work).await),
                                // A runtime of other strays went away.
                                Err(_) => continue,
                            }
                        }
                        for service in all.iter().step_by(3) {
                            let handle = service.handle();
                            tokio::spawn(async move { handle.ping_now().await });
                        }
                        sleep(ms(r % 40)).await;
                    });
                    if r & 4 == 0 {
                        drop(all);
                        drop(runtime);
                    } else {
                        drop(runtime);
                        drop(all);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let handles = handles.lock().unwrap();
    let hanging = handles
        .iter()
        .filter(|handle| handle.failure().is_none())
        .count();
    let dead = handles
        .iter()
        .filter(|h| h.failure() == Some(Failure::PongTimeout))
        .count();
    assert_eq!((hanging, dead), (0, 0), "of {}", handles.len());
}

/// Wrap, call, ping, close and drop on several threads, with ids that go round.
#[test]
fn churn_on_several_threads_leaves_nothing_and_loses_no_wake() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let layer = layer(
            classic()
                .interval(ms(20))
                .pong_timeout(ms(2_000))
                .max_missed(1),
        );
        let until = Real::now() + Duration::from_secs(6);
        let mut tasks = Vec::new();
        for seed in 0..16_u64 {
            let layer = layer.clone();
            tasks.push(tokio::spawn(async move {
                let mut n = seed;
                let mut rounds = 0_u64;
                while Real::now() < until {
                    n = n
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let r = n >> 33;
                    let mut service = layer.layer(service_fn(|_: Request| async {
                        tokio::task::yield_now().await;
                        Ok::<_, io::Error>(())
                    }));
                    let handle = service.handle();
                    let limit = Duration::from_secs(5);
                    for _ in 0..r % 5 {
                        let call = service.ready().await.unwrap().call(Request::Work);
                        tokio::time::timeout(limit, call)
                            .await
                            .expect("hangs")
                            .unwrap();
                        let pong = tokio::time::timeout(limit, handle.ping_now()).await;
                        pong.expect("hangs").expect("alive");
                    }
                    if r & 64 == 0 {
                        handle.close();
                    }
                    if r & 128 == 0 {
                        sleep(ms(r % 30)).await;
                    }
                    drop(service);
                    let failure = tokio::time::timeout(limit, handle.closed())
                        .await
                        .expect("hangs");
                    assert_eq!(failure, Failure::Closed);
                    rounds += 1;
                }
                rounds
            }));
        }
        let mut rounds = 0;
        for task in tasks {
            rounds += task.await.unwrap();
        }
        println!("{rounds} rounds");
        sleep(ms(100)).await;
        assert_eq!(support::alive_tasks(), 0);
    });
}

#[test]
fn a_driver_on_a_local_set_that_is_run_bit_by_bit_still_finds_a_dead_peer() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let local = LocalSet::new();
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
    let (service, driver) = layer.pair(Connection::to(&peer));
    let handle = service.handle();
    let _driver = local.spawn_local(driver);
    let began = Real::now();
    while handle.failure().is_none() && began.elapsed() < Duration::from_secs(3) {
        // A frame of a program with a loop of its own.
        local.block_on(&runtime, async { tokio::task::yield_now().await });
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(handle.failure(), Some(Failure::PongTimeout));
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_of_twenty_days_a_dead_peer_is_found() {
    let layer = layer(classic());
    let connection = Watched::under(&layer);
    sleep(ms(1_500)).await;
    settle().await;
    connection.peer.be(Mood::Frozen);
    advance(ms(20 * 24 * 60 * 60 * 1_000)).await;
    sleep(ms(60_000)).await;
    assert_eq!(connection.handle.failure(), Some(Failure::PongTimeout));
}
