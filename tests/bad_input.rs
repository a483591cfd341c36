//! What a careless user, a hostile peer or a dying runtime may do: an error each, and nobody hangs.

#![allow(
    clippy::disallowed_methods,
    reason = "tests read the clock and sleep on it"
)]

use std::{
    any::Any,
    error::Error as _,
    fmt::Debug,
    future::{Ready, pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    Config, ConfigBuilder, ConfigError, Driver, Error, Evidence, Failure, Handle, Heartbeat,
    HeartbeatError, HeartbeatLayer, PingWhen, Setting, Stage, State,
    ping::{self, Ping, PingError, PingPanicked, PingSource},
};

// Pings that panic

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_making_of_a_ping_fails_it_with_the_message() {
    let make = || -> Request { panic!("no nonce left") };
    let error = verdict(ping::request(make)).await;
    assert_panicked(&error, "no nonce left");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_answer_of_a_ping_fails_it_with_the_message() {
    let source = ping::request(|| Request::Panic);
    assert_panicked(&verdict(source).await, "call 1 panicked");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_check_fails_the_ping_with_the_message() {
    let source = ping::request(|| Request::Work).check(|answer: &'static str| {
        assert_eq!(answer, "something else");
        ready(Ok::<_, io::Error>(()))
    });
    let error = verdict(source).await;
    assert!(reason(&error).message().contains("something else"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_future_of_the_check_fails_the_ping_with_the_message() {
    let source = ping::request(|| Request::Work).check(|_| async {
        yield_now().await;
        panic!("unexpected end of answer");
        #[expect(unreachable_code, reason = "it names the type")]
        Ok::<_, io::Error>(())
    });
    assert_panicked(&verdict(source).await, "unexpected end of answer");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_fails_the_ping_with_the_message() {
    let source = ping::out_of_band(Scripted::new(PanicIn::Ready));
    assert_panicked(&verdict(source).await, "poll_ready");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_ping_of_ones_own_fails_it_with_the_message() {
    let source = ping::out_of_band(Scripted::new(PanicIn::Ping));
    assert_panicked(&verdict(source).await, "ping");
    let source = ping::out_of_band(Scripted::new(PanicIn::Pong));
    assert_panicked(&verdict(source).await, "pong");
    let source = ping::out_of_band(ping::from_fn(never_pings));
    assert_panicked(&verdict(source).await, "from_fn");
    let source =
        ping::with_service(|_: Backend| -> Ready<io::Result<()>> { panic!("with_service") });
    assert_panicked(&verdict(source).await, "with_service");
}

#[tokio::test(start_paused = true)]
async fn a_panic_without_a_message_says_so() {
    let make = || -> Request { std::panic::panic_any(7) };
    let error = verdict(ping::request(make)).await;
    assert_panicked(&error, "no message");
    let reason = error.source().expect("the panic").to_string();
    assert_eq!(reason, "ping panicked: no message");
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_ping_is_called_off_harms_nobody() {
    let script = Scripted::new(PanicIn::CallOff);
    let (mut service, _) = wrap(settings().ready_timeout(ms(300)), ping::out_of_band(script));
    sleep(ms(1_100)).await;
    let call = service.ready().await.unwrap().call(Request::Work);
    call.await.expect("alive");
    sleep(ms(900)).await;
    assert_eq!(service.handle().state(), State::Alive, "rescued and on");
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_pong_is_dropped_is_no_silent_stop() {
    let script = Scripted::new(PanicIn::Drop);
    let (service, _) = wrap(settings(), ping::out_of_band(script));
    assert_eq!(closed(&service.handle()).await, Failure::PingFailed);
}

#[test]
fn a_panic_while_a_ping_is_attached_is_the_callers() {
    let attach = |_: &Backend| -> Option<Scripted> { panic!("no pinger") };
    let caught = std::panic::catch_unwind(|| {
        let layer = HeartbeatLayer::new(Config::default(), ping::from_service(attach));
        drop(layer.layer(Backend::default()));
    });
    let panic: Box<dyn Any + Send> = caught.expect_err("no pinger");
    assert_eq!(panic.downcast_ref(), Some(&"no pinger"));
}

// Pings that go wrong

#[tokio::test(start_paused = true)]
async fn a_ping_that_never_resolves_is_a_pong_timeout() {
    let source = ping::out_of_band(ping::from_fn(pending::<io::Result<()>>));
    let error = verdict(source).await;
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.missed(), 2);
    assert!(error.source().is_none());
}

#[tokio::test(start_paused = true)]
async fn garbage_for_an_answer_fails_the_ping_with_the_checks_reason() {
    let source = ping::request(|| Request::Work).check(|answer: &'static str| async move {
        match answer {
            "PONG" => Ok(()),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, other)),
        }
    });
    let error = verdict(source).await;
    assert_eq!(error.failure(), Failure::PingFailed);
    let reason = error.source().expect("the reason");
    let reason = reason.downcast_ref::<io::Error>().expect("as it was");
    assert_eq!(reason.kind(), io::ErrorKind::InvalidData);
    assert_eq!(reason.to_string(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_takes_its_time_is_part_of_the_pong_wait() {
    let source = ping::request(|| Request::Work).check(|_| async {
        sleep(ms(399)).await;
        Ok::<_, io::Error>(())
    });
    let (service, _) = wrap(settings(), source);
    sleep(ms(1_399)).await;
    assert_eq!(service.handle().missed(), 1);
    sleep(ms(1)).await;
    assert_eq!(service.handle().missed(), 0);

    let source = ping::request(|| Request::Work).check(|_| pending::<io::Result<()>>());
    assert_eq!(verdict(source).await.failure(), Failure::PongTimeout);
}

#[tokio::test(start_paused = true)]
async fn an_error_for_an_answer_fails_the_ping_and_is_its_source() {
    let (service, backend) = wrap(settings(), ping::request(|| Request::Work));
    let mut other = service.clone();
    let waiting = other.ready().await.unwrap().call(Request::Hang);
    let waiting = tokio::spawn(waiting);
    backend.answer(Answer::Error);
    let start = Instant::now();
    assert_eq!(closed(&service.handle()).await, Failure::PingFailed);
    assert_eq!(start.elapsed(), ms(1_000));
    assert_eq!(service.handle().state(), State::Dead);

    let error = in_time(waiting).await.unwrap().expect_err("dead");
    let error = error.heartbeat().expect("the verdict");
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    let reason = error.source().expect("the peer's error");
    let reason = reason.downcast_ref::<io::Error>().expect("as it was");
    assert_eq!(reason.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_calls_with_errors_is_alive_by_its_pongs() {
    let (mut service, _) = wrap(settings(), ping::request(|| Request::Work));
    for _ in 0..50 {
        let call = service.ready().await.unwrap().call(Request::Fail);
        let error = call.await.expect_err("refused");
        assert!(matches!(error, Error::Inner(e) if e.kind() == io::ErrorKind::ConnectionReset));
        sleep(ms(100)).await;
    }
    let handle = service.handle();
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.pongs() >= 4, "an error is no sign of life");
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_in_poll_ready_says_so_until_a_ping_finds_out() {
    let (mut service, backend) = wrap(settings(), ping::request(|| Request::Work));
    backend.answer(Answer::UnreadyError);
    for _ in 0..3 {
        let error = service.ready().await.expect_err("broken");
        assert!(matches!(error, Error::Inner(e) if e.kind() == io::ErrorKind::NotConnected));
    }
    assert_eq!(closed(&service.handle()).await, Failure::PingFailed);
    let error = service.ready().await.expect_err("dead");
    let error = error.heartbeat().expect("the verdict explains it now");
    assert_eq!(error.stage(), Stage::NotSent);
    let reason = error.source().expect("the same").to_string();
    assert_eq!(reason, "broken");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_ends_as_blocked_and_frees_who_waits() {
    let (service, backend) = wrap(
        settings().ready_timeout(ms(300)),
        ping::request(|| Request::Work),
    );
    backend.answer(Answer::Unready);
    let mut clone = service.clone();
    let held = tokio::spawn(async move { clone.ready().await.map(|_| ()) });
    let start = Instant::now();
    let error = in_time(held).await.unwrap().expect_err("dead");
    assert_eq!(start.elapsed(), ms(1_300));
    let error = error.heartbeat().expect("the verdict");
    assert_eq!(error.failure(), Failure::PingBlocked);
    assert_eq!(error.stage(), Stage::NotSent);
    assert_eq!(error.waited(), ms(300));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_has_no_limit_where_nothing_is_pinged() {
    let (mut service, backend) = wrap(settings(), ping::none());
    backend.answer(Answer::Unready);
    let mut held = task::spawn(poll_fn(move |cx| service.poll_ready(cx)));
    assert_pending!(held.poll());
    sleep(ms(1_000_000)).await;
    assert!(!held.is_woken());
}

#[test]
fn a_ping_that_wakes_itself_for_ever_is_found_out_too() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let restless = || {
            poll_fn(|cx: &mut Context<'_>| {
                cx.waker().wake_by_ref();
                Poll::<io::Result<()>>::Pending
            })
        };
        let config = settings().interval(ms(20)).pong_timeout(ms(20));
        let (service, _) = wrap(config, ping::out_of_band(ping::from_fn(restless)));
        let handle = service.handle();
        let closed = tokio::time::timeout(ms(20_000), handle.closed());
        assert_eq!(closed.await, Ok(Failure::PongTimeout));
    });
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_polled_for_nothing_does_nothing() {
    let layer = HeartbeatLayer::new(build(settings()), ping::request(|| Request::Work));
    let (service, driver) = layer.pair(Backend::default());
    let mut driver = task::spawn(driver);
    for _ in 0..10_000 {
        assert_pending!(driver.poll());
    }
    assert_eq!(service.handle().pings(), 0);
    sleep(ms(1_000)).await;
    for _ in 0..10_000 {
        assert_pending!(driver.poll());
    }
    assert_eq!(service.handle().pings(), 1);
    assert_eq!(service.handle().state(), State::Alive);
}

// Settings

#[test]
fn a_duration_that_no_timer_can_keep_is_refused_by_name() {
    let settings: [(Setting, Change); 8] = [
        (Setting::Interval, |b, d| b.interval(d)),
        (Setting::PongTimeout, |b, d| b.pong_timeout(d)),
        (Setting::IdleTimeout, |b, d| b.idle_timeout(d)),
        (Setting::QuietTimeout, |b, d| b.quiet_timeout(d)),
        (Setting::VerifyAfterIdle, |b, d| b.verify_after_idle(d)),
        (Setting::SuspectAfter, |b, d| b.suspect_after(d)),
        (Setting::MaxLocalPause, |b, d| b.max_local_pause(d)),
        (Setting::DetectWithin, |b, d| b.detect_within(d)),
    ];
    for (name, change) in settings {
        for absurd in [Duration::ZERO, Duration::from_nanos(999_999)] {
            let error = change(Config::builder(), absurd).build();
            assert!(
                matches!(error, Err(ConfigError::TooShort { setting, .. }) if setting == name),
                "{error:?}"
            );
        }
        assert_too_long(name, change);
    }
    assert_too_long(Setting::ReadyTimeout, |b, d| b.ready_timeout(d));
    assert!(
        Config::builder()
            .ready_timeout(Duration::ZERO)
            .build()
            .is_ok()
    );
    assert!(Config::detect_within(Duration::ZERO).is_err());
    assert!(Config::detect_within(ms(19)).is_err());
    assert!(Config::detect_within(ms(20)).is_ok());
    assert!(Config::detect_within(Duration::MAX).is_err());
}

#[test]
fn a_number_out_of_its_range_is_refused_by_name() {
    let builder = Config::builder();
    for (name, change) in [
        (Setting::MaxMissed, builder.max_missed(0)),
        (Setting::MaxMissed, builder.max_missed(1_001)),
        (Setting::MaxMissed, builder.max_missed(u32::MAX)),
        (Setting::Jitter, builder.jitter(26)),
        (Setting::Jitter, builder.jitter(u8::MAX)),
        (Setting::LocalFaultShare, builder.local_fault_share(101)),
        (
            Setting::LocalFaultConnections,
            builder.local_fault_connections(1),
        ),
    ] {
        let error = change.build();
        assert!(
            matches!(error, Err(ConfigError::OutOfRange { setting, .. }) if setting == name),
            "{error:?}"
        );
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_by_both_names() {
    use Setting::{
        DetectWithin, IdleTimeout, Interval, MaxMissed, PongTimeout, ReadyTimeout, SuspectAfter,
        VerifyAfterIdle,
    };
    let within = Config::builder().detect_within(ms(7_200));
    for (first, second, change) in [
        (SuspectAfter, Interval, settings().suspect_after(ms(1_125))),
        (SuspectAfter, MaxMissed, settings().suspect_after(ms(1_525))),
        (
            VerifyAfterIdle,
            Interval,
            settings().verify_after_idle(ms(1_000)),
        ),
        (
            VerifyAfterIdle,
            IdleTimeout,
            settings().verify_after_idle(ms(900)).idle_timeout(ms(900)),
        ),
        (
            VerifyAfterIdle,
            IdleTimeout,
            settings()
                .ping_when(PingWhen::WhileBusy)
                .verify_after_idle(ms(9_000))
                .idle_timeout(ms(9_000)),
        ),
        (Interval, DetectWithin, within.interval(ms(3_300))),
        (PongTimeout, DetectWithin, within.pong_timeout(ms(901))),
        (MaxMissed, DetectWithin, within.max_missed(4)),
        (ReadyTimeout, DetectWithin, within.ready_timeout(ms(901))),
    ] {
        let error = change.build().expect_err("illegal");
        let named = [error.setting(), error.other().expect("a pair")];
        assert!(named.contains(&first) && named.contains(&second));
        let words = error.to_string();
        assert!(words.contains(&format!("`{first}`")), "{words}");
        assert!(words.contains(&format!("`{second}`")), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_legal_settings_just_wait() {
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let config = Config::builder()
        .interval(year)
        .pong_timeout(year)
        .ready_timeout(year)
        .max_local_pause(year)
        .idle_timeout(year)
        .quiet_timeout(year)
        .suspect_after(year * 2)
        .max_missed(1_000)
        .jitter(25);
    assert!(config.build().is_err(), "two years");
    let config = config.suspect_after(year);
    assert!(config.build().is_err(), "not before the first ping");
    let config = Config::builder()
        .interval(year)
        .pong_timeout(year)
        .max_missed(1_000)
        .jitter(25)
        .ping_when(PingWhen::Always)
        .evidence(Evidence::PongOnly);
    let (mut service, _) = wrap(config, ping::request(|| Request::Work));
    for _ in 0..20 {
        let call = service.ready().await.unwrap().call(Request::Work);
        call.await.expect("alive");
        sleep(year / 10).await;
    }
    assert_eq!(service.handle().state(), State::Alive);
    assert!((2..=3).contains(&service.handle().pongs()));
}

#[tokio::test(start_paused = true)]
async fn the_shortest_legal_settings_work_to_the_millisecond() {
    let config = Config::builder()
        .interval(ms(1))
        .pong_timeout(ms(1))
        .max_missed(1)
        .ready_timeout(Duration::ZERO)
        .max_local_pause(ms(1));
    let (service, backend) = wrap(config, ping::request(|| Request::Work));
    sleep(ms(100)).await;
    assert!(service.handle().pongs() >= 99);
    backend.answer(Answer::Hang);
    let start = Instant::now();
    assert_eq!(closed(&service.handle()).await, Failure::PongTimeout);
    assert!(start.elapsed() <= ms(3), "{:?}", start.elapsed());
}

// Drivers that go away

#[test]
fn a_runtime_that_shuts_down_under_the_service_tells_everybody() {
    let watching = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let backend = Backend::default();
    let mut service = {
        let _entered = watching.enter();
        let patient = settings().ready_timeout(ms(60_000));
        HeartbeatLayer::new(build(patient), ping::request(|| Request::Work)).layer(backend.clone())
    };
    let handle = service.handle();
    let mut call = task::spawn(service.call(Request::Hang));
    assert_pending!(call.poll());
    backend.answer(Answer::Unready);
    let mut clone = service.clone();
    let mut held = task::spawn(poll_fn(|cx| clone.poll_ready(cx)));
    assert_pending!(held.poll());
    let mut closed = task::spawn(handle.closed());
    assert_pending!(closed.poll());
    let mut asked = task::spawn(handle.ping_now());
    assert_pending!(asked.poll());

    drop(watching);
    assert!(call.is_woken() && held.is_woken() && closed.is_woken() && asked.is_woken());
    assert_gone(call.poll(), Stage::AwaitingResponse);
    assert_gone(held.poll(), Stage::NotSent);
    assert_eq!(closed.poll(), Poll::Ready(Failure::MonitorGone));
    let Poll::Ready(Err(error)) = asked.poll() else {
        panic!("nobody pings");
    };
    assert_eq!(error.failure(), Failure::MonitorGone);
    drop(held);
    assert_gone(
        task::spawn(clone.call(Request::Work)).poll(),
        Stage::NotSent,
    );
    assert_eq!(handle.state(), State::Dead);
}

#[test]
fn a_runtime_without_timers_is_no_silent_stop() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (service, _) = wrap(settings(), ping::request(|| Request::Work));
        assert_eq!(service.handle().closed().await, Failure::MonitorGone);
    });
}

#[test]
fn a_driver_that_is_dropped_tells_everybody() {
    for polled in [false, true] {
        let runtime = paused_runtime();
        let _entered = runtime.enter();
        let (mut service, driver) = pair(ping::request(|| Request::Work));
        let mut driver = task::spawn(driver);
        if polled {
            assert_pending!(driver.poll());
        }
        let mut call = task::spawn(service.call(Request::Hang));
        assert_pending!(call.poll());
        drop(driver);
        assert!(call.is_woken());
        assert_gone(call.poll(), Stage::AwaitingResponse);
        let mut again = task::spawn(poll_fn(|cx| service.poll_ready(cx)));
        assert_gone(again.poll(), Stage::NotSent);
    }
}

#[test]
fn an_executor_that_drops_the_driver_tells_everybody() {
    let layer =
        HeartbeatLayer::new(build(settings()), ping::request(|| Request::Work)).executor(drop);
    let mut service = layer.layer(Backend::default());
    assert_eq!(service.handle().failure(), Some(Failure::MonitorGone));
    let mut ready = task::spawn(poll_fn(|cx| service.poll_ready(cx)));
    assert_gone(ready.poll(), Stage::NotSent);
}

#[test]
fn a_driver_that_was_never_spawned_goes_with_its_service() {
    let layer = HeartbeatLayer::new(build(settings()), ping::request(|| Request::Work));
    let backend = Backend::default();
    let service = layer.layer(backend.clone());
    let handle = service.handle();
    drop(service);
    assert_eq!(handle.failure(), Some(Failure::Closed));
    assert_eq!(backend.clones(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_stopped_by_its_executor_tells_everybody() {
    let tasks = Arc::new(Mutex::new(Vec::new()));
    let spawned = Arc::clone(&tasks);
    let layer = HeartbeatLayer::new(build(settings()), ping::request(|| Request::Work))
        .executor(move |driver| spawned.lock().unwrap().push(tokio::spawn(driver)));
    let service = layer.layer(Backend::default());
    sleep(ms(1_500)).await;
    assert_eq!(service.handle().pongs(), 1);
    tasks.lock().unwrap()[0].abort();
    assert_eq!(closed(&service.handle()).await, Failure::MonitorGone);
}

// Hooks and wakers

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_keeps_nobody_asleep() {
    let (mut service, _) = wrap(settings(), ping::request(|| Request::Hang));
    let handle = service.handle();
    let ran = Arc::new(AtomicUsize::new(0));
    for hook in 0..3 {
        let ran = Arc::clone(&ran);
        handle.on_end(move |_| {
            ran.fetch_add(1, Ordering::Relaxed);
            assert_eq!(hook, 1, "a careless hook");
        });
    }
    let call = service.ready().await.unwrap().call(Request::Hang);
    let error = in_time(call).await.expect_err("dead");
    assert_eq!(
        error.heartbeat().map(HeartbeatError::failure),
        Some(Failure::PongTimeout)
    );
    assert_eq!(ran.load(Ordering::Relaxed), 3);
    assert_eq!(closed(&handle).await, Failure::PongTimeout);

    let late = Arc::clone(&ran);
    handle.on_end(move |_| {
        late.fetch_add(1, Ordering::Relaxed);
        panic!("a late one too");
    });
    assert_eq!(ran.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_hook_may_do_to_the_connection_what_it_likes() {
    let (service, _) = wrap(settings(), ping::request(|| Request::Hang));
    let handle = service.handle();
    let ran = Arc::new(AtomicUsize::new(0));
    let (again, count, service) = (handle.clone(), Arc::clone(&ran), Mutex::new(service));
    handle.on_end(move |error| {
        assert_eq!(error.failure(), Failure::Closed);
        again.close();
        assert_eq!(again.state(), State::Closed);
        let nested = Arc::clone(&count);
        again.on_end(move |_| {
            nested.fetch_add(1, Ordering::Relaxed);
        });
        drop(service);
        count.fetch_add(1, Ordering::Relaxed);
    });
    handle.close();
    assert_eq!(ran.load(Ordering::Relaxed), 2);
}

#[test]
fn a_service_that_closes_its_own_connection_while_it_is_polled_misses_nothing() {
    for in_poll_ready in [true, false] {
        let handle = Arc::new(Mutex::new(None));
        let inner = SelfClosing {
            handle: Arc::clone(&handle),
            in_poll_ready,
        };
        let layer = HeartbeatLayer::new(build(settings()), ping::none());
        let (mut service, driver) = layer.pair(inner);
        *handle.lock().unwrap() = Some(service.handle());
        let mut call = task::spawn(async move { service.ready().await?.call(()).await });
        let Poll::Ready(Err(error)) = call.poll() else {
            panic!("it has ended by now");
        };
        assert_eq!(failure(&error), Failure::Closed);
        drop(driver);
    }
}

#[test]
fn who_is_woken_may_drop_everything_at_once() {
    let (mut service, driver) = pair(ping::request(|| Request::Work));
    let handle = service.handle();
    let call = Box::pin(service.call(Request::Hang));
    let owned = Arc::new(Owner(Mutex::new(None)));
    let waker = Waker::from(Arc::clone(&owned));
    let mut call = call;
    assert!(
        call.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    *owned.0.lock().unwrap() = Some(Box::new((call, service, driver)));
    handle.close();
    assert!(owned.0.lock().unwrap().is_none(), "it was woken");
    assert_eq!(handle.state(), State::Closed);
}

// Storms: the end of a connection against those who just begin to wait for it

#[test]
fn a_close_and_a_call_that_begins_to_wait_never_miss_each_other() {
    storm(|| {
        let (mut service, driver) = pair(ping::none());
        let handle = service.handle();
        let call = service.call(Request::Hang);
        let kill = move || handle.close();
        let wait = async move {
            let error = call.await.expect_err("closed");
            assert_eq!(failure(&error), Failure::Closed);
            drop((service, driver));
        };
        (kill, wait)
    });
}

#[test]
fn a_close_and_a_call_that_is_just_made_never_miss_each_other() {
    storm(|| {
        let (mut service, driver) = pair(ping::none());
        let handle = service.handle();
        let kill = move || handle.close();
        let wait = async move {
            let error = service.call(Request::Hang).await.expect_err("closed");
            assert_eq!(failure(&error), Failure::Closed);
            drop(driver);
        };
        (kill, wait)
    });
}

#[test]
fn a_close_and_a_held_poll_ready_never_miss_each_other() {
    storm(|| {
        let (mut service, driver) = pair(ping::none());
        service.get_ref().answer(Answer::Unready);
        let handle = service.handle();
        let kill = move || handle.close();
        let wait = async move {
            let error = service.ready().await.expect_err("closed");
            assert_eq!(failure(&error), Failure::Closed);
            drop(driver);
        };
        (kill, wait)
    });
}

#[test]
fn a_close_and_one_who_waits_for_it_never_miss_each_other() {
    storm(|| {
        let (service, driver) = pair(ping::request(|| Request::Work));
        let (handle, waiting) = (service.handle(), service.handle());
        let kill = move || handle.close();
        let wait = async move {
            let (closed, pinged) = tokio::join!(waiting.closed(), waiting.ping_now());
            assert_eq!(closed, Failure::Closed);
            assert_eq!(pinged.expect_err("closed").failure(), Failure::Closed);
            drop((service, driver));
        };
        (kill, wait)
    });
}

#[test]
fn a_driver_that_goes_and_a_call_that_begins_to_wait_never_miss_each_other() {
    storm(|| {
        let (mut service, driver) = pair(ping::none());
        let kill = move || drop(driver);
        let wait = async move {
            let error = service.call(Request::Hang).await.expect_err("gone");
            assert_eq!(failure(&error), Failure::MonitorGone);
        };
        (kill, wait)
    });
}

#[test]
fn a_close_and_a_last_service_that_goes_never_miss_the_call_in_flight() {
    // The narrowest of them.
    storm_of(60_000, || {
        let (mut service, driver) = pair(ping::none());
        let handle = service.handle();
        let mut call = Box::pin(service.call(Request::Hang));
        let mut service = Some(service);
        let kill = move || handle.close();
        let wait = async move {
            // Not polled again after the service went: whoever comes second has to wake it.
            let result = poll_fn(|cx| {
                let result = call.as_mut().poll(cx);
                service = None;
                result
            });
            let error = result.await.expect_err("closed");
            assert_eq!(failure(&error), Failure::Closed);
            drop(driver);
        };
        (kill, wait)
    });
}

#[test]
fn a_driver_at_work_and_a_last_service_that_goes_never_miss_each_other() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    storm(|| {
        let (mut service, mut driver) = pair(ping::none());
        let call = service.call(Request::Work);
        let runtime = Arc::clone(&runtime);
        let kill = move || drop((service, call));
        let wait = async move {
            poll_fn(|cx| {
                let _entered = runtime.enter();
                Pin::new(&mut driver).poll(cx)
            })
            .await;
        };
        (kill, wait)
    });
}

#[test]
fn calls_and_closes_on_two_threads_leave_no_count_behind() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..50 {
            let (service, _) = wrap(settings(), ping::request(|| Request::Work));
            let handle = service.handle();
            let calls: Vec<_> = (0..20)
                .map(|n| {
                    let mut service = service.clone();
                    tokio::spawn(async move {
                        let request = if n % 2 == 0 {
                            Request::Work
                        } else {
                            Request::Hang
                        };
                        service.ready().await?.call(request).await
                    })
                })
                .collect();
            let closer = handle.clone();
            tokio::spawn(async move { closer.close() });
            for call in calls {
                if let Err(error) = call.await.unwrap() {
                    assert_eq!(failure(&error), Failure::Closed);
                }
            }
            assert_eq!(handle.in_flight(), 0);
        }
    });
}

// Settings and services that most tests share

/// Dead after 1,400 ms without a word: one interval of a second, two misses.
fn settings() -> ConfigBuilder {
    Config::builder()
        .interval(ms(1_000))
        .pong_timeout(ms(200))
        .max_missed(2)
        .ready_timeout(Duration::ZERO)
}

fn build(settings: ConfigBuilder) -> Config {
    settings.build().expect("legal")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

type Change = fn(ConfigBuilder, Duration) -> ConfigBuilder;

fn assert_too_long(name: Setting, change: Change) {
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    for absurd in [Duration::MAX, year + Duration::from_nanos(1)] {
        let error = change(Config::builder(), absurd).build();
        assert!(
            matches!(error, Err(ConfigError::TooLong { setting, most, .. })
                if setting == name && most == year),
            "{error:?}"
        );
    }
}

fn wrap<P>(settings: ConfigBuilder, source: P) -> (Heartbeat<Backend>, Backend)
where
    P: PingSource<Backend>,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
{
    let backend = Backend::default();
    let layer = HeartbeatLayer::new(build(settings), source);
    (layer.layer(backend.clone()), backend)
}

fn pair<P>(source: P) -> (Heartbeat<Backend>, Driver<P::Ping>)
where
    P: PingSource<Backend>,
{
    HeartbeatLayer::new(build(settings()), source).pair(Backend::default())
}

/// What a connection ends with that does nothing but ping.
async fn verdict<P>(source: P) -> HeartbeatError
where
    P: PingSource<Backend>,
    P::Ping: Send + 'static,
    <P::Ping as Ping>::Pong: Send,
{
    let (service, _backend) = wrap(settings(), source);
    let handle: Handle = service.handle();
    closed(&handle).await;
    handle.error().expect("it has ended")
}

/// Turns a test in virtual time that would hang into one that fails.
async fn in_time<F: Future>(future: F) -> F::Output {
    let age = Duration::from_secs(20_000);
    tokio::time::timeout(age, future)
        .await
        .expect("it would hang")
}

async fn closed(handle: &Handle) -> Failure {
    in_time(handle.closed()).await
}

fn reason(error: &HeartbeatError) -> &PingPanicked {
    assert_eq!(error.failure(), Failure::PingFailed);
    let source = error.source().expect("the panic");
    source.downcast_ref().expect("a panic")
}

fn assert_panicked(error: &HeartbeatError, message: &str) {
    assert_eq!(reason(error).message(), message);
}

fn failure(error: &Error<io::Error>) -> Failure {
    error.heartbeat().expect("the heartbeat's own").failure()
}

fn assert_gone<T: Debug>(result: Poll<Result<T, Error<io::Error>>>, stage: Stage) {
    let Poll::Ready(Err(Error::Heartbeat(error))) = result else {
        panic!("nobody watches it: {result:?}");
    };
    assert_eq!(error.failure(), Failure::MonitorGone);
    assert_eq!(error.stage(), stage);
}

fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

fn never_pings() -> Ready<io::Result<()>> {
    panic!("from_fn")
}

#[derive(Clone, Copy, Debug)]
enum Request {
    /// Whatever `Backend::answer` says.
    Work,
    Fail,
    Hang,
    Panic,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Done,
    Error,
    Hang,
    Unready,
    UnreadyError,
}

/// A service whose clones share what they answer.
#[derive(Clone, Debug)]
struct Backend {
    answer: Arc<Mutex<Answer>>,
    calls: Arc<AtomicUsize>,
}

impl Default for Backend {
    fn default() -> Self {
        Backend {
            answer: Arc::new(Mutex::new(Answer::Done)),
            calls: Arc::default(),
        }
    }
}

impl Backend {
    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn clones(&self) -> usize {
        Arc::strong_count(&self.answer)
    }
}

impl Service<Request> for Backend {
    type Response = &'static str;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<&'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self.answer.lock().unwrap() {
            Answer::Unready => Poll::Pending,
            Answer::UnreadyError => {
                let broken = io::Error::new(io::ErrorKind::NotConnected, "broken");
                Poll::Ready(Err(broken))
            }
            Answer::Done | Answer::Error | Answer::Hang => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = *self.answer.lock().unwrap();
        Box::pin(async move {
            match (request, answer) {
                (Request::Panic, _) => panic!("call {call} panicked"),
                (Request::Hang, _) | (Request::Work, Answer::Hang) => pending().await,
                (Request::Fail, _) | (Request::Work, Answer::Error) => {
                    Err(io::ErrorKind::ConnectionReset.into())
                }
                (Request::Work, Answer::Done | Answer::Unready | Answer::UnreadyError) => {
                    Ok("done")
                }
            }
        })
    }
}

/// Closes the connection that it is, and is pending then.
struct SelfClosing {
    handle: Arc<Mutex<Option<Handle>>>,
    in_poll_ready: bool,
}

impl Service<()> for SelfClosing {
    type Response = ();
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.in_poll_ready {
            return Poll::Ready(Ok(()));
        }
        self.handle.lock().unwrap().as_ref().unwrap().close();
        Poll::Pending
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let handle = self.handle.lock().unwrap().clone();
        Box::pin(async move {
            handle.unwrap().close();
            pending().await
        })
    }
}

/// Where a ping of one's own panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PanicIn {
    Ready,
    Ping,
    Pong,
    CallOff,
    Drop,
}

#[derive(Clone, Debug)]
struct Scripted {
    script: PanicIn,
}

impl Scripted {
    fn new(script: PanicIn) -> Self {
        Scripted { script }
    }
}

impl Ping for Scripted {
    type Pong = ScriptedPong;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        match self.script {
            PanicIn::Ready => panic!("poll_ready"),
            PanicIn::CallOff => Poll::Pending,
            PanicIn::Ping | PanicIn::Pong | PanicIn::Drop => Poll::Ready(Ok(())),
        }
    }

    fn ping(&mut self) -> ScriptedPong {
        if self.script == PanicIn::Ping {
            panic!("ping");
        }
        ScriptedPong(self.script)
    }

    fn call_off(&mut self) {
        if self.script == PanicIn::CallOff {
            panic!("call_off");
        }
    }
}

struct ScriptedPong(PanicIn);

impl Future for ScriptedPong {
    type Output = Result<(), PingError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0 == PanicIn::Pong {
            panic!("pong");
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ScriptedPong {
    fn drop(&mut self) {
        if self.0 == PanicIn::Drop {
            panic!("drop");
        }
    }
}

/// Drops what it owns when it is woken.
struct Owner(Mutex<Option<Box<dyn Any + Send>>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        let owned = self.0.lock().unwrap().take();
        drop(owned);
    }
}

/// Runs `kill` and polls `wait` at about the same moment on two threads, again and again.
fn storm<K, W>(round: impl Fn() -> (K, W))
where
    K: FnOnce() + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    storm_of(20_000, round);
}

fn storm_of<K, W>(rounds: usize, round: impl Fn() -> (K, W))
where
    K: FnOnce() + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let (kills, queue) = mpsc::sync_channel::<(usize, K)>(0);
    let began = Arc::new(AtomicUsize::new(usize::MAX));
    let killing = Arc::clone(&began);
    let killer = thread::spawn(move || {
        for (round, kill) in queue {
            let mut spins = 0;
            while killing.load(Ordering::Acquire) != round {
                std::hint::spin_loop();
                spins += 1;
                if spins % 1_000 == 0 {
                    thread::yield_now();
                }
            }
            pause(round * 7 % 257);
            kill();
        }
    });
    for number in 0..rounds {
        let (kill, wait) = round();
        kills.send((number, kill)).expect("the killer lives");
        began.store(number, Ordering::Release);
        pause(number * 13 % 251);
        block_on(wait);
    }
    drop(kills);
    killer.join().unwrap();
}

/// A few nanoseconds each, so that the two threads meet at ever other points.
fn pause(steps: usize) {
    for step in 0..steps {
        std::hint::black_box(step);
    }
}

/// Parks until `future` is woken; one that is not is the failure looked for.
fn block_on(future: impl Future<Output = ()>) {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let by = std::time::Instant::now() + Duration::from_secs(20);
    while future.as_mut().poll(&mut cx).is_pending() {
        thread::park_timeout(Duration::from_secs(20));
        assert!(std::time::Instant::now() < by, "nobody woke it");
    }
}
