//! How a connection ends, and what is left of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{SinkExt, StreamExt, stream::FusedStream};
use tokio::{
    io::duplex,
    runtime::Handle as Runtime,
    spawn,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    Failure, HeartbeatError, State,
    transport::{HeartbeatStream, Kind, Lines, Protocol},
};

use crate::support::{client, config, lines, live, millis, nothing_for, verdict};

#[tokio::test(start_paused = true)]
async fn a_drop_ends_everything_and_nothing_was_ever_spawned() {
    let before = Runtime::current().metrics().num_alive_tasks();
    let (mut near, mut far) = client(config());
    let handle = near.handle();
    nothing_for(&mut near, 450).await;
    assert_eq!(handle.pings(), 1);
    assert_eq!(Runtime::current().metrics().num_alive_tasks(), before);
    drop(near);
    assert_eq!(handle.failure(), Some(Failure::Closed));
    assert_eq!(far.next().await.expect("a line").expect("text"), "ping");
    assert!(far.next().await.is_none());
    // No timer is left: the clock goes on to the next one, this test's own.
    let began = Instant::now();
    sleep(millis(60_000)).await;
    assert_eq!(began.elapsed(), millis(60_000));
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_from_outside_closes_at_once_and_wakes_both_halves() {
    let (near, mut far) = client(config());
    let (cancel, cancelled) = oneshot::channel::<()>();
    let mut near = near;
    // Also on a connection that was polled before.
    nothing_for(&mut near, 10).await;
    let near = near.until(async { drop(cancelled.await) });
    let handle = near.handle();
    let (mut writer, mut reader) = near.split();
    let reading = spawn(async move { reader.next().await.expect("an item") });
    sleep(millis(100)).await;
    let began = Instant::now();
    drop(cancel);
    let error = reading.await.expect("no panic").expect_err("cancelled");
    assert_eq!(crate::support::failure(&error), Failure::Closed);
    assert_eq!(began.elapsed(), millis(0));
    // The transport is gone, though a half is still here.
    assert!(far.next().await.is_none());
    assert_eq!(handle.state(), State::Closed);
    writer.close().await.expect("it is closed");
    writer.send("news".into()).await.expect_err("closed");
}

#[tokio::test(start_paused = true)]
async fn a_handle_closes_at_once() {
    let (mut near, mut far) = client(config());
    let handle = near.handle();
    let reading = spawn(async move { (verdict(&mut near).await, near) });
    sleep(millis(100)).await;
    handle.close();
    let (failure, near) = reading.await.expect("no panic");
    assert_eq!(failure, Failure::Closed);
    assert!(near.is_terminated() && near.get_ref().is_none());
    assert!(far.next().await.is_none());

    let (mut near, _far) = client(config());
    near.handle().close();
    near.close().await.expect("it is closed");
}

#[tokio::test(start_paused = true)]
async fn the_peers_end_is_the_streams_end() {
    let (mut near, mut far) = client(config());
    far.send("the last").await.expect("it is taken");
    drop(far);
    let line = near.next().await.expect("a line").expect("text");
    assert_eq!(line, "the last");
    assert!(near.next().await.is_none());
    assert!(near.is_terminated());
    assert_eq!(near.handle().failure(), Some(Failure::Transport));
}

#[tokio::test(start_paused = true)]
async fn closing_in_good_order_brings_out_what_was_sent_and_reads_on_for_as_long_as_it_takes() {
    let (mut near, far) = client(config());
    let (mut sender, receiver) = far.split();
    for _ in 0..10 {
        near.feed("news".into()).await.expect("alive");
    }
    near.close().await.expect("it is taken");
    let read: Vec<_> = receiver.collect().await;
    assert_eq!(read.len(), 10);
    // The peer's answer takes long, and it cannot be pinged any more.
    spawn(async move {
        sleep(millis(30_000)).await;
        sender.send("ping").await.expect("it is taken");
        sender.send("answer").await.expect("it is taken");
        sleep(millis(1_000)).await;
        sender
    });
    let line = near.next().await.expect("a line").expect("text");
    assert_eq!(line, "answer");
    assert!(!near.handle().can_ping());
    // The ping had no answer, and that is no failure.
    assert!(near.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn closing_never_hangs_on_a_peer_that_takes_nothing() {
    let (near, _far) = duplex(16);
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), config());
    near.feed("x".repeat(60)).await.expect("it is buffered");
    let began = Instant::now();
    let closed = timeout(millis(10_000), near.close()).await;
    let error = closed.expect("in time").expect_err("it is stuck");
    assert_eq!(crate::support::failure(&error), Failure::PingBlocked);
    assert!(began.elapsed() <= config().worst_case_detection());
    near.close().await.expect("there is nothing left to close");
}

#[tokio::test(start_paused = true)]
async fn after_the_peer_closed_its_side_messages_still_go_out() {
    let (near, far) = duplex(4_096);
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), config());
    let (reading, mut writing) = tokio::io::split(far);
    tokio::io::AsyncWriteExt::shutdown(&mut writing)
        .await
        .expect("it closes");
    assert!(near.next().await.is_none());
    near.send("news".into()).await.expect("it is taken");
    near.close().await.expect("it is taken");
    let far = lines(reading.unsplit(writing));
    assert_eq!(live(far).await, ["news"]);
}

#[tokio::test(start_paused = true)]
async fn the_cause_is_known_before_the_transport_is_closed() {
    let (near, far) = duplex(4_096);
    let mut near = HeartbeatStream::new(lines(near), Polite, config());
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    near.handle().on_end(move |error| {
        assert_eq!(error.failure(), Failure::PongTimeout);
        counter.fetch_add(1, Ordering::Relaxed);
    });
    near.next().await.expect("an item").expect_err("dead");
    assert_eq!(told.load(Ordering::Relaxed), 1);
    // The protocol's last word goes out before.
    let read: Vec<_> = lines(far).map(|line| line.expect("text")).collect().await;
    assert_eq!(read, ["?", "bye: peer did not answer a ping"]);
}

/// Asks, and says goodbye.
struct Polite;

impl Protocol for Polite {
    type Message = String;

    fn classify(&self, line: &String) -> Kind {
        match line.as_str() {
            "!" => Kind::Pong(None),
            "?" => Kind::Ping,
            _ => Kind::Data,
        }
    }

    fn ping(&mut self, _: std::num::NonZeroU64) -> Option<String> {
        Some("?".into())
    }

    fn pong(&mut self, _: &String) -> Option<String> {
        Some("!".into())
    }

    fn farewell(&mut self, error: &HeartbeatError) -> Option<String> {
        Some(format!("bye: {}", error.failure()))
    }
}
