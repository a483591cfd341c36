//! A connection of lines, its far end as it is on the wire, and protocols for both kinds of answers.

use std::{
    error::Error as StdError,
    future::{Ready, ready},
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{DuplexStream, duplex},
    task::{JoinHandle, yield_now},
    time::timeout,
};
use tokio_util::codec::{Framed, LinesCodec};
use tower::{Layer, Service, ServiceExt, retry::Policy};
use tower_heartbeat::{
    BoxError, Config, ConfigBuilder, Failure, Handle, Heartbeat, HeartbeatError, HeartbeatLayer,
    Stage,
    mux::{self, Builder, InOrder, Mux, MuxError, ResponseFuture},
    transport::{Ids, Kind, Lines, Protocol},
};

pub(crate) type Codec = Framed<DuplexStream, LinesCodec>;
pub(crate) type Answer = Result<String, MuxError>;

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn at_most(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).expect("not zero")
}

/// A ping after 400 ms of quiet, 100 ms to get out, two waits of 100 ms for its pong.
pub(crate) fn settings() -> ConfigBuilder {
    Config::builder()
        .interval(millis(400))
        .ready_timeout(millis(100))
        .pong_timeout(millis(100))
        .max_missed(2)
}

pub(crate) fn config() -> Config {
    settings().build().expect("legal settings")
}

pub(crate) fn lines(io: DuplexStream) -> Codec {
    Framed::new(io, LinesCodec::new_with_max_length(64))
}

/// `7 hello`: a line whose first word is the id.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FirstWord {
    /// What the field holds of a number; zero holds all.
    pub(crate) modulus: u64,
}

impl Ids<String> for FirstWord {
    fn id(&self, line: &String) -> Option<u64> {
        line.split_once(' ')?.0.parse().ok()
    }

    fn set_id(&self, line: &mut String, id: u64) {
        let id = id.checked_rem(self.modulus).unwrap_or(id);
        if let Some((first, rest)) = line.split_once(' ')
            && first.parse::<u64>().is_ok()
        {
            *line = format!("{id} {rest}");
        }
    }
}

/// Lines with pushes: those that begin with an exclamation mark.
#[derive(Clone)]
pub(crate) struct WithPushes(pub(crate) Lines);

impl Protocol for WithPushes {
    type Message = String;

    fn classify(&self, line: &String) -> Kind {
        if line.starts_with('!') {
            Kind::Other
        } else {
            self.0.classify(line)
        }
    }

    fn ping(&mut self, nonce: NonZeroU64) -> Option<String> {
        self.0.ping(nonce)
    }

    fn pong(&mut self, ping: &String) -> Option<String> {
        self.0.pong(ping)
    }

    fn farewell(&mut self, error: &HeartbeatError) -> Option<String> {
        Some(format!("bye: {}", error.failure()))
    }
}

pub(crate) fn in_order() -> Builder<Lines, InOrder> {
    mux::in_order(Lines::new())
}

pub(crate) fn by_id() -> Builder<Lines, FirstWord> {
    mux::by_id(Lines::new(), FirstWord::default())
}

/// A connection that runs, the task that runs it, and its far end.
pub(crate) fn connect<P, I>(builder: &Builder<P, I>) -> (Mux<String>, JoinHandle<()>, Codec)
where
    P: Protocol<Message = String> + Clone + Send + 'static,
    I: Ids<String> + Clone + Send + 'static,
{
    connect_over(builder, 4_096)
}

pub(crate) fn connect_over<P, I>(
    builder: &Builder<P, I>,
    capacity: usize,
) -> (Mux<String>, JoinHandle<()>, Codec)
where
    P: Protocol<Message = String> + Clone + Send + 'static,
    I: Ids<String> + Clone + Send + 'static,
{
    let (near, far) = duplex(capacity);
    let (mux, connection) = builder.pair(lines(near));
    (mux, tokio::spawn(connection), lines(far))
}

pub(crate) type Watched = Heartbeat<Mux<String>>;

/// The same with a heartbeat, whose pings are the protocol's.
pub(crate) fn watch<P, I>(builder: &Builder<P, I>, config: Config) -> (Watched, Handle, Codec)
where
    P: Protocol<Message = String> + Clone + Send + 'static,
    I: Ids<String> + Clone + Send + 'static,
{
    let (near, far) = duplex(4_096);
    let (mux, connection) = builder.pair(lines(near));
    let service = HeartbeatLayer::new(config, mux::ping()).layer(mux);
    let handle = service.handle();
    tokio::spawn(mux::drive(connection, handle.clone()));
    (service, handle, lines(far))
}

/// A request that was handed over.
pub(crate) async fn call(mux: &mut Mux<String>, line: &str) -> ResponseFuture<String> {
    mux.ready().await.expect("it is open").call(line.into())
}

/// The next line at the far end.
pub(crate) async fn line(far: &mut Codec) -> String {
    let line = soon("a line", far.next()).await;
    line.expect("not the end").expect("a line")
}

pub(crate) async fn tell(far: &mut Codec, line: &str) {
    far.send(line).await.expect("it is read");
}

/// Fails instead of hanging.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(millis(60_000), future).await {
        Ok(output) => output,
        Err(_) => panic!("not within a minute: {what}"),
    }
}

/// Lets every task do what it can without time passing.
pub(crate) async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

pub(crate) fn found(error: &(dyn StdError + 'static)) -> (Failure, Stage) {
    let error = HeartbeatError::find(error).expect("it says why");
    (error.failure(), error.stage())
}

/// Sends a request again whose connection the heartbeat has ended, so many times.
#[derive(Clone)]
pub(crate) struct Again(pub(crate) usize);

impl<Request, Response> Policy<Request, Response, BoxError> for Again
where
    Request: Clone,
{
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request,
        result: &mut Result<Response, BoxError>,
    ) -> Option<Ready<()>> {
        let error = result.as_ref().err()?;
        let failure = HeartbeatError::find(&**error)?.failure();
        assert_eq!(failure, Failure::PongTimeout);
        self.0 = self.0.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}
