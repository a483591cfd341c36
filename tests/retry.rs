//! Which failed requests `RetryPolicy` sends again, and what comes out of that.

#![cfg(feature = "retry")]

use std::{
    future::{Ready, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower::{
    BoxError, Service, ServiceExt,
    buffer::Buffer,
    retry::{
        Retry,
        backoff::{Backoff, MakeBackoff},
        budget::Budget,
    },
    service_fn,
    timeout::Timeout,
};
use tower_heartbeat::{
    ConfigError, Error, Failure, HeartbeatError, Setting, Stage,
    retry::{ByClone, Dice, NoneIdempotent, Progress, RetryPolicy, RetryPolicyBuilder},
};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

// ---- the table ----

/// How the first attempt fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    NotSent,
    AwaitingResponse,
    Streaming,
    /// An error of the inner service.
    Foreign,
    /// A heartbeat's error that was caused by one that had not been sent.
    CausedByNotSent,
}

use First::{AwaitingResponse, CausedByNotSent, Foreign, NotSent, Streaming};

/// How it fails, whether the request is idempotent, whether there is budget left: sent again?
const TABLE: [(First, bool, bool, bool); 20] = [
    (NotSent, true, true, true),
    (NotSent, true, false, false),
    (NotSent, false, true, true),
    (NotSent, false, false, false),
    (AwaitingResponse, true, true, true),
    (AwaitingResponse, true, false, false),
    (AwaitingResponse, false, true, false),
    (AwaitingResponse, false, false, false),
    (Streaming, true, true, true),
    (Streaming, true, false, false),
    (Streaming, false, true, false),
    (Streaming, false, false, false),
    (Foreign, true, true, false),
    (Foreign, true, false, false),
    (Foreign, false, true, false),
    (Foreign, false, false, false),
    (CausedByNotSent, true, true, true),
    (CausedByNotSent, true, false, false),
    (CausedByNotSent, false, true, false),
    (CausedByNotSent, false, false, false),
];

/// A row for each of the table's, in one kind of stack.
macro_rules! every_row_holds {
    ($($name:ident: |$connection:ident| $stack:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            for row in TABLE {
                let (first, idempotent, budget, again) = row;
                let calls = Arc::new(AtomicUsize::new(0));
                let $connection = flaky(first, Arc::clone(&calls));
                let policy = RetryPolicy::builder()
                    .idempotent(move |_: &u32| idempotent)
                    .budget(Purse::of(usize::from(budget)))
                    .build()
                    .unwrap();
                let answer = Retry::new(policy, $stack).oneshot(7).await;
                assert_eq!(answer.is_ok(), again, "{row:?}");
                let calls = calls.load(Ordering::Relaxed);
                assert_eq!(calls, if again { 2 } else { 1 }, "{row:?}");
            }
        }
    )*};
}

every_row_holds! {
    every_row_holds_bare: |connection| connection;
    every_row_holds_boxed: |connection| connection.map_err(BoxError::from);
    every_row_holds_boxed_in_the_typed_error: |connection|
        connection.map_err(|error| Error::Inner(BoxError::from(error)));
    every_row_holds_under_a_buffer: |connection| Buffer::new(connection, 4);
    every_row_holds_under_a_timeout: |connection| Timeout::new(connection, MINUTE);
    every_row_holds_under_a_buffer_and_a_timeout: |connection|
        Buffer::new(Timeout::new(connection, MINUTE), 4);
    every_row_holds_in_an_io_error: |connection|
        connection.map_err(|error| BoxError::from(io::Error::other(error)));
}

/// Fails the first call, answers the others.
fn flaky(
    first: First,
    calls: Arc<AtomicUsize>,
) -> impl Service<u32, Response = u32, Error = Error<io::Error>, Future: Send> + Clone + Send {
    service_fn(move |request| {
        let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        ready(if is_first {
            Err(failed(first))
        } else {
            Ok(request)
        })
    })
}

fn failed(first: First) -> Error<io::Error> {
    let stage = match first {
        NotSent => Stage::NotSent,
        AwaitingResponse | CausedByNotSent => Stage::AwaitingResponse,
        Streaming => Stage::Streaming,
        Foreign => return Error::Inner(io::Error::other("the application's own")),
    };
    let end = HeartbeatError::new(Failure::PingFailed, stage);
    Error::Heartbeat(match first {
        CausedByNotSent => end.caused_by(HeartbeatError::new(Failure::PongTimeout, Stage::NotSent)),
        NotSent | AwaitingResponse | Streaming | Foreign => end,
    })
}

// ---- attempts, budget, waits ----

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_at_most_as_often_as_the_policy_says() {
    for most in [1, 2, 5] {
        let (dead, calls) = dead();
        let policy = RetryPolicy::builder().max_attempts(most).build().unwrap();
        let mut service = Retry::new(policy, dead);
        // Each request has attempts of its own.
        for request in 1..=2 {
            let answer = service.ready().await.unwrap().call(0).await;
            assert_eq!(answer.unwrap_err().progress(), Some(Stage::NotSent));
            assert_eq!(calls.load(Ordering::Relaxed), most as usize * request);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_pay_into_the_budget_and_retries_take_from_it() {
    let purse = Purse::of(0);
    let policy = RetryPolicy::builder()
        .budget(Arc::clone(&purse))
        .build()
        .unwrap();
    let healthy = service_fn(|request: u32| ready(Ok::<_, Error<io::Error>>(request)));
    let answer = Retry::new(policy.clone(), healthy).oneshot(0).await;
    assert!(answer.is_ok());
    assert_eq!(purse.left(), 1);

    let (dead, calls) = dead();
    let answer = Retry::new(policy, dead).oneshot(0).await;
    assert!(answer.is_err());
    assert_eq!((purse.left(), calls.load(Ordering::Relaxed)), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn the_back_off_is_waited_out_between_attempts_and_begins_anew_with_each_request() {
    let (dead, _) = dead();
    let waits = Waits::default();
    let policy = RetryPolicy::builder()
        .backoff(waits.clone())
        .max_attempts(4)
        .build()
        .unwrap();
    let service = Retry::new(policy, dead);
    for _ in 0..2 {
        let _ = service.clone().oneshot(0).await;
    }
    assert_eq!(*waits.asked.lock().unwrap(), [1, 2, 3, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "it looks at the paused clock")]
async fn by_default_a_retry_waits_fifty_milliseconds_and_up_to_as_much_again() {
    let mut seen = Vec::new();
    for _ in 0..20 {
        let (dead, _) = dead();
        let policy = RetryPolicy::builder().max_attempts(2).build().unwrap();
        let begin = tokio::time::Instant::now();
        let _ = Retry::new(policy, dead).oneshot(0).await;
        seen.push(begin.elapsed());
    }
    let (least, most) = (Duration::from_millis(50), Duration::from_millis(102));
    assert!(
        seen.iter().all(|wait| (least..most).contains(wait)),
        "{seen:?}"
    );
    seen.dedup();
    assert!(seen.len() > 1, "all wait for the same time: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_copied_is_sent_once() {
    let (dead, calls) = dead();
    let policy = RetryPolicy::builder()
        .clone_request(|_: &u32| None)
        .build()
        .unwrap();
    assert!(Retry::new(policy, dead).oneshot(0).await.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn an_http_request_is_cloned_if_its_body_can_be() {
    use http::Request;
    use http_body_util::Full;
    use tower_heartbeat::BoxError;

    let calls = Arc::new(AtomicUsize::new(0));
    let connection = service_fn({
        let calls = Arc::clone(&calls);
        move |request: Request<Full<&'static [u8]>>| {
            let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
            ready(if is_first {
                Err::<_, BoxError>(failed(AwaitingResponse).into())
            } else {
                Ok(request)
            })
        }
    });
    let policy = RetryPolicy::builder()
        .idempotent(|request: &Request<_>| request.method().is_idempotent())
        .build()
        .unwrap();
    let get = Request::put("http://localhost/x").body(Full::new(&b"body"[..]));
    let answer = Retry::new(policy, connection).oneshot(get.unwrap()).await;
    assert_eq!(answer.unwrap().uri().path(), "/x");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[cfg(feature = "hyper")]
#[tokio::test(start_paused = true)]
async fn a_connection_that_did_not_come_about_has_sent_nothing() {
    use tower_heartbeat::{BoxError, hyper::http2::ConnectError};

    // What held the connecting up may have been a limit of the IO, past its first byte.
    let limit = HeartbeatError::new(Failure::WriteTimeout, Stage::AwaitingResponse);
    for cause in [BoxError::from("refused"), limit.into()] {
        let error = BoxError::from(ConnectError::Connector(cause));
        assert_eq!(error.progress(), Some(Stage::NotSent));
        let wrapped = BoxError::from(io::Error::other(error));
        assert_eq!(wrapped.progress(), Some(Stage::NotSent));
    }
}

#[cfg(feature = "transport")]
#[tokio::test(start_paused = true)]
async fn a_mux_says_whether_the_transport_had_the_request() {
    use tower_heartbeat::mux::{ConnectError, MuxError};

    let awaiting = Stage::AwaitingResponse;
    let failed = |stage| HeartbeatError::new(Failure::Transport, stage);
    let rows = [
        (
            MuxError::Refused(failed(Stage::NotSent)),
            Some(Stage::NotSent),
        ),
        (MuxError::GivenUp(failed(awaiting)), Some(awaiting)),
        (MuxError::NoId, None),
    ];
    for (error, progress) in rows {
        let error = Error::Inner(error);
        assert_eq!(error.progress(), progress);
        assert_eq!(BoxError::from(error).progress(), progress);
    }
    let error = BoxError::from(ConnectError::Connector("refused".into()));
    assert_eq!(error.progress(), Some(Stage::NotSent));
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_does_is_traced() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let policy = |idempotent: bool, most, coins| {
        RetryPolicy::builder()
            .idempotent(move |_: &u32| idempotent)
            .max_attempts(most)
            .budget(Purse::of(coins))
            .build()
            .unwrap()
    };
    let rows = [
        (
            policy(true, 2, 9),
            "request is sent again attempt=1 stage=AwaitingResponse",
        ),
        (
            policy(false, 2, 9),
            "attempt=1 stage=AwaitingResponse reason=\"not idempotent\"",
        ),
        (
            policy(true, 1, 9),
            "attempt=1 stage=AwaitingResponse reason=\"no attempts left\"",
        ),
        (
            policy(true, 2, 0),
            "attempt=1 stage=AwaitingResponse reason=\"no budget left\"",
        ),
    ];
    for (policy, line) in rows {
        let flaky = flaky(AwaitingResponse, Arc::default());
        let _ = Retry::new(policy, flaky).oneshot(0).await;
        let said = log.take();
        assert!(said.contains(line), "{said}");
    }
}

// ---- settings ----

#[test]
fn attempts_that_are_none_or_absurd_are_a_typed_error() {
    for attempts in [0, 1_001, u32::MAX] {
        let error = RetryPolicy::builder().max_attempts(attempts).build();
        let error = error.expect_err("out of range");
        assert_eq!(error.setting(), Setting::MaxAttempts);
        assert!(matches!(
            error,
            ConfigError::OutOfRange {
                least: 1,
                most: 1_000,
                ..
            }
        ));
        assert_eq!(error.to_string(), "`max_attempts` must be from 1 to 1000");
    }
    for attempts in [1, 1_000] {
        assert!(
            RetryPolicy::builder()
                .max_attempts(attempts)
                .build()
                .is_ok()
        );
    }
}

#[test]
fn every_public_type_is_debug_send_and_sync() {
    fn debug_send_sync<T: std::fmt::Debug + Send + Sync>() {}
    debug_send_sync::<RetryPolicy>();
    debug_send_sync::<RetryPolicyBuilder>();
    debug_send_sync::<NoneIdempotent>();
    debug_send_sync::<ByClone>();
    debug_send_sync::<Dice>();
}

// ---- what the tests share ----

const MINUTE: Duration = Duration::from_secs(60);

/// Turns every request away before it is sent.
fn dead() -> (
    impl Service<u32, Response = (), Error = Error<io::Error>, Future: Send> + Clone,
    Arc<AtomicUsize>,
) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |_: u32| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(Err(failed(NotSent)))
    });
    (service, calls)
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}

/// So many retries, and one more for each answer.
struct Purse(AtomicUsize);

impl Purse {
    fn of(coins: usize) -> Arc<Purse> {
        Arc::new(Purse(AtomicUsize::new(coins)))
    }

    fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Budget for Purse {
    fn deposit(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn withdraw(&self) -> bool {
        let less = |coins: usize| coins.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// Waits for nothing, and writes down the how manieth wait it was of its request.
#[derive(Clone, Default)]
struct Waits {
    asked: Arc<Mutex<Vec<u32>>>,
    iteration: u32,
}

impl MakeBackoff for Waits {
    type Backoff = Waits;

    fn make_backoff(&mut self) -> Waits {
        self.clone()
    }
}

impl Backoff for Waits {
    type Future = Ready<()>;

    fn next_backoff(&mut self) -> Ready<()> {
        self.iteration += 1;
        self.asked.lock().unwrap().push(self.iteration);
        ready(())
    }
}
