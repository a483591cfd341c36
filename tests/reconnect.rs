//! The waits between the connections of one peer.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

use std::{
    future::{Pending, pending},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Either, Ready, join_all, ready};
use tokio::time::{Instant, sleep, timeout};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, reconnect::Reconnect, service_fn,
};
use tower_heartbeat::{
    BoxError, Config, ConfigError, Failure, Handle, Heartbeat, HeartbeatError, HeartbeatLayer,
    Setting, Stage,
    make::{MakeHeartbeat, MakeHeartbeatLayer},
    ping,
    reconnect::{Backoff, BackoffLayer, Delays, ReconnectError},
};

#[tokio::test(start_paused = true)]
async fn attempts_to_reach_a_mute_peer_follow_the_back_off() {
    const CLIENTS: u32 = 200;
    let delays = Delays::builder().first_delay(SECOND).build().unwrap();
    let mut counts = Vec::new();
    for _ in 0..CLIENTS {
        counts.push(minute_with_a_mute_peer(delays));
    }
    let counts = join_all(counts).await;
    // The sum of the waits' means: attempts at 0, 1.5, 3.5, 6.5, 11.5, 20.5, 36.5 and 52.5 s.
    let mean = f64::from(counts.iter().sum::<u32>()) / f64::from(CLIENTS);
    assert!((6.5..12.0).contains(&mean), "{mean} attempts in a minute");
    // A few short waits by chance still are no storm: without waits there are sixty.
    assert!(counts.iter().all(|count| *count < 30), "{counts:?}");
}

async fn minute_with_a_mute_peer(delays: Delays) -> u32 {
    let peer = Peer::default();
    let mut client = client(&peer, delays);
    let polls = AtomicUsize::new(0);
    let asking = async {
        loop {
            let error = attempt(&mut client).await.unwrap_err();
            assert_eq!(
                found(&error),
                (Failure::PongTimeout, Stage::AwaitingResponse)
            );
        }
    };
    let mut asking = pin!(asking);
    let asking = std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<()> {
        polls.fetch_add(1, Ordering::Relaxed);
        asking.as_mut().poll(cx)
    });
    assert!(timeout(MINUTE, asking).await.is_err());
    // Idle between: woken by the timer, the end of the connection, and little else.
    let attempts = peer.attempts();
    assert!(
        polls.into_inner() <= 4 * attempts + 2,
        "{attempts} attempts"
    );
    u32::try_from(attempts).unwrap()
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_before_the_first_connection_nor_long_after_the_last() {
    let peer = Peer::default();
    let mut client = client(&peer, Delays::default());
    let begin = Instant::now();
    client.ready().await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    for _ in 0..20 {
        attempt(&mut client).await.unwrap_err();
        sleep(MINUTE).await;
        let begin = Instant::now();
        client.ready().await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_at_its_time_and_not_before() {
    let peer = Peer::default();
    let mut waits = Vec::new();
    for _ in 0..50 {
        let delays = Delays::builder().first_delay(MINUTE).max_delay(MINUTE);
        let mut client = client(&peer, delays.build().unwrap());
        attempt(&mut client).await.unwrap_err();
        let begin = Instant::now();
        let before = peer.attempts();
        let mut ready = task::spawn(client.ready());
        while ready.poll().is_pending() {
            assert_eq!(peer.attempts(), before);
            sleep(SECOND / 4).await;
            // The first poll sets the timer; then it is woken once.
        }
        assert_eq!(peer.attempts(), before + 1);
        waits.push(begin.elapsed());
    }
    assert!(waits.iter().all(|wait| *wait <= MINUTE + SECOND));
    // Spread over the bound: both halves are found, or a chance of 2⁻⁴⁹ was.
    let long = waits.iter().filter(|wait| **wait > MINUTE / 2).count();
    assert!((1..50).contains(&long), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pong_or_a_response_proves_a_connection_and_nothing_else_does() {
    // Only the second of two failures in a row waits for longer than a millisecond or two.
    let delays = Delays::builder()
        .first_delay(MILLISECOND)
        .max_delay(YEAR)
        .build()
        .unwrap();
    for (proof, proves) in [
        (Proof::Nothing, false),
        (Proof::Pong, true),
        (Proof::Response, true),
    ] {
        let peer = Peer::default();
        let mut client = client(&peer, delays);
        let mut waited = Duration::ZERO;
        for _ in 0..64 {
            let begin = Instant::now();
            if timeout(YEAR, client.ready()).await.is_err() {
                waited = YEAR;
                break;
            }
            waited = waited.max(begin.elapsed());
            match proof {
                Proof::Nothing => {}
                Proof::Pong => {
                    peer.answers.store(true, Ordering::Relaxed);
                    sleep(DETECTION * 2).await;
                }
                Proof::Response => {
                    peer.answers.store(true, Ordering::Relaxed);
                    client.call("GET").await.unwrap();
                }
            }
            peer.answers.store(false, Ordering::Relaxed);
            sleep(DETECTION * 2).await;
        }
        assert_eq!(waited > MINUTE, !proves, "{proof:?}: {waited:?}");
    }
}

#[derive(Debug)]
enum Proof {
    Nothing,
    Pong,
    Response,
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ended_here_in_good_order_is_followed_by_the_next_at_once() {
    let peer = Peer::default();
    peer.answers.store(true, Ordering::Relaxed);
    let delays = Delays::builder().first_delay(YEAR).max_delay(YEAR);
    let config = config().idle_timeout(SECOND).build().unwrap();
    let make = Backoff::new(make(&peer, config), delays.build().unwrap());
    let mut client = Reconnect::new(make, ());
    for connection in 1..=5 {
        let begin = Instant::now();
        attempt(&mut client).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(peer.attempts(), connection);
        sleep(SECOND * 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_connect_is_told_how_the_last_connection_ended() {
    let peer = Peer::default();
    let mut client = client(&peer, Delays::default());
    attempt(&mut client).await.unwrap_err();
    peer.refuses.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let error = attempt(&mut client).await.unwrap_err();
        assert_eq!(found(&error), (Failure::PongTimeout, Stage::NotSent));
        let error = error.downcast_ref::<ReconnectError>().unwrap();
        assert_eq!(error.to_string(), "cannot reconnect: connection refused");
        assert_eq!(error.death().unwrap().failure(), Failure::PongTimeout);
        assert!(error.get_ref().is::<io::Error>());
    }
    // The next connection is another story.
    peer.refuses.store(false, Ordering::Relaxed);
    peer.answers.store(true, Ordering::Relaxed);
    attempt(&mut client).await.unwrap();
    last(&peer).close();
    peer.refuses.store(true, Ordering::Relaxed);
    let error = attempt(&mut client).await.unwrap_err();
    let error = error.downcast_ref::<ReconnectError>().unwrap();
    assert!(error.death().is_none() && HeartbeatError::find(error).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_could_never_connect_is_told_why() {
    let peer = Peer::default();
    peer.refuses.store(true, Ordering::Relaxed);
    let mut client = Buffer::new(client(&peer, Delays::default()), 4);
    for _ in 0..3 {
        let error = attempt(&mut client).await.unwrap_err();
        let error = error.downcast_ref::<ReconnectError>().unwrap();
        assert_eq!(error.to_string(), "cannot connect");
        assert!(error.death().is_none());
        let source = std::error::Error::source(error).unwrap();
        assert!(source.is::<io::Error>());
    }
    assert_eq!(peer.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_are_refused_follow_the_back_off() {
    let peer = Peer::default();
    peer.refuses.store(true, Ordering::Relaxed);
    let mut client = client(&peer, Delays::default());
    let asking = async {
        loop {
            attempt(&mut client).await.unwrap_err();
        }
    };
    let never: Result<(), _> = timeout(MINUTE * 10, asking).await;
    assert!(never.is_err());
    // Nine in the first 26 s or so, then one each 15 s in the mean.
    let attempts = peer.attempts();
    assert!((25..100).contains(&attempts), "{attempts} in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_never_ready_follow_the_back_off() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let connect = service_fn({
        let attempts = Arc::clone(&attempts);
        move |()| {
            let before = attempts.fetch_add(1, Ordering::Relaxed);
            assert!(before < 1_000, "it is a storm");
            ready(Ok::<_, io::Error>(Broken))
        }
    });
    let heartbeat = HeartbeatLayer::new(config().build().unwrap(), ping::none());
    let delays = Delays::builder().first_delay(SECOND).build().unwrap();
    let make = ServiceBuilder::new()
        .layer(BackoffLayer::new(delays))
        .layer(MakeHeartbeatLayer::new(heartbeat))
        .service(connect);
    let mut client = Reconnect::new(make, ());
    assert!(timeout(MINUTE, client.ready()).await.is_err());
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((2..30).contains(&attempts), "{attempts} in a minute");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_given_up_counts_as_none() {
    let delays = Delays::builder().first_delay(YEAR).max_delay(YEAR);
    let never = service_fn(|()| pending::<Result<Connected, io::Error>>());
    let mut make = Backoff::new(never, delays.build().unwrap());
    for _ in 0..3 {
        assert_ready_ok!(task::spawn(ready_for(&mut make)).poll());
        drop(make.call(()));
    }
}

#[tokio::test(start_paused = true)]
async fn once_ready_it_stays_ready_until_it_is_called() {
    let peer = Peer::default();
    let delays = Delays::builder().first_delay(YEAR).max_delay(YEAR);
    let mut make = Backoff::new(
        make(&peer, config().build().unwrap()),
        delays.build().unwrap(),
    );
    let _connection = make.ready().await.unwrap().call(()).await.unwrap();
    // The connection is alive, so a second one may be made beside it.
    assert_ready_ok!(task::spawn(ready_for(&mut make)).poll());
    sleep(DETECTION * 2).await;
    assert_eq!(last(&peer).failure(), Some(Failure::PongTimeout));
    assert_ready_ok!(task::spawn(ready_for(&mut make)).poll());
    let _other = make.call(()).await.unwrap();
    sleep(DETECTION * 2).await;
    assert_pending!(task::spawn(ready_for(&mut make)).poll());
    // A clone has no part in that.
    let mut clone = make.clone();
    assert_ready_ok!(task::spawn(ready_for(&mut clone)).poll());
}

async fn ready_for<M>(make: &mut M) -> Result<(), M::Error>
where
    M: Service<()>,
{
    make.ready().await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn one_layer_wraps_every_connection_that_is_made() {
    let peer = Peer::default();
    peer.answers.store(true, Ordering::Relaxed);
    let mut client = Reconnect::new(make(&peer, config().build().unwrap()), ());
    for connection in 1..=3 {
        assert_eq!(attempt(&mut client).await.unwrap(), "GET");
        assert_eq!(peer.handles.lock().unwrap().len(), connection);
        last(&peer).close();
    }
    attempt(&mut client).await.unwrap();
    assert_eq!(last(&peer).failure(), None);
    sleep(DETECTION * 3).await;
    assert!(last(&peer).pongs() > 0);
}

#[test]
fn delays_that_are_none_or_absurd_are_a_typed_error() {
    let builder = Delays::builder;
    let error = |built: Result<Delays, ConfigError>| {
        let error = built.expect_err("illegal");
        (error.setting(), error.other(), error.to_string())
    };
    let under = Duration::from_micros(999);
    let over = YEAR + MILLISECOND;
    for (built, setting, text) in [
        (
            builder().first_delay(Duration::ZERO),
            Setting::FirstDelay,
            "`first_delay` must be at least 1ms",
        ),
        (
            builder().first_delay(under),
            Setting::FirstDelay,
            "`first_delay` must be at least 1ms",
        ),
        (
            builder().max_delay(Duration::ZERO),
            Setting::MaxDelay,
            "`max_delay` must be at least 1ms",
        ),
        (
            builder().max_delay(over),
            Setting::MaxDelay,
            "`max_delay` must be at most 31536000s",
        ),
        (
            builder().max_delay(Duration::MAX),
            Setting::MaxDelay,
            "`max_delay` must be at most 31536000s",
        ),
        (
            builder().first_delay(over),
            Setting::FirstDelay,
            "`first_delay` must be at most 31536000s",
        ),
    ] {
        assert_eq!(error(built.build()), (setting, None, text.to_string()));
    }
    let crossed = builder().first_delay(SECOND * 2).max_delay(SECOND).build();
    let text = "`first_delay` must be shorter than 1s, because `max_delay` acts first";
    let expected = (
        Setting::FirstDelay,
        Some(Setting::MaxDelay),
        text.to_string(),
    );
    assert_eq!(error(crossed), expected);

    let delays = builder().first_delay(YEAR).max_delay(YEAR).build().unwrap();
    assert_eq!((delays.first_delay(), delays.max_delay()), (YEAR, YEAR));
    assert_eq!(Delays::default().first_delay(), MILLISECOND * 100);
}

#[test]
fn every_public_type_is_debug_send_and_sync() {
    fn debug_send_sync<T: std::fmt::Debug + Send + Sync>() {}
    fn unpin<T: Unpin>() {}
    type Make = MakeHeartbeat<(), ping::NoneSource>;
    type Making = tower_heartbeat::make::MakeFuture<Ready<()>, ping::NoneSource>;
    type Connecting = tower_heartbeat::reconnect::ConnectFuture<Ready<()>>;
    debug_send_sync::<MakeHeartbeatLayer<ping::NoneSource>>();
    debug_send_sync::<Make>();
    debug_send_sync::<Making>();
    debug_send_sync::<BackoffLayer>();
    debug_send_sync::<Backoff<Make>>();
    debug_send_sync::<Connecting>();
    debug_send_sync::<Delays>();
    debug_send_sync::<tower_heartbeat::reconnect::DelaysBuilder>();
    debug_send_sync::<ReconnectError>();
    // `Reconnect` needs that.
    unpin::<Making>();
    unpin::<Connecting>();
}

// ---- what the tests share ----

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const DETECTION: Duration = SECOND;

/// What there is at the other end.
#[derive(Clone, Default)]
struct Peer {
    answers: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
    attempts: Arc<AtomicUsize>,
    handles: Arc<std::sync::Mutex<Vec<Handle>>>,
}

impl Peer {
    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::Relaxed)
    }
}

fn last(peer: &Peer) -> Handle {
    peer.handles.lock().unwrap().last().unwrap().clone()
}

/// A connection to it.
#[derive(Clone)]
struct Connection(Peer);

impl Service<&'static str> for Connection {
    type Response = &'static str;
    type Error = io::Error;
    type Future = Either<Ready<io::Result<&'static str>>, Pending<io::Result<&'static str>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: &'static str) -> Self::Future {
        if self.0.answers.load(Ordering::Relaxed) {
            Either::Left(ready(Ok(request)))
        } else {
            Either::Right(pending())
        }
    }
}

/// A connection that is closed as soon as it was made.
struct Broken;

impl Service<()> for Broken {
    type Response = ();
    type Error = io::Error;
    type Future = Pending<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        unreachable!("it is never ready")
    }
}

type Connected = Heartbeat<Connection>;

fn config() -> tower_heartbeat::ConfigBuilder {
    Config::builder().detect_within(DETECTION)
}

fn make(
    peer: &Peer,
    config: Config,
) -> impl Service<(), Response = Connected, Error = io::Error, Future: Unpin + Send> + Clone + use<>
{
    let connect = service_fn({
        let peer = peer.clone();
        move |()| {
            peer.attempts.fetch_add(1, Ordering::Relaxed);
            ready(if peer.refuses.load(Ordering::Relaxed) {
                Err(io::ErrorKind::ConnectionRefused.into())
            } else {
                Ok(Connection(peer.clone()))
            })
        }
    });
    let handles = Arc::clone(&peer.handles);
    let layer = HeartbeatLayer::new(config, ping::request(|| "PING"))
        .on_connect(move |handle| handles.lock().unwrap().push(handle.clone()));
    MakeHeartbeatLayer::new(layer).layer(connect)
}

fn client(
    peer: &Peer,
    delays: Delays,
) -> impl Service<&'static str, Response = &'static str, Error = BoxError, Future: Send> + Send + use<>
{
    let make = ServiceBuilder::new()
        .layer(BackoffLayer::new(delays))
        .service(make(peer, config().build().unwrap()));
    Reconnect::new(make, ())
}

async fn attempt<S>(client: &mut S) -> Result<&'static str, BoxError>
where
    S: Service<&'static str, Response = &'static str, Error = BoxError>,
{
    client.ready().await?.call("GET").await
}

fn found(error: &BoxError) -> (Failure, Stage) {
    let error = HeartbeatError::find(&**error).expect("the heartbeat's");
    (error.failure(), error.stage())
}
