//! Who keeps a connection alive: its services and the requests in flight, and nobody else.

#![allow(
    clippy::disallowed_methods,
    reason = "tests read the virtual clock and sleep on it"
)]

use std::{
    future::{pending, poll_fn},
    io,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Builder,
    task::{JoinHandle, yield_now},
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    Config, ConfigBuilder, Error, Failure, Handle, Heartbeat, HeartbeatError, HeartbeatLayer,
    InFlight, PingWhen, Stage, State, TrackCompletion, ping,
};

// The last user goes

#[tokio::test(start_paused = true)]
async fn the_connection_is_closed_with_its_last_service_at_once() {
    let (service, probe) = connect(settings());
    let clone = service.clone();
    sleep(ms(2_500)).await;
    assert_eq!(probe.pings().len(), 2);
    drop(service);
    settle().await;
    assert!(probe.is_open(), "a clone is left");
    drop(clone);
    assert_closes_at_once(&probe).await;
    sleep(ms(60_000)).await;
    assert_eq!(probe.pings().len(), 2, "no more pings");
}

#[tokio::test(start_paused = true)]
async fn the_connection_is_closed_at_once_though_it_was_never_used() {
    for slept in [0, 1, 999] {
        let (service, probe) = connect(settings());
        sleep(ms(slept)).await;
        drop(service);
        assert_closes_at_once(&probe).await;
        assert_eq!(probe.pings().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_out_is_cancelled_with_the_last_service() {
    let (service, probe) = connect(settings());
    probe.answer_pings(Answer::Never);
    sleep(ms(1_100)).await;
    assert_eq!(probe.pings().len(), 1);
    assert_eq!(probe.answering(), 1);
    drop(service);
    assert_closes_at_once(&probe).await;
    assert_eq!(probe.answering(), 0, "its future is dropped too");
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_blocked_is_cancelled_with_the_last_service() {
    let (service, probe) = connect(settings().ready_timeout(ms(500)));
    probe.block();
    sleep(ms(1_100)).await;
    assert_eq!(probe.pings().len(), 0);
    drop(service);
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_traffic_is_closed_at_once_and_not_at_the_next_tick() {
    let (mut service, probe) = connect(settings());
    for _ in 0..5 {
        sleep(ms(3)).await;
        service
            .ready()
            .await
            .unwrap()
            .call(Answer::AtOnce)
            .await
            .unwrap();
    }
    drop(service);
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_for_its_verification_is_closed_at_once() {
    let (service, probe) = connect(settings().verify_after_idle(ms(500)));
    probe.answer_pings(Answer::Never);
    sleep(ms(700)).await;
    let mut held = task::spawn(service.ready_oneshot());
    assert_pending!(held.poll());
    settle().await;
    assert_eq!(probe.pings().len(), 1);
    drop(held);
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn closed_resolves_when_the_last_user_is_gone() {
    let (service, _probe) = connect(settings());
    let handle = service.handle();
    let closed = tokio::spawn(async move { (handle.closed().await, handle.state()) });
    sleep(ms(10_000)).await;
    assert!(!closed.is_finished());
    let start = Instant::now();
    drop(service);
    let closed = in_time(closed).await.unwrap();
    assert_eq!(closed, (Failure::Closed, State::Closed));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_handle_does_not_keep_the_connection_alive() {
    let (service, probe) = connect(settings());
    let handles = [service.handle(), service.handle()];
    handles[0].on_end(|error| assert_eq!(error.failure(), Failure::Closed));
    let mut asked = task::spawn(handles[1].ping_now());
    probe.answer_pings(Answer::Never);
    assert_pending!(asked.poll());
    settle().await;
    drop(service);
    assert_closes_at_once(&probe).await;
    assert!(asked.is_woken());
    let Poll::Ready(Err(error)) = asked.poll() else {
        panic!("nobody to ping");
    };
    assert_eq!(error.failure(), Failure::Closed);
    assert_eq!(handles[0].clone().failure(), Some(Failure::Closed));
    assert_eq!(handles[0].in_flight(), 0);
    assert_eq!(handles[0].pings(), 1, "its figures outlive it");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_owns_a_service_is_the_users_own_knot_and_close_cuts_it() {
    let (service, probe) = connect(settings());
    let handle = service.handle();
    handle.on_end(move |_| drop(service));
    sleep(ms(5_000)).await;
    assert!(probe.is_open());
    handle.close();
    assert_closes_at_once(&probe).await;
}

// Death and close

#[tokio::test(start_paused = true)]
async fn after_close_only_the_users_hold_the_inner_service() {
    let (service, probe) = connect(settings());
    probe.answer_pings(Answer::Never);
    sleep(ms(1_100)).await;
    assert_eq!(probe.clones(), 2, "ours and the ping's");
    service.handle().close();
    settle().await;
    assert_eq!(probe.clones(), 1, "pings are over");
    assert_eq!(probe.answering(), 0);
    drop(service);
    assert!(!probe.is_open());
}

#[tokio::test(start_paused = true)]
async fn after_death_only_the_users_hold_the_inner_service() {
    let (service, probe) = connect(settings());
    probe.answer_pings(Answer::Never);
    let failure = in_time(service.handle().closed()).await;
    assert_eq!(failure, Failure::PongTimeout);
    settle().await;
    assert_eq!(probe.clones(), 1);
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn close_fails_what_is_in_flight_at_once() {
    let (mut service, probe) = connect(settings());
    let call = tokio::spawn(service.ready().await.unwrap().call(Answer::Never));
    settle().await;
    assert_eq!(probe.answering(), 1);
    let start = Instant::now();
    service.handle().close();
    service.handle().close();
    let error = in_time(call).await.unwrap().expect_err("closed");
    assert_eq!(start.elapsed(), Duration::ZERO);
    let error = error.heartbeat().expect("on this side");
    assert_eq!(error.failure(), Failure::Closed);
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    assert_eq!(
        probe.answering(),
        0,
        "the request is dropped with its future"
    );
    let refused = service.ready().await.expect_err("closed");
    assert_eq!(
        refused.heartbeat().map(HeartbeatError::failure),
        Some(Failure::Closed)
    );
}

// Requests in flight

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_keeps_the_connection_and_its_pings() {
    let (service, probe) = connect(settings());
    let handle = service.handle();
    let call = start(&service, Answer::After(ms(5_500)));
    settle().await;
    drop(service);
    sleep(ms(5_400)).await;
    assert_eq!(handle.state(), State::Alive);
    assert_eq!(handle.in_flight(), 1);
    assert_eq!(probe.pings(), [1_000, 2_000, 3_000, 4_000, 5_000]);
    in_time(call).await.unwrap().expect("served");
    assert_closes_at_once(&probe).await;
    assert_eq!(in_time(handle.closed()).await, Failure::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_of_a_connection_without_services_still_dies() {
    let (service, probe) = connect(settings());
    probe.answer_pings(Answer::Never);
    let begin = Instant::now();
    let call = start(&service, Answer::Never);
    settle().await;
    drop(service);
    let error = call.await.unwrap().expect_err("dead");
    let error = error.heartbeat().expect("the verdict");
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    assert_eq!(begin.elapsed(), ms(1_600));
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_without_services_is_not_ended_by_the_idle_limit() {
    let config = settings().idle_timeout(ms(700));
    let (service, probe) = connect(config);
    let call = start(&service, Answer::After(ms(5_000)));
    settle().await;
    drop(service);
    in_time(call).await.unwrap().expect("served");
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_last_closes_the_connection_at_once() {
    let (mut service, probe) = connect(settings());
    let call = service.ready().await.unwrap().call(Answer::Never);
    let mut call = task::spawn(call);
    assert_pending!(call.poll());
    drop(service);
    sleep(ms(1_500)).await;
    assert!(probe.is_open());
    drop(call);
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_of_many_requests_closes_the_connection() {
    let (service, probe) = connect(settings());
    let handle = service.handle();
    let calls: Vec<_> = (0..100)
        .map(|n| start(&service, Answer::After(ms(10 * n))))
        .collect();
    settle().await;
    drop(service);
    for (n, call) in calls.into_iter().enumerate() {
        in_time(call).await.unwrap().expect("served");
        assert_eq!(handle.in_flight(), 99 - n);
    }
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn requests_of_several_threads_are_all_counted() {
    let (service, probe) = connect(settings());
    let handle = service.handle();
    let mut calls = Vec::new();
    for n in 1..=8 {
        let mut service = service.clone();
        let call = std::thread::spawn(move || service.call(Answer::Never));
        calls.push(call.join().unwrap());
        assert_eq!(handle.in_flight(), n);
    }
    drop(service);
    assert_eq!(handle.in_flight(), 8);
    while let Some(call) = calls.pop() {
        settle().await;
        assert!(probe.is_open());
        drop(call);
        assert_eq!(handle.in_flight(), calls.len());
    }
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_keeps_the_connection_until_it_is_dropped() {
    let probe = Probe::new();
    let layer = HeartbeatLayer::new(build(settings()), pings()).completion(Streamed);
    let mut service = layer.layer(probe.connection());
    let handle = service.handle();
    let body = service.ready().await.unwrap().call(Answer::AtOnce);
    let body = body.await.expect("served");
    drop(service);
    sleep(ms(10_100)).await;
    assert_eq!(handle.state(), State::Alive);
    assert_eq!(handle.in_flight(), 1);
    assert_eq!(probe.pings().len(), 10);
    drop(body);
    assert_closes_at_once(&probe).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_without_services_is_told_of_the_death() {
    let probe = Probe::new();
    let layer = HeartbeatLayer::new(build(settings()), pings()).completion(Streamed);
    let mut service = layer.layer(probe.connection());
    let body = service.ready().await.unwrap().call(Answer::AtOnce);
    let mut body = body.await.expect("served");
    settle().await;
    probe.answer_pings(Answer::Never);
    drop(service);
    let error = in_time(poll_fn(|cx| body.0.poll_ended(cx, Stage::Streaming))).await;
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.stage(), Stage::Streaming);
    assert_eq!(body.0.ended(Stage::Streaming).expect("it has").missed(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_keeps_nothing() {
    let (mut service, probe) = connect(settings());
    let handle = service.handle();
    handle.close();
    let refused = service.call(Answer::AtOnce);
    assert_eq!(handle.in_flight(), 0);
    drop(service);
    assert_closes_at_once(&probe).await;
    assert!(refused.await.is_err());
}

// Drivers by hand, and none

#[tokio::test(start_paused = true)]
async fn a_driver_that_has_completed_keeps_nobody_alive_though_somebody_keeps_it() {
    let probe = Probe::new();
    let layer = HeartbeatLayer::new(build(settings()), pings());
    let (service, mut driver) = layer.pair(probe.connection());
    drop(service);
    in_time(&mut driver).await;
    assert!(!probe.is_open());
    drop(driver);
}

#[tokio::test(start_paused = true)]
async fn a_driver_by_hand_completes_with_the_last_user_and_keeps_nobody_alive() {
    let probe = Probe::new();
    let layer = HeartbeatLayer::new(build(settings()), pings());
    let (mut service, driver) = layer.pair(probe.connection());
    let handle = service.handle();
    let call = service
        .ready()
        .await
        .unwrap()
        .call(Answer::After(ms(2_000)));
    let call = tokio::spawn(call);
    let driver = tokio::spawn(driver);
    drop(service);
    sleep(ms(1_900)).await;
    assert!(!driver.is_finished());
    in_time(call).await.unwrap().expect("served");
    in_time(driver).await.unwrap();
    assert_eq!(handle.failure(), Some(Failure::Closed));
    assert!(!probe.is_open());
}

#[test]
fn a_service_that_no_runtime_ever_saw_is_dropped_whole() {
    let probe = Probe::new();
    let layer = HeartbeatLayer::new(build(settings()), pings());
    let service = layer.layer(probe.connection());
    let handle = service.handle();
    let clone = service.clone();
    drop(service);
    assert!(probe.is_open());
    assert_eq!(handle.failure(), None);
    drop(clone);
    assert!(!probe.is_open());
    assert_eq!(handle.failure(), Some(Failure::Closed));
}

#[test]
fn a_runtime_that_shuts_down_drops_its_pings() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let probe = Probe::new();
    let service = {
        let _entered = runtime.enter();
        HeartbeatLayer::new(build(settings()), pings()).layer(probe.connection())
    };
    assert_eq!(probe.clones(), 2);
    drop(runtime);
    assert_eq!(probe.clones(), 1);
    drop(service);
    assert!(!probe.is_open());
}

// Tasks

#[tokio::test(start_paused = true)]
async fn a_connection_is_one_task_until_it_ends() {
    assert_eq!(alive_tasks(), 0);
    let (service, _probe) = connect(settings());
    assert_eq!(alive_tasks(), 1);
    sleep(ms(5_000)).await;
    assert_eq!(alive_tasks(), 1, "pings need none of their own");
    drop(service.clone());
    settle().await;
    assert_eq!(alive_tasks(), 1);
    drop(service);
    settle().await;
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_connections_leave_no_task_and_no_service() {
    let mut probes = Vec::new();
    let mut handles: Vec<Handle> = Vec::new();
    for n in 0..1_000_u64 {
        let config = match n % 3 {
            0 => settings().ping_when(PingWhen::Always),
            1 => settings().idle_timeout(ms(3_000)),
            _ => settings().ready_timeout(ms(500)),
        };
        let (mut service, probe) = connect(config);
        handles.push(service.handle());
        match n % 7 {
            0 => {}
            1 => sleep(ms(1)).await,
            2 => {
                // A ping is out.
                probe.answer_pings(Answer::Never);
                sleep(ms(1_001)).await;
            }
            3 => {
                // A ping is blocked, where there is time for it.
                probe.block();
                sleep(ms(1_001)).await;
            }
            4 => {
                // A request is dropped half-way.
                let mut call = task::spawn(service.ready().await.unwrap().call(Answer::Never));
                assert_pending!(call.poll());
            }
            5 => {
                // A request outlives its service.
                drop(start(&service, Answer::After(ms(50))));
                settle().await;
            }
            _ => service.handle().close(),
        }
        probes.push(probe);
        drop(service);
    }
    sleep(ms(100)).await;
    settle().await;
    assert_eq!(alive_tasks(), 0);
    assert!(probes.iter().all(|probe| !probe.is_open()));
    assert!(handles.iter().all(|handle| handle.failure().is_some()));
}

#[test]
fn connections_made_and_dropped_on_many_threads_leave_no_task() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let all = async {
        let rounds = (0..4).map(|_| {
            tokio::spawn(async {
                for n in 0..250 {
                    let (service, probe) = connect(settings());
                    let handle = service.handle();
                    let call = start(&service, Answer::Turns(n % 5));
                    drop(service);
                    in_time(call).await.unwrap().expect("served");
                    assert_eq!(in_time(handle.closed()).await, Failure::Closed);
                    drop(probe);
                }
            })
        });
        for round in rounds.collect::<Vec<_>>() {
            round.await.unwrap();
        }
        // A task is counted until its worker has put it away.
        let by = Instant::now() + Duration::from_secs(20);
        while alive_tasks() > 0 {
            assert!(Instant::now() < by, "{} tasks are left", alive_tasks());
            sleep(ms(1)).await;
        }
    };
    runtime.block_on(async {
        let limit = Duration::from_secs(60);
        timeout(limit, all).await.expect("it would hang");
    });
}

/// `interval` 1 s, `pong_timeout` 200 ms, three misses, pings that go out at once or never.
fn settings() -> ConfigBuilder {
    Config::builder()
        .interval(ms(1_000))
        .pong_timeout(ms(200))
        .max_missed(3)
        .ready_timeout(Duration::ZERO)
}

fn build(settings: ConfigBuilder) -> Config {
    settings.build().expect("legal")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn pings() -> ping::RequestSource<fn() -> Answer> {
    ping::request(|| Answer::Ping)
}

fn connect(settings: ConfigBuilder) -> (Heartbeat<Connection>, Probe) {
    let probe = Probe::new();
    let layer = HeartbeatLayer::new(build(settings), pings());
    (layer.layer(probe.connection()), probe)
}

fn start(
    service: &Heartbeat<Connection>,
    answer: Answer,
) -> JoinHandle<Result<(), Error<io::Error>>> {
    let mut service = service.clone();
    tokio::spawn(async move {
        let call = service.ready().await?.call(answer);
        drop(service);
        in_time(call).await
    })
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// Lets everybody run who can without time going by.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

/// Turns a test that would hang into one that fails.
async fn in_time<F: Future>(future: F) -> F::Output {
    let age = Duration::from_secs(20_000);
    timeout(age, future).await.expect("it would hang")
}

async fn assert_closes_at_once(probe: &Probe) {
    let start = Instant::now();
    settle().await;
    assert!(!probe.is_open(), "somebody keeps the inner service");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Whatever the peer gives pings.
    Ping,
    AtOnce,
    After(Duration),
    Turns(u32),
    Never,
}

/// Looks at a connection without keeping it.
struct Probe {
    /// Held by every clone of the service, and by nothing else once it is made.
    open: Weak<()>,
    first: Mutex<Option<Arc<()>>>,
    peer: Arc<Peer>,
}

#[derive(Debug)]
struct Peer {
    start: Instant,
    pings: Mutex<Vec<u64>>,
    to_pings: Mutex<Answer>,
    blocked: Mutex<bool>,
    /// Held by every request that the peer works at.
    answering: Arc<()>,
}

impl Probe {
    fn new() -> Probe {
        let first = Arc::new(());
        Probe {
            open: Arc::downgrade(&first),
            first: Mutex::new(Some(first)),
            peer: Arc::new(Peer {
                start: Instant::now(),
                pings: Mutex::default(),
                to_pings: Mutex::new(Answer::AtOnce),
                blocked: Mutex::default(),
                answering: Arc::default(),
            }),
        }
    }

    fn connection(&self) -> Connection {
        let first = self.first.lock().unwrap().take();
        Connection {
            _open: first.expect("one connection each"),
            peer: Arc::clone(&self.peer),
        }
    }

    fn clones(&self) -> usize {
        self.open.strong_count()
    }

    fn is_open(&self) -> bool {
        self.clones() > 0
    }

    /// How many requests the peer works at, pings included.
    fn answering(&self) -> usize {
        Arc::strong_count(&self.peer.answering) - 1
    }

    /// When pings came, in ms.
    fn pings(&self) -> Vec<u64> {
        self.peer.pings.lock().unwrap().clone()
    }

    fn answer_pings(&self, answer: Answer) {
        *self.peer.to_pings.lock().unwrap() = answer;
    }

    /// Lets nobody become ready any more.
    fn block(&self) {
        *self.peer.blocked.lock().unwrap() = true;
    }
}

#[derive(Clone, Debug)]
struct Connection {
    _open: Arc<()>,
    peer: Arc<Peer>,
}

impl Service<Answer> for Connection {
    type Response = ();
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if *self.peer.blocked.lock().unwrap() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut answer: Answer) -> Self::Future {
        if let Answer::Ping = answer {
            let at = self.peer.start.elapsed().as_millis();
            let mut pings = self.peer.pings.lock().unwrap();
            pings.push(u64::try_from(at).unwrap());
            answer = *self.peer.to_pings.lock().unwrap();
        }
        let working = Arc::clone(&self.peer.answering);
        Box::pin(async move {
            let _working = working;
            match answer {
                Answer::Ping | Answer::AtOnce => {}
                Answer::After(time) => sleep(time).await,
                Answer::Turns(turns) => {
                    for _ in 0..turns {
                        yield_now().await;
                    }
                }
                Answer::Never => pending().await,
            }
            Ok(())
        })
    }
}

/// Keeps a request in flight until its [`Body`] is dropped.
#[derive(Clone)]
struct Streamed;

#[derive(Debug)]
struct Body(InFlight);

impl TrackCompletion<()> for Streamed {
    type Output = Body;

    fn track_completion(&self, in_flight: InFlight, (): ()) -> Body {
        Body(in_flight)
    }
}
