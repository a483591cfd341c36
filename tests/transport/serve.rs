//! A connection's messages as the requests of a service.

use std::{convert::Infallible, future::Future, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{DuplexStream, duplex},
    spawn,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::codec::LinesCodecError;
use tower::{BoxError, Service, limit::ConcurrencyLimit, service_fn};
use tower_heartbeat::{
    Config, Failure, Handle,
    transport::{HeartbeatStream, Ids, Lines, Serve, ServeError},
};

use crate::support::{Codec, Connection, config, lines, millis, settings};

pub(crate) type End = Result<(), ServeError<LinesCodecError, LinesCodecError, BoxError>>;

/// A server's side that only answers, and the far end as it is on the wire.
pub(crate) fn server(config: Config) -> (Connection, Codec) {
    let (near, far) = duplex(4_096);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config).only_answer();
    (near, lines(far))
}

/// Answers `"<millis> <text>"` with the text, after so long.
pub(crate) fn slow_echo()
-> impl Service<String, Response = String, Error = BoxError, Future: Send> + Clone + Send {
    service_fn(|line: String| async move {
        let (wait, text) = line.split_once(' ').ok_or("no time")?;
        sleep(millis(wait.parse()?)).await;
        Ok::<_, BoxError>(text.to_string())
    })
}

pub(crate) fn start<F>(serve: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn(serve)
}

pub(crate) async fn ended<T>(serving: JoinHandle<T>) -> T {
    let end = timeout(millis(600_000), serving).await;
    end.expect("in time").expect("no panic")
}

pub(crate) async fn tell<const N: usize>(far: &mut Codec, told: [&str; N]) {
    for line in told {
        far.feed(line).await.expect("it is taken");
    }
    SinkExt::<&str>::flush(far).await.expect("it is taken");
}

pub(crate) async fn line(far: &mut Codec) -> String {
    let line = timeout(millis(60_000), far.next()).await.expect("in time");
    line.expect("a line").expect("text")
}

pub(crate) async fn lines_of<const N: usize>(far: &mut Codec) -> [String; N] {
    let mut read = Vec::new();
    for _ in 0..N {
        read.push(line(far).await);
    }
    read.try_into().expect("so many")
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_at_once_beside_a_slow_handler() {
    let (near, mut far) = server(config());
    let serving = start(Serve::new(near, slow_echo()));
    tell(&mut far, ["10000 slow"]).await;
    for _ in 0..24 {
        sleep(millis(400)).await;
        let began = Instant::now();
        tell(&mut far, ["ping"]).await;
        assert_eq!(line(&mut far).await, "pong");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
    assert_eq!(line(&mut far).await, "slow");
    drop(far);
    ended(serving).await.expect("the peer closed");
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_of_the_requests_which_are_worked_on_at_the_same_time() {
    let (near, mut far) = server(config());
    let _serving = start(Serve::new(near, slow_echo()));
    let began = Instant::now();
    tell(&mut far, ["300 a", "100 b", "200 c", "ping"]).await;
    let read = lines_of::<4>(&mut far).await;
    assert_eq!(read, ["pong", "a", "b", "c"]);
    assert_eq!(began.elapsed().as_millis(), 300);
}

/// `"<id>: <text>"`
pub(crate) struct Numbers;

impl Ids<String> for Numbers {
    fn id(&self, message: &String) -> Option<u64> {
        message.split_once(": ")?.0.parse().ok()
    }

    fn set_id(&self, message: &mut String, id: u64) {
        *message = format!("{id}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn by_id_answers_come_as_they_finish_and_what_has_no_id_has_no_answer() {
    let (near, mut far) = server(config());
    let sleepy = service_fn(|line: String| async move {
        let text = line.split_once(": ").map_or(&*line, |(_, text)| text);
        let wait = text.parse().expect("a time");
        sleep(millis(wait)).await;
        Ok::<_, Infallible>(format!("after {wait}"))
    });
    let serving = start(Serve::new(near, sleepy).by_id(Numbers));
    tell(&mut far, ["7: 300", "8: 100", "50", "9: 200"]).await;
    let read = lines_of::<3>(&mut far).await;
    assert_eq!(read, ["8: after 100", "9: after 200", "7: after 300"]);
    drop(far);
    ended(serving).await.expect("the peer closed");
}

#[tokio::test(start_paused = true)]
async fn a_service_may_have_no_answer_to_some() {
    let (near, mut far) = server(config());
    let service = service_fn(|line: String| async move {
        Ok::<_, Infallible>(line.strip_suffix('?').map(str::to_string))
    });
    let serving = start(Serve::new(near, service));
    tell(&mut far, ["one?", "news", "two?"]).await;
    assert_eq!(lines_of::<2>(&mut far).await, ["one", "two"]);
    drop(far);
    ended(serving).await.expect("the peer closed");
}

#[tokio::test(start_paused = true)]
async fn readiness_is_asked_for_when_there_is_a_request_and_no_permit_is_kept_without_one() {
    let shared = ConcurrencyLimit::new(slow_echo(), 1);
    let mut ends = Vec::new();
    let mut serving = Vec::new();
    for _ in 0..3 {
        let (near, far) = server(config());
        serving.push(start(Serve::new(near, shared.clone())));
        ends.push(far);
    }
    sleep(millis(10)).await;
    // The others have nothing to say, and nothing of the one permit.
    for far in &mut ends {
        tell(far, ["10 mine"]).await;
        assert_eq!(line(far).await, "mine");
    }
    assert!(serving.iter().all(|serving| !serving.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_flight_until_its_answer_is_flushed() {
    let (near, far) = duplex(8);
    let config = settings()
        .interval(millis(60_000))
        .idle_timeout(millis(1_000))
        .build()
        .expect("legal");
    let near = HeartbeatStream::new(lines(near), Lines::new(), config).only_answer();
    let handle = near.handle();
    let serving = start(Serve::new(near, slow_echo()));
    let mut far = lines(far);
    tell(&mut far, ["1500 the answer is long"]).await;
    sleep(millis(2_000)).await;
    assert_eq!(handle.in_flight(), 1);
    // Half of it is read, and the rest does not fit into the pipe.
    sleep(millis(3_000)).await;
    assert_eq!((handle.in_flight(), handle.failure()), (1, None));
    assert_eq!(line(&mut far).await, "the answer is long");
    sleep(millis(100)).await;
    assert_eq!(handle.in_flight(), 0);
    let error = ended(serving).await.expect_err("idle");
    assert_eq!(failure(&error), Failure::IdleTimeout);
    drop::<Handle>(handle);
}

#[tokio::test]
async fn no_request_at_a_time_is_no_setting() {
    let (near, _far): (_, _) = server(config());
    let refused = Serve::new(near, slow_echo()).max_concurrent_requests(0);
    let error = refused.expect_err("nothing would ever be served");
    assert_eq!(
        error.to_string(),
        "`max_concurrent_requests` must be from 1 to 4294967295"
    );
}

pub(crate) fn failure<R, W, S>(error: &ServeError<R, W, S>) -> Failure {
    error.heartbeat().expect("the heartbeat's own").failure()
}

/// What is on the wire, byte by byte.
pub(crate) fn raw() -> (Connection, DuplexStream) {
    let (near, far) = duplex(4_096);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config()).only_answer();
    (near, far)
}
