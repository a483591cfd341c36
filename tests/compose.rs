//! A heartbeat among tower's own middleware: what comes out of a stack when its connection dies,
//! and what the stack makes of it.

use std::{
    collections::VecDeque,
    future::{Pending, Ready, pending, ready},
    io,
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::join_all;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    hedge::{self, Hedge},
    limit::ConcurrencyLimit,
    load::{CompleteOnResponse, Constant, PendingRequests},
    load_shed::{LoadShed, error::Overloaded},
    reconnect::Reconnect,
    retry::{Policy, Retry},
    timeout::{Timeout, error::Elapsed},
    util::BoxCloneSyncService,
};
use tower_heartbeat::{
    BoxError, Config, ConfigBuilder, Error, Failure, Heartbeat, HeartbeatError, HeartbeatLayer,
    ResponseFuture, Stage, State, ping,
};

// ---- the end is found whatever is around it ----

/// Each stack stands on a connection whose peer is silent; with a typed and with a boxed error.
macro_rules! the_end_is_found {
    ($($name:ident: |$connection:ident| $stack:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let $connection = silent::<io::Error>();
            assert_end_is_found($stack).await;
            let $connection = silent::<BoxError>();
            assert_end_is_found($stack).await;
        }
    )*};
}

the_end_is_found! {
    the_end_is_found_bare: |connection| connection;
    the_end_is_found_under_timeout: |connection| Timeout::new(connection, MINUTE);
    the_end_is_found_under_retry: |connection| Retry::new(Never, connection);
    the_end_is_found_under_buffer: |connection| Buffer::new(connection, 4);
    the_end_is_found_under_load_shed: |connection| LoadShed::new(connection);
    the_end_is_found_under_concurrency_limit: |connection| ConcurrencyLimit::new(connection, 4);
    the_end_is_found_under_hedge: |connection| hedged(connection);
    the_end_is_found_under_box_clone_sync_service: |connection|
        BoxCloneSyncService::new(connection);
    the_end_is_found_under_another_heartbeat: |connection|
        HeartbeatLayer::new(Config::default(), ping::none()).layer(connection);
    the_end_is_found_under_another_heartbeat_that_pings: |connection|
        HeartbeatLayer::new(Config::default(), ping::request(|| "ping")).layer(connection);
    the_end_is_found_under_several_layers: |connection| ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(4)
        .buffer(4)
        .retry(Never)
        .timeout(MINUTE)
        .layer(HeartbeatLayer::new(Config::default(), ping::none()))
        .layer_fn(BoxCloneSyncService::new)
        .service(connection);
    the_end_is_found_under_the_same_layers_the_other_way_round: |connection| ServiceBuilder::new()
        .layer(HeartbeatLayer::new(Config::default(), ping::none()))
        .timeout(MINUTE)
        .retry(Never)
        .buffer(4)
        .concurrency_limit(4)
        .load_shed()
        .layer_fn(hedged)
        .service(connection);
}

/// Once from a call in flight, once from a later call, wherever in the stack that one fails.
async fn assert_end_is_found<S>(mut service: S)
where
    S: Service<&'static str>,
    S::Error: Into<BoxError>,
{
    for stage in [Stage::AwaitingResponse, Stage::NotSent, Stage::NotSent] {
        let error = attempt(&mut service).await.map(drop).unwrap_err();
        assert_eq!(found(&error), (Failure::PongTimeout, stage));
    }
}

#[tokio::test(start_paused = true)]
async fn the_outer_of_two_heartbeats_names_the_end_of_the_inner_as_its_pings_failure() {
    let inner = silent::<io::Error>();
    let outer = config().interval(DETECTION * 2).build().unwrap();
    let outer = HeartbeatLayer::new(outer, ping::request(|| "ping")).layer(inner.clone());
    assert_eq!(in_time(inner.handle().closed()).await, Failure::PongTimeout);
    assert_eq!(outer.handle().failure(), None);

    assert_eq!(in_time(outer.handle().closed()).await, Failure::PingFailed);
    let error = outer.handle().error().unwrap();
    let source = std::error::Error::source(&error).expect("why the ping failed");
    assert_eq!(
        HeartbeatError::find(source).unwrap().failure(),
        Failure::PongTimeout
    );
}

#[tokio::test]
async fn an_inner_error_comes_out_of_a_stack_as_itself() {
    let refuse = |_: &'static str| {
        ready(Err::<(), _>(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "refused",
        )))
    };
    let mut service = ServiceBuilder::new()
        .buffer(4)
        .timeout(MINUTE)
        .layer(HeartbeatLayer::new(Config::default(), ping::none()))
        .service_fn(refuse);
    let error = service
        .ready()
        .await
        .unwrap()
        .call("hello")
        .await
        .unwrap_err();
    let error = error
        .downcast_ref::<io::Error>()
        .expect("not wrapped in anything of ours");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(HeartbeatError::find(error).is_none());
}

// ---- retries ----

#[tokio::test(start_paused = true)]
async fn a_policy_right_above_matches_the_end_without_a_downcast() {
    let (dies, lives) = (Peer::default(), Peer::default());
    let policy = Counting::new(
        |error: &Error<io::Error>| matches!(error, Error::Heartbeat(end) if end.stage() == Stage::NotSent),
    );
    let retries = Arc::clone(&policy.retries);
    let connections = [&dies, &lives].map(|peer| layer().layer(peer.connect()));
    let mut service = Retry::new(policy, Failover(connections.into()));
    let ready = service.ready().await.unwrap();
    dies.freeze_connections();
    pass(DETECTION).await;
    assert_eq!(in_time(ready.call("hello")).await.unwrap(), "hello");
    assert_eq!(retries.load(Ordering::Relaxed), 1);
    assert_eq!((dies.calls(), lives.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_policy_right_above_can_tell_what_is_unsafe_to_send_again() {
    let policy = Counting::new(
        |error: &Error<io::Error>| matches!(error, Error::Heartbeat(end) if end.stage() == Stage::NotSent),
    );
    let retries = Arc::clone(&policy.retries);
    let mut service = Retry::new(policy, silent::<io::Error>());
    let ready = service.ready().await.unwrap();
    let error = in_time(ready.call("hello")).await.unwrap_err();
    assert_eq!(error.heartbeat().unwrap().stage(), Stage::AwaitingResponse);
    assert_eq!(retries.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn retry_buffer_timeout_reconnect_recovers_with_one_retry_and_a_second_connection() {
    let peer = Peer::default();
    let (policy, retries) = retry_at_the_end();
    let mut service = ServiceBuilder::new()
        .retry(policy)
        .buffer(4)
        .timeout(MINUTE)
        .service(Reconnect::new(peer.make(), ()));
    assert_eq!(attempt(&mut service).await.unwrap(), "again");
    assert_eq!(
        (peer.connections(), retries.load(Ordering::Relaxed)),
        (1, 0)
    );

    peer.freeze_connections();
    assert_eq!(attempt(&mut service).await.unwrap(), "again");
    assert_eq!(
        (peer.connections(), retries.load(Ordering::Relaxed)),
        (2, 1)
    );
    assert_eq!(peer.open(), 1, "the dead connection is closed");

    assert_eq!(attempt(&mut service).await.unwrap(), "again");
    assert_eq!(
        (peer.connections(), retries.load(Ordering::Relaxed)),
        (2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn all_calls_in_flight_recover_on_the_second_connection() {
    let peer = Peer::default();
    let (policy, retries) = retry_at_the_end();
    let service = ServiceBuilder::new()
        .retry(policy)
        .buffer(16)
        .timeout(MINUTE)
        .service(Reconnect::new(peer.make(), ()));
    assert_eq!(attempt(&mut service.clone()).await.unwrap(), "again");
    peer.freeze_connections();
    let calls = (0..10).map(|_| service.clone().oneshot("hello"));
    let answers = in_time(join_all(calls)).await;
    for answer in answers {
        assert_eq!(answer.unwrap(), "hello");
    }
    assert_eq!(
        (peer.connections(), retries.load(Ordering::Relaxed)),
        (2, 10)
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_died_between_two_calls_costs_reconnect_no_retry() {
    let peer = Peer::default();
    let mut service = Reconnect::new(peer.make(), ());
    assert_eq!(attempt(&mut service).await.unwrap(), "again");
    peer.freeze_connections();
    pass(DETECTION).await;
    assert_eq!(attempt(&mut service).await.unwrap(), "again");
    assert_eq!((peer.connections(), peer.open()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closed_while_idle_costs_reconnect_no_retry() {
    let peer = Peer::default();
    let idle_timeout = config().idle_timeout(INTERVAL * 3).build().unwrap();
    let idle = HeartbeatLayer::new(idle_timeout, ping::request(|| "ping"));
    let mut service = Reconnect::new(peer.make_with(idle), ());
    for connections in 1..4 {
        assert_eq!(attempt(&mut service).await.unwrap(), "again");
        assert_eq!((peer.connections(), peer.open()), (connections, 1));
        pass(INTERVAL * 4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_found_under_reconnect_which_then_reconnects() {
    let peer = Peer::default();
    let mut service = Reconnect::new(peer.make(), ());
    assert_eq!(attempt(&mut service).await.unwrap(), "again");
    peer.freeze_connections();
    let error = attempt(&mut service).await.unwrap_err();
    assert_eq!(
        found(&error),
        (Failure::PongTimeout, Stage::AwaitingResponse)
    );
    assert_eq!(attempt(&mut service).await.unwrap(), "again");
    assert_eq!(peer.connections(), 2);
}

// ---- what layers outside make of it ----

#[tokio::test(start_paused = true)]
async fn load_shed_turns_calls_away_while_the_peer_is_suspect() {
    let (service, peer) = suspicious();
    let handle = service.handle();
    let mut service = LoadShed::new(service);
    assert_eq!(attempt(&mut service).await.unwrap(), "again");

    peer.stall(true);
    pass(SUSPECT_AFTER + MILLISECOND).await;
    assert_eq!(handle.state(), State::Suspect);
    let calls = peer.calls();
    for _ in 0..3 {
        let error = attempt(&mut service).await.unwrap_err();
        assert!(error.is::<Overloaded>(), "{error:?}");
    }
    assert_eq!(peer.calls(), calls, "the connection is spared");

    peer.stall(false);
    pass(MILLISECOND).await;
    assert_eq!(handle.state(), State::Alive);
    assert_eq!(attempt(&mut service).await.unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_through_load_shed_survive_a_suspect_peer() {
    let (service, peer) = suspicious();
    let handle = service.handle();
    let mut service = LoadShed::new(service);
    peer.stall(true);
    let mut in_flight = task::spawn(service.ready().await.unwrap().call("hello"));
    pass(SUSPECT_AFTER + MILLISECOND).await;
    assert_eq!(handle.state(), State::Suspect);
    assert_pending!(in_flight.poll());
    peer.stall(false);
    assert!(in_flight.is_woken());
    assert_eq!(assert_ready_ok!(in_flight.poll()), "hello");
}

#[tokio::test(start_paused = true)]
async fn buffer_keeps_calls_while_the_peer_is_suspect_and_sends_them_on_recovery() {
    let (service, peer) = suspicious();
    let buffered = Buffer::new(service, 16);
    peer.stall(true);
    pass(SUSPECT_AFTER + MILLISECOND).await;
    let calls = peer.calls();
    let queued = tokio::spawn(join_all((0..10).map(|_| buffered.clone().oneshot("hello"))));
    pass(MILLISECOND).await;
    assert_eq!(peer.calls(), calls);

    peer.stall(false);
    for answer in in_time(queued).await.unwrap() {
        assert_eq!(answer.unwrap(), "hello");
    }
    assert_eq!(peer.calls(), calls + 10);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_timeout_gives_up_is_no_longer_in_flight() {
    let service = silent::<BoxError>();
    let handle = service.handle();
    let mut service = Timeout::new(service, INTERVAL / 2);
    let error = attempt(&mut service).await.unwrap_err();
    assert!(error.is::<Elapsed>());
    assert_eq!((handle.in_flight(), handle.failure()), (0, None));
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_a_hedge_is_no_longer_in_flight() {
    let peer = Peer::default();
    let service = layer().layer(peer.connect());
    let handle = service.handle();
    let mut service = hedged(service);
    peer.stall(true);
    let mut response = task::spawn(service.ready().await.unwrap().call("hello"));
    assert_pending!(response.poll());
    assert_eq!(handle.in_flight(), 1);
    pass(INTERVAL / 2).await;
    assert_pending!(response.poll());
    assert_eq!(handle.in_flight(), 2, "the request and its hedge");
    peer.stall(false);
    assert_eq!(assert_ready_ok!(response.poll()), "hello");
    drop(response);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_clones_of_a_boxed_service_share_one_connection() {
    let peer = Peer::default();
    let service = layer().layer(peer.connect());
    let handle = service.handle();
    let service = BoxCloneSyncService::new(service);
    let calls = (0..4).map(|_| service.clone().oneshot("hello"));
    let answers = in_time(join_all(calls)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(peer.open(), 1);
    drop(service);
    assert_eq!(in_time(handle.closed()).await, Failure::Closed);
    assert_eq!(peer.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn balance_drops_the_dead_endpoint_and_sends_all_calls_to_the_other() {
    let peers = [Peer::default(), Peer::default()];
    let endpoints = peers
        .each_ref()
        .map(|peer| Constant::new(layer().layer(peer.connect()), 0));
    let balance = Balance::new(ServiceList::new(endpoints));
    assert_dead_endpoint_is_dropped(balance, peers).await;
}

#[tokio::test(start_paused = true)]
async fn balance_by_pending_requests_does_so_too() {
    let peers = [Peer::default(), Peer::default()];
    let endpoints = peers.each_ref().map(|peer| {
        PendingRequests::new(layer().layer(peer.connect()), CompleteOnResponse::default())
    });
    let balance = Balance::new(ServiceList::new(endpoints));
    assert_dead_endpoint_is_dropped(balance, peers).await;
}

async fn assert_dead_endpoint_is_dropped<S>(mut balance: S, [dies, lives]: [Peer; 2])
where
    S: Service<&'static str, Response = &'static str>,
    S::Error: Into<BoxError>,
{
    for _ in 0..64 {
        assert_eq!(attempt(&mut balance).await.unwrap(), "again");
    }
    assert!(dies.calls() > 0 && lives.calls() > 0);

    dies.freeze_connections();
    pass(DETECTION).await;
    let (to_the_dead, to_the_other) = (dies.calls(), lives.calls());
    for _ in 0..64 {
        assert_eq!(attempt(&mut balance).await.unwrap(), "again");
    }
    assert_eq!(dies.calls(), to_the_dead);
    assert_eq!(lives.calls(), to_the_other + 64);
    assert_eq!(dies.open(), 0, "the dead endpoint is dropped");
}

// ---- helpers ----

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(4);
const PONG_TIMEOUT: Duration = Duration::from_secs(1);
/// More than the bound of [`config`], and than one round of pings besides.
const DETECTION: Duration = Duration::from_secs(10);
const SUSPECT_AFTER: Duration = Duration::from_millis(4_700);

fn config() -> ConfigBuilder {
    Config::builder()
        .interval(INTERVAL)
        .pong_timeout(PONG_TIMEOUT)
        .max_missed(2)
}

fn layer() -> HeartbeatLayer<ping::RequestSource<fn() -> &'static str>> {
    HeartbeatLayer::new(config().build().unwrap(), ping::request(|| "ping"))
}

/// A connection whose peer never answers.
fn silent<E>() -> Heartbeat<Silent<E>>
where
    E: Into<BoxError> + 'static,
{
    layer().layer(Silent(PhantomData))
}

/// A connection on which calls are held back while its peer is suspect.
fn suspicious() -> (Heartbeat<Connection>, Peer) {
    let peer = Peer::default();
    let config = config().suspect_after(SUSPECT_AFTER).max_missed(5);
    let layer = HeartbeatLayer::new(config.build().unwrap(), ping::request(|| "ping"));
    (layer.layer(peer.connect()), peer)
}

/// Awaits what has to come to pass; where time is paused, an hour is over at once.
async fn in_time<F: Future>(future: F) -> F::Output {
    let hour = Duration::from_secs(3_600);
    let outcome = tokio::time::timeout(hour, future).await;
    outcome.expect("it comes to pass within an hour")
}

/// Lets paused time pass, timer by timer.
async fn pass(duration: Duration) {
    let elapsed = tokio::time::timeout(duration, pending::<()>()).await;
    assert!(elapsed.is_err());
}

async fn attempt<S>(service: &mut S) -> Result<S::Response, BoxError>
where
    S: Service<&'static str>,
    S::Error: Into<BoxError>,
{
    let ready = in_time(service.ready()).await.map_err(Into::into)?;
    in_time(ready.call("again")).await.map_err(Into::into)
}

fn found(error: &BoxError) -> (Failure, Stage) {
    let found = HeartbeatError::find(&**error);
    let found = found.unwrap_or_else(|| panic!("not found in {error:?}"));
    (found.failure(), found.stage())
}

/// The hedge goes out after two seconds.
fn hedged<S>(service: S) -> Hedge<S, Always>
where
    S: Service<&'static str> + Clone,
    S::Error: Into<BoxError>,
{
    Hedge::new_with_mock_latencies(service, Always, 1, 0.5, MINUTE, &[2_000; 8])
}

#[derive(Clone)]
struct Always;

impl hedge::Policy<&'static str> for Always {
    fn clone_request(&self, request: &&'static str) -> Option<&'static str> {
        Some(request)
    }

    fn can_retry(&self, _: &&'static str) -> bool {
        true
    }
}

#[derive(Clone)]
struct Never;

impl<Request, Response, E> Policy<Request, Response, E> for Never {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request, _: &mut Result<Response, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, _: &Request) -> Option<Request> {
        None
    }
}

/// Retries what `judge` says, and counts.
#[derive(Clone)]
struct Counting<F> {
    judge: F,
    retries: Arc<AtomicUsize>,
}

impl<F> Counting<F> {
    fn new<E>(judge: F) -> Self
    where
        F: Fn(&E) -> bool,
    {
        Counting {
            judge,
            retries: Arc::default(),
        }
    }
}

type Judge = fn(&BoxError) -> bool;

fn retry_at_the_end() -> (Counting<Judge>, Arc<AtomicUsize>) {
    let judge: Judge = |error| HeartbeatError::find(&**error).is_some();
    let policy = Counting::new(judge);
    let retries = Arc::clone(&policy.retries);
    (policy, retries)
}

impl<F, Request, Response, E> Policy<Request, Response, E> for Counting<F>
where
    F: Fn(&E) -> bool,
    Request: Clone,
{
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request, result: &mut Result<Response, E>) -> Option<Ready<()>> {
        let error = result.as_ref().err()?;
        (self.judge)(error).then(|| {
            self.retries.fetch_add(1, Ordering::Relaxed);
            ready(())
        })
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

/// A connection with nobody at its other end.
struct Silent<E>(PhantomData<fn() -> E>);

impl<E> Clone for Silent<E> {
    fn clone(&self) -> Self {
        Silent(PhantomData)
    }
}

impl<E> Service<&'static str> for Silent<E> {
    type Response = &'static str;
    type Error = E;
    type Future = Pending<Result<&'static str, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: &'static str) -> Self::Future {
        pending()
    }
}

/// A peer that echoes requests, on as many connections as are made to it.
#[derive(Clone, Default)]
struct Peer {
    state: Arc<PeerState>,
}

#[derive(Default)]
struct PeerState {
    connections: AtomicUsize,
    frozen: AtomicUsize,
    calls: AtomicUsize,
    open: Arc<()>,
    stalled: AtomicBool,
    resumed: tokio::sync::Notify,
}

/// Counts as open while any clone of its connection is there.
struct OpenConnection {
    _count: Arc<()>,
}

/// One connection to a [`Peer`].
#[derive(Clone)]
struct Connection {
    peer: Peer,
    number: usize,
    open: Arc<OpenConnection>,
}

impl Peer {
    fn connect(&self) -> Connection {
        Connection {
            peer: self.clone(),
            number: self.state.connections.fetch_add(1, Ordering::Relaxed) + 1,
            open: Arc::new(OpenConnection {
                _count: Arc::clone(&self.state.open),
            }),
        }
    }

    fn make(&self) -> Make<ping::RequestSource<fn() -> &'static str>> {
        self.make_with(layer())
    }

    fn make_with<P>(&self, layer: HeartbeatLayer<P>) -> Make<P> {
        Make {
            peer: self.clone(),
            layer,
        }
    }

    /// How many connections were made.
    fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many of them are open.
    fn open(&self) -> usize {
        Arc::strong_count(&self.state.open) - 1
    }

    /// How many calls came in that were no pings.
    fn calls(&self) -> usize {
        self.state.calls.load(Ordering::Relaxed)
    }

    /// Falls silent for good on all connections that there are.
    fn freeze_connections(&self) {
        self.state
            .frozen
            .store(self.connections(), Ordering::Relaxed);
    }

    /// Answers nothing until it is told otherwise, then everything.
    fn stall(&self, stalled: bool) {
        self.state.stalled.store(stalled, Ordering::Relaxed);
        self.state.resumed.notify_waiters();
    }

    async fn answer(self, number: usize, request: &'static str) -> &'static str {
        let resumed = self.state.resumed.notified();
        if self.state.stalled.load(Ordering::Relaxed) {
            resumed.await;
        }
        if number <= self.state.frozen.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        request
    }
}

impl Service<&'static str> for Connection {
    type Response = &'static str;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<&'static str>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: &'static str) -> Self::Future {
        if request != "ping" {
            self.peer.state.calls.fetch_add(1, Ordering::Relaxed);
        }
        let (peer, number, open) = (self.peer.clone(), self.number, Arc::clone(&self.open));
        Box::pin(async move {
            let answer = peer.answer(number, request).await;
            drop(open);
            Ok(answer)
        })
    }
}

/// Makes connections with a heartbeat.
struct Make<P> {
    peer: Peer,
    layer: HeartbeatLayer<P>,
}

impl<P> Service<()> for Make<P>
where
    HeartbeatLayer<P>: Layer<Connection>,
{
    type Response = <HeartbeatLayer<P> as Layer<Connection>>::Service;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.layer.layer(self.peer.connect())))
    }
}

/// Sends calls to the first of its connections that is alive.
#[derive(Clone)]
struct Failover(VecDeque<Heartbeat<Connection>>);

impl Service<&'static str> for Failover {
    type Response = &'static str;
    type Error = Error<io::Error>;
    type Future = ResponseFuture<<Connection as Service<&'static str>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        loop {
            match self.0[0].poll_ready(cx) {
                Poll::Ready(Err(Error::Heartbeat(_))) if self.0.len() > 1 => self.0.pop_front(),
                other => return other,
            };
        }
    }

    fn call(&mut self, request: &'static str) -> Self::Future {
        self.0[0].call(request)
    }
}
