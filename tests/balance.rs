//! Connections with a heartbeat as the endpoints of tower's `Balance`.

#![cfg(feature = "balance")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, future::join_all};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, task};
use tower::{
    Layer, Service, ServiceExt,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::Change,
    load::{
        CompleteOnResponse, Constant, Load, PeakEwmaDiscover, PendingRequests,
        PendingRequestsDiscover,
    },
    service_fn,
};
use tower_heartbeat::{
    BoxError, Config, ConfigError, Failure, Handle, Heartbeat, HeartbeatError, HeartbeatLayer,
    Setting, Stage, State,
    balance::{Endpoint, Endpoints, Fixed, Troubles},
    ping,
    ready_limit::{NotReady, ReadyLimit, ReadyLimitLayer},
    reconnect::{Delays, ReconnectError},
};

// ---- dead endpoints ----

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_leaves_at_once_and_is_offered_again() {
    let peers = peers(3);
    let mut service = balance(&peers, within_a_second());
    asked(&mut service, 60).await;
    assert!(peers.iter().all(|peer| peer.served() > 0), "{peers:?}");

    peers[0].answers(false);
    let handle = peers[0].last();
    assert_eq!(handle.closed().await, Failure::PongTimeout);
    ready(&mut service).await;
    let before = peers[0].calls();
    asked(&mut service, 60).await;
    assert_eq!(peers[0].calls(), before, "it is dead");

    // Mute connections are made meanwhile, and die.
    peers[0].answers(true);
    sleep(MINUTE).await;
    asked(&mut service, 1).await;
    sleep(MILLISECOND * 10).await;
    asked(&mut service, 60).await;
    assert!(peers[0].calls() > before, "{peers:?}");
}

#[tokio::test(start_paused = true)]
async fn no_call_fails_on_an_endpoint_that_died_while_nobody_asked() {
    for _ in 0..20 {
        let peers = peers(2);
        let mut service = balance(&peers, within_a_second());
        asked(&mut service, 10).await;
        peers[1].answers(false);
        peers[1].last().closed().await;
        asked(&mut service, 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_idled_for_too_long_comes_back_at_once() {
    let config = Config::builder().detect_within(SECOND).idle_timeout(SECOND);
    let peers = peers(1);
    let mut service = balance(&peers, config.build().unwrap());
    for connection in 1..=5 {
        let begin = Instant::now();
        asked(&mut service, 1).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(peers[0].connections(), connection);
        sleep(SECOND * 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_refused_is_tried_as_seldom_as_the_back_off_says() {
    let peers = peers(2);
    peers[0].refuses.store(true, Ordering::Relaxed);
    let mut service = balance(&peers, within_a_second());
    let begin = Instant::now();
    while begin.elapsed() < MINUTE * 10 {
        asked(&mut service, 1).await;
        sleep(MILLISECOND * 100).await;
    }
    let attempts = peers[0].attempts.load(Ordering::Relaxed);
    assert!((20..100).contains(&attempts), "{attempts} in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_never_ready_is_tried_as_seldom_as_the_back_off_says() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let make = service_fn({
        let attempts = Arc::clone(&attempts);
        let layer = HeartbeatLayer::new(within_a_second(), ping::none());
        move |()| {
            let before = attempts.fetch_add(1, Ordering::Relaxed);
            assert!(before < 10_000, "it is a storm");
            std::future::ready(Ok::<_, io::Error>(layer.layer(Broken)))
        }
    });
    let mut service = Balance::new(Endpoints::fixed(make, [((), ())]));
    let waiting = tokio::time::timeout(MINUTE * 10, ServiceExt::<()>::ready(&mut service));
    assert!(waiting.await.is_err(), "it is never ready");
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((20..100).contains(&attempts), "{attempts} in ten minutes");
}

/// A connection that is closed as soon as it was made.
struct Broken;

impl Service<()> for Broken {
    type Response = ();
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        unreachable!("it is never ready")
    }
}

impl Load for Broken {
    type Metric = usize;

    fn load(&self) -> usize {
        0
    }
}

// ---- no endpoint at all ----

#[tokio::test(start_paused = true)]
async fn when_all_are_dead_every_call_is_told_so_within_the_limit() {
    let peers = peers(3);
    let service = Buffer::new(balance(&peers, within_a_second()), 64);
    service.clone().oneshot(()).await.unwrap();
    for peer in &peers {
        peer.answers(false);
        peer.refuses.store(true, Ordering::Relaxed);
    }
    for peer in &peers {
        if let Some(handle) = peer.handle() {
            handle.closed().await;
        }
    }
    for _ in 0..3 {
        // They queue up, and come at different times.
        let calls = join_all((0..20).map(|number| {
            let service = service.clone();
            async move {
                sleep(MILLISECOND * 300 * number).await;
                let begin = Instant::now();
                let error = service.oneshot(()).await.unwrap_err();
                (begin.elapsed(), error)
            }
        }));
        for (waited, error) in calls.await {
            assert!(waited <= LIMIT + MILLISECOND, "{waited:?}");
            let not_ready = error.downcast_ref::<NotReady>().expect("nobody is there");
            assert_eq!(not_ready.waited(), LIMIT);
            let source = std::error::Error::source(not_ready).expect("why");
            let reconnect = source.downcast_ref::<ReconnectError>();
            let end = reconnect.map_or_else(|| HeartbeatError::find(source), |e| e.death());
            let end = end.expect("how the last connection ended");
            assert_eq!(end.failure(), Failure::PongTimeout);
            assert_eq!(
                HeartbeatError::find(&*error).unwrap().stage(),
                Stage::NotSent
            );
        }
        sleep(SECOND * 20).await;
    }

    // The buffer has survived, and so has the rest.
    for peer in &peers {
        peer.answers(true);
        peer.refuses.store(false, Ordering::Relaxed);
    }
    sleep(MINUTE).await;
    service.oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_targets_calls_fail_within_the_limit() {
    let mut service = balance(&[], within_a_second());
    let begin = Instant::now();
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert_eq!(begin.elapsed(), LIMIT);
    assert_eq!(error.to_string(), "service was not ready within 5s");
    assert!(std::error::Error::source(&*error).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_when_the_limit_runs_out_takes_the_call() {
    let (open, mut opened) = watch::channel(false);
    let gate = Gate(opened.clone());
    let mut service = ReadyLimitLayer::new(LIMIT).unwrap().layer(gate);
    let mut waiting = task::spawn(service.ready());
    assert_pending!(waiting.poll());
    sleep(LIMIT - MILLISECOND).await;
    assert_pending!(waiting.poll());
    sleep(MILLISECOND * 2).await;
    assert!(waiting.is_woken());
    open.send_replace(true);
    opened.changed().await.unwrap();
    assert!(waiting.poll().is_ready());
    drop(waiting);
    service.call(()).await.unwrap();

    // Once told that it may call, a caller may, whatever becomes of the service.
    open.send_replace(false);
    let begin = Instant::now();
    service.ready().await.unwrap();
    assert_eq!(begin.elapsed(), LIMIT);
    for _ in 0..3 {
        sleep(SECOND).await;
        assert!(task::spawn(service.ready()).poll().is_ready());
    }
    service.call(()).await.unwrap_err();
    // Those behind it fail at once, for as long as it has waited; then one waits again.
    for _ in 0..4 {
        sleep(SECOND).await;
        let begin = Instant::now();
        service.ready().await.unwrap().call(()).await.unwrap_err();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
    // As long as since the call that waited, not since the last of them.
    sleep(SECOND + MILLISECOND).await;
    let begin = Instant::now();
    service.ready().await.unwrap().call(()).await.unwrap_err();
    assert_eq!(begin.elapsed(), LIMIT);
    // And if it becomes ready meanwhile, they are taken.
    open.send_replace(true);
    service.ready().await.unwrap().call(()).await.unwrap();
}

/// Ready while its gate is open.
#[derive(Clone, Debug)]
struct Gate(watch::Receiver<bool>);

impl Service<()> for Gate {
    type Response = ();
    type Error = io::Error;
    type Future = futures_util::future::Ready<io::Result<()>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let open = std::pin::pin!(self.0.wait_for(|open| *open)).poll(cx);
        open.map(|_| Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        futures_util::future::ready(Ok(()))
    }
}

#[test]
fn a_limit_that_is_none_or_absurd_is_a_typed_error() {
    for limit in [Duration::ZERO, Duration::from_micros(999)] {
        let error = ReadyLimitLayer::new(limit).unwrap_err();
        assert!(matches!(error, ConfigError::TooShort { .. }));
        assert_eq!(error.setting(), Setting::ReadyLimit);
        assert_eq!(error.to_string(), "`ready limit` must be at least 1ms");
    }
    for limit in [YEAR + MILLISECOND, Duration::MAX] {
        let error = ReadyLimitLayer::new(limit).unwrap_err();
        assert!(matches!(error, ConfigError::TooLong { .. }));
    }
    assert!(ReadyLimitLayer::new(MILLISECOND).is_ok() && ReadyLimitLayer::new(YEAR).is_ok());
}

#[cfg(feature = "retry")]
#[tokio::test(start_paused = true)]
async fn a_call_that_found_no_endpoint_was_not_sent() {
    use tower_heartbeat::retry::Progress;

    let mut service = balance(&[], within_a_second());
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert_eq!(error.progress(), Some(Stage::NotSent));
}

// ---- suspect endpoints ----

#[tokio::test(start_paused = true)]
async fn new_calls_go_elsewhere_while_an_endpoint_is_suspect_and_come_back() {
    let config = Config::builder()
        .interval(SECOND)
        .ready_timeout(Duration::ZERO)
        .pong_timeout(MINUTE)
        .max_missed(1)
        .suspect_after(SECOND * 3)
        .build()
        .unwrap();
    let peers = peers(2);
    let mut service = Balance::new(endpoints(&peers, config));
    // The first one looks the better choice all the time.
    peers[1].load.store(1, Ordering::Relaxed);
    asked(&mut service, 20).await;
    let before = peers[0].calls();
    asked(&mut service, 20).await;
    assert_eq!(peers[0].calls(), before + 20);

    peers[0].answers(false);
    let in_flight = ready(&mut service).await.call(());
    let in_flight = tokio::spawn(in_flight);
    // It lies there ready again.
    ready(&mut service).await;
    sleep(SECOND * 6).await;
    assert_eq!(peers[0].last().state(), State::Suspect);
    assert_eq!(peers[1].last().state(), State::Alive);

    let before = peers[0].calls();
    asked(&mut service, 40).await;
    assert_eq!(peers[0].calls(), before, "calls to a suspect endpoint");
    assert_eq!(peers[0].last().in_flight(), 1, "what was in flight goes on");

    peers[0].answers(true);
    in_flight.await.unwrap().unwrap();
    sleep(SECOND * 3).await;
    assert_eq!(peers[0].last().state(), State::Alive);
    // Ready once more, it is chosen again.
    asked(&mut service, 1).await;
    asked(&mut service, 40).await;
    assert!(peers[0].calls() >= before + 40, "{peers:?}");
    assert_eq!(peers[0].connections(), 1, "it never was dead");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_takes_its_readiness_back_while_it_is_suspect() {
    let config = Config::builder()
        .interval(SECOND)
        .ready_timeout(Duration::ZERO)
        .pong_timeout(MINUTE)
        .max_missed(1)
        .suspect_after(SECOND * 3)
        .build()
        .unwrap();
    let peers = peers(1);
    let mut endpoints = endpoints(&peers, config);
    let Some(Ok(Change::Insert(0, mut endpoint))) = next(&mut endpoints).await else {
        panic!("it is there");
    };
    endpoint.ready().await.unwrap();
    peers[0].answers(false);
    sleep(SECOND * 6).await;
    let mut waiting = task::spawn(endpoint.ready());
    assert_pending!(waiting.poll());
    peers[0].answers(true);
    sleep(SECOND * 3).await;
    assert!(waiting.is_woken());
    assert!(waiting.poll().is_ready());
}

// ---- targets ----

#[tokio::test(start_paused = true)]
async fn targets_come_and_go_while_it_runs() {
    let all = peers(3);
    let (changes, discovered) = mpsc::unbounded_channel();
    let mut endpoints = Endpoints::new(make(within_a_second()), Discovered(discovered));
    assert_pending!(task::spawn(next(&mut endpoints)).poll());

    changes.send(Change::Insert(0, all[0].clone())).unwrap();
    let Some(Ok(Change::Insert(0, first))) = next(&mut endpoints).await else {
        panic!("it is inserted");
    };
    // The same key again, for another address: the balancer replaces it once the new one is there.
    changes.send(Change::Insert(0, all[1].clone())).unwrap();
    let Some(Ok(Change::Insert(0, second))) = next(&mut endpoints).await else {
        panic!("it is replaced");
    };
    // The first one's end is nobody's business any more.
    drop(first);
    assert_eq!(all[0].last().closed().await, Failure::Closed);
    assert_pending!(task::spawn(next(&mut endpoints)).poll());

    changes.send(Change::Remove(0)).unwrap();
    assert!(matches!(
        next(&mut endpoints).await,
        Some(Ok(Change::Remove(0)))
    ));
    drop(second);
    sleep(MINUTE).await;
    assert_pending!(task::spawn(next(&mut endpoints)).poll());
    assert_eq!(all[1].connections(), 1, "it is not connected again");

    // One that cannot be reached is given up when it is removed.
    all[2].refuses.store(true, Ordering::Relaxed);
    changes.send(Change::Insert(2, all[2].clone())).unwrap();
    assert_pending!(task::spawn(next(&mut endpoints)).poll());
    assert!(endpoints.troubles().last().is_some());
    changes.send(Change::Remove(2)).unwrap();
    assert!(matches!(
        next(&mut endpoints).await,
        Some(Ok(Change::Remove(2)))
    ));
    all[2].refuses.store(false, Ordering::Relaxed);
    sleep(MINUTE).await;
    assert_pending!(task::spawn(next(&mut endpoints)).poll());
    assert_eq!(all[2].connections(), 0);

    // Unknown to it, so unknown to the balancer.
    changes.send(Change::Remove(7)).unwrap();
    drop(changes);
    assert!(next(&mut endpoints).await.is_none());
}

/// What a test says.
struct Discovered(mpsc::UnboundedReceiver<Change<usize, Peer>>);

impl Stream for Discovered {
    type Item = Result<Change<usize, Peer>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|change| change.map(Ok))
    }
}

// ---- load ----

#[tokio::test(start_paused = true)]
async fn the_load_is_the_connections_own_and_pings_are_none() {
    let layer = HeartbeatLayer::new(within_a_second(), ping::request(|| ()));
    let connection = service_fn(|()| std::future::pending::<io::Result<()>>());
    let constant = HeartbeatLayer::new(within_a_second(), ping::none());
    assert_eq!(constant.layer(Constant::new(connection, 7)).load(), 7);

    let heartbeat = layer.layer(connection);
    let handle = heartbeat.handle();
    let mut outside = PendingRequests::new(heartbeat, CompleteOnResponse::default());
    let idle = outside.load();
    sleep(MILLISECOND * 600).await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 0));
    assert_eq!(outside.load(), idle, "a ping is out");
    let call = outside.ready().await.unwrap().call(());
    assert!(outside.load() > idle);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn peak_ewma_goes_around_endpoints() {
    let peers = peers(3);
    let endpoints = endpoints(&peers, within_a_second());
    let discover = PeakEwmaDiscover::new::<()>(
        endpoints,
        MILLISECOND,
        SECOND,
        CompleteOnResponse::default(),
    );
    let mut service = Balance::new(discover);
    ready(&mut service).await;
    peers[2].answers(false);
    peers[2].refuses.store(true, Ordering::Relaxed);
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(ready(&mut service).await.call(()).await.is_err());
        sleep(MILLISECOND).await;
    }
    assert!(
        failed <= 1,
        "the mute one has one connection to lose: {peers:?}"
    );
    assert_eq!(peers[0].served() + peers[1].served(), 40 - failed);
}

// ---- what holds at compile time ----

#[test]
fn every_public_type_is_debug_and_send() {
    fn debug_send<T: std::fmt::Debug + Send>() {}
    fn sync<T: Sync>() {}
    type Own = Endpoints<Fixed<usize, Peer>, Gate, Gate, ()>;
    debug_send::<Own>();
    debug_send::<Endpoint<Gate>>();
    debug_send::<Fixed<usize, Peer>>();
    debug_send::<Troubles>();
    debug_send::<ReadyLimitLayer>();
    debug_send::<ReadyLimit<Gate>>();
    debug_send::<NotReady>();
    sync::<(Endpoint<Gate>, Fixed<usize, Peer>, Troubles)>();
    sync::<(ReadyLimitLayer, ReadyLimit<Gate>, NotReady)>();
}

// ---- what the tests share ----

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const LIMIT: Duration = Duration::from_secs(5);

fn within_a_second() -> Config {
    Config::detect_within(SECOND).unwrap()
}

/// One of the servers.
#[derive(Clone, Debug)]
struct Peer {
    answering: watch::Sender<bool>,
    refuses: Arc<AtomicBool>,
    /// What its connections say to a balancer that asks them.
    load: Arc<AtomicUsize>,
    attempts: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
    handles: Arc<Mutex<Vec<Handle>>>,
}

fn peers(count: usize) -> Vec<Peer> {
    let peer = |_| Peer {
        answering: watch::Sender::new(true),
        refuses: Arc::default(),
        load: Arc::default(),
        attempts: Arc::default(),
        calls: Arc::default(),
        served: Arc::default(),
        handles: Arc::default(),
    };
    (0..count).map(peer).collect()
}

impl Peer {
    fn answers(&self, answers: bool) {
        self.answering.send_replace(answers);
    }

    /// Calls that it got, answered or not.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    fn connections(&self) -> usize {
        self.handles.lock().unwrap().len()
    }

    fn handle(&self) -> Option<Handle> {
        self.handles.lock().unwrap().last().cloned()
    }

    fn last(&self) -> Handle {
        self.handle().expect("it was connected")
    }
}

/// A connection to it. Pings are answered as calls are, and not counted.
#[derive(Clone, Debug)]
struct Connection(Peer);

type Answer = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Connection {
    fn answer(&self, served: Option<Arc<AtomicUsize>>) -> Answer {
        let mut answering = self.0.answering.subscribe();
        Box::pin(async move {
            answering.wait_for(|answers| *answers).await.unwrap();
            if let Some(served) = served {
                served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}

impl Load for Connection {
    type Metric = usize;

    fn load(&self) -> usize {
        self.0.load.load(Ordering::Relaxed)
    }
}

impl Service<()> for Connection {
    type Response = ();
    type Error = io::Error;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Answer {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.answer(Some(Arc::clone(&self.0.served)))
    }
}

type Connected = Heartbeat<Connection>;

fn make(
    config: Config,
) -> impl Service<Peer, Response = Connected, Error = io::Error, Future: Send>
+ Clone
+ Send
+ Unpin
+ 'static {
    let pings = ping::with_service(|connection: Connection| connection.answer(None));
    let layer = HeartbeatLayer::new(config, pings);
    service_fn(move |peer: Peer| {
        peer.attempts.fetch_add(1, Ordering::Relaxed);
        futures_util::future::ready(if peer.refuses.load(Ordering::Relaxed) {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            let connection = layer.layer(Connection(peer.clone()));
            peer.handles.lock().unwrap().push(connection.handle());
            Ok(connection)
        })
    })
}

fn endpoints(
    peers: &[Peer],
    config: Config,
) -> impl Stream<Item = Result<Change<usize, Endpoint<Connection>>, Infallible>> + Unpin + Send + 'static
{
    let delays = Delays::builder().max_delay(SECOND * 30).build().unwrap();
    let targets: Vec<_> = peers.iter().cloned().enumerate().collect();
    Endpoints::fixed(make(config), targets).delays(delays)
}

async fn next<E>(endpoints: &mut E) -> Option<E::Item>
where
    E: Stream + Unpin,
{
    poll_fn(|cx| Pin::new(&mut *endpoints).poll_next(cx)).await
}

/// A balancer with a limit.
fn balance(
    peers: &[Peer],
    config: Config,
) -> impl Service<(), Response = (), Error = BoxError, Future: Send + 'static> + Send + use<> {
    let targets: Vec<_> = peers.iter().cloned().enumerate().collect();
    let endpoints = Endpoints::fixed(make(config), targets);
    let troubles = endpoints.troubles();
    let loads = PendingRequestsDiscover::new::<()>(endpoints, CompleteOnResponse::default());
    let limit = ReadyLimitLayer::new(LIMIT).unwrap();
    let limit = limit.because(move || troubles.last());
    limit.layer(Balance::new(loads))
}

async fn ready<S>(service: &mut S) -> &mut S
where
    S: Service<(), Error = BoxError>,
{
    service.ready().await.expect("it never fails there")
}

/// So many calls, one after the other, all answered.
async fn asked<S>(service: &mut S, calls: usize)
where
    S: Service<(), Response = (), Error = BoxError>,
{
    for _ in 0..calls {
        ready(service).await.call(()).await.expect("an answer");
    }
}
