//! Both ends of a connection that carries lines.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{DuplexStream, duplex},
    time::timeout,
};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tower_heartbeat::{
    Config, ConfigBuilder, Error, Failure,
    transport::{HeartbeatStream, Lines},
};

pub(crate) type Codec = Framed<DuplexStream, LinesCodec>;
pub(crate) type Connection = HeartbeatStream<Codec, Lines>;

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
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

/// A client that pings, and the far end as it is on the wire.
pub(crate) fn client(config: Config) -> (Connection, Codec) {
    let (near, far) = duplex(4_096);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config);
    (near, lines(far))
}

/// Answers pings until the connection ends; returns what else it read.
pub(crate) async fn live(mut far: Codec) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(Ok(line)) = far.next().await {
        if line == "ping" {
            if far.send("pong").await.is_err() {
                break;
            }
        } else {
            read.push(line);
        }
    }
    read
}

pub(crate) fn failure(error: &Error<LinesCodecError>) -> Failure {
    let error = error.heartbeat().expect("the heartbeat's own");
    error.failure()
}

/// The next item, which has to be the verdict; then nothing.
pub(crate) async fn verdict(connection: &mut Connection) -> Failure {
    let item = timeout(millis(60_000), connection.next()).await;
    let item = item.expect("in time").expect("not just the end");
    let failure = failure(&item.expect_err("no line"));
    assert!(connection.next().await.is_none());
    failure
}

/// Reads for so long, in which nothing may come.
pub(crate) async fn nothing_for(connection: &mut Connection, time: u64) {
    let item = timeout(millis(time), connection.next()).await;
    assert!(item.is_err(), "{item:?}");
}
