//! Connections of which one side is closed.

use std::{
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    spawn,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    Failure,
    transport::{Beats, HeartbeatStream, Lines, Protocol},
};

use crate::support::{config, failure, lines, millis};

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

#[tokio::test(start_paused = true)]
async fn one_that_is_cancelled_or_closed_ends_at_once_also_when_the_peer_has_closed_its_side() {
    for by_handle in [false, true] {
        let (near, mut far) = duplex(16);
        let (cancel, cancelled) = oneshot::channel::<()>();
        let near = HeartbeatStream::new(lines(near), Lines::new(), config())
            .until(async { drop(cancelled.await) });
        let handle = near.handle();
        let (mut writer, mut reader) = near.split();
        far.shutdown().await.expect("it closes");
        assert!(reader.next().await.is_none());
        let writing = spawn(async move { (writer.send("x".repeat(60)).await, writer) });
        sleep(millis(100)).await;
        assert!(!writing.is_finished());

        let _kept = if by_handle {
            handle.close();
            Some(cancel)
        } else {
            drop(cancel);
            None
        };
        let began = Instant::now();
        let ended = timeout(millis(60_000), writing).await.expect("in time");
        assert_eq!(began.elapsed(), Duration::ZERO);
        let (sent, mut writer) = ended.expect("no panic");
        assert_eq!(failure(&sent.expect_err("cancelled")), Failure::Closed);
        writer.close().await.expect("there is nothing to close");
        let error = writer.send("more".into()).await.expect_err("cancelled");
        assert_eq!(failure(&error), Failure::Closed);
        // The transport is gone, though both halves are here, and the reader has had its end.
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.expect("an end");
        assert!(reader.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_outlives_it_keeps_nothing_of_whoever_waited_there() {
    for half_closed in [false, true] {
        let (near, mut far) = duplex(16);
        let mut near = HeartbeatStream::new(lines(near), Lines::new(), config());
        let handle = near.handle();
        if half_closed {
            far.shutdown().await.expect("it closes");
            assert!(near.next().await.is_none());
        }
        let task = Arc::new(Task);
        let waker = Waker::from(Arc::clone(&task));
        let mut sending = near.send("x".repeat(60));
        assert!(
            sending
                .poll_unpin(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(waker);
        assert!(Arc::strong_count(&task) > 1);
        // The pipe between them has the waker, too.
        drop((near, far));
        assert_eq!(Arc::strong_count(&task), 1, "{half_closed}");
        handle.close();
    }
}

struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}
