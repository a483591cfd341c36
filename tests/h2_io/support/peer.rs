//! The far end of a connection whose near end is pinged.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{sleep, timeout},
};
use tower_heartbeat::{Config, HeartbeatError, h2_io::PingIo};

use super::{
    Side,
    frames::{ACK, PING, frame, opening},
    parser,
    random::Random,
    socket::{Far, Manners, Socket, socket},
};

pub(crate) fn second() -> Config {
    Config::detect_within(Duration::from_secs(1)).expect("legal settings")
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A client's connection, over an IO that takes and gives everything at once, to a server that has
/// opened its side.
pub(crate) fn client(config: Config) -> (PingIo<Socket>, Far) {
    let (near, far) = socket(Manners::EASY, Random::new(0));
    far.send(&opening(Side::Server));
    (PingIo::client(near, config), far)
}

/// How many pings the server has got.
pub(crate) fn pings(far: &Far) -> usize {
    our_pings(far).len()
}

/// Answers the pings that the server got and has not answered.
pub(crate) fn answer(far: &Far, answered: &mut usize) {
    for payload in &our_pings(far)[*answered..] {
        far.send(&frame(PING, ACK, 0, payload));
        *answered += 1;
    }
}

/// Answers every ping after `latency`, for ever.
pub(crate) async fn live(far: Far, latency: Duration) {
    let mut answered = 0;
    loop {
        sleep(latency).await;
        answer(&far, &mut answered);
    }
}

/// Nothing comes out of `io` for so many milliseconds.
pub(crate) async fn nothing_for<T>(io: &mut T, wait: u64)
where
    T: AsyncRead + Unpin,
{
    let read = timeout(millis(wait), io.read_u8()).await;
    read.expect_err("nothing comes");
}

pub(crate) fn failure_in(error: &std::io::Error) -> Option<tower_heartbeat::Failure> {
    HeartbeatError::find(error).map(HeartbeatError::failure)
}

fn our_pings(far: &Far) -> Vec<Vec<u8>> {
    let delivered = far.delivered();
    let (frames, _) = parser::frames(Side::Client, &delivered);
    let pings = frames.iter().filter(|frame| frame.is_our_ping());
    pings.map(|ping| ping.payload().to_vec()).collect()
}
