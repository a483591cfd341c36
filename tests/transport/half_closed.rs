//! Connections of which one side is closed.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncWriteExt, duplex},
    spawn,
    time::sleep,
};
use tower_heartbeat::transport::{Beats, HeartbeatStream, Lines, Protocol};

use crate::support::{config, lines, millis};

#[tokio::test(start_paused = true)]
async fn after_close_the_peer_may_be_quiet_for_as_long_as_it_likes_whoever_pinged_before() {
    stays(Lines::new(), false).await;
    stays(Lines::new(), true).await;
    let beats = Beats::new("beat".to_string(), Duration::from_secs(1));
    stays(beats.expect("a legal interval"), false).await;
}

async fn stays<P>(protocol: P, only_answers: bool)
where
    P: Protocol<Message = String>,
{
    let (near, mut far) = duplex(4_096);
    let near = HeartbeatStream::new(lines(near), protocol, config());
    let mut near = if only_answers {
        near.only_answer()
    } else {
        near
    };
    near.close().await.expect("it is taken");
    spawn(async move {
        sleep(millis(60_000)).await;
        far.write_all(b"the rest\n").await.expect("it is taken");
    });
    let rest = near.next().await.expect("a line").expect("alive");
    assert_eq!(rest, "the rest");
    assert!(!near.handle().can_ping());
    assert!(near.next().await.is_none());
}
