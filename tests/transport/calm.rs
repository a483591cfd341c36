//! Messages that pass while the heartbeat has nothing to do, and what must not get lost in them.

use std::{future::poll_fn, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::duplex,
    spawn,
    sync::oneshot,
    time::{sleep, timeout},
};
use tower_heartbeat::{
    Config, Evidence, Failure, PingWhen,
    transport::{HeartbeatStream, Lines},
};

use crate::{
    gated::gated,
    support::{client, config, failure, lines, live, millis, settings},
};

#[tokio::test(start_paused = true)]
async fn a_close_from_outside_is_heeded_by_the_next_poll_amid_traffic() {
    // Reading.
    let (mut near, mut far) = client(config());
    for _ in 0..100 {
        far.send("news").await.expect("it is taken");
    }
    for _ in 0..5 {
        near.next().await.expect("a line").expect("alive");
    }
    near.handle().close();
    let mut next = || near.next().now_or_never().expect("ready").expect("an item");
    // What was read ahead comes first.
    let error = (0..=16).find_map(|_| next().err()).expect("it is closed");
    assert_eq!(failure(&error), Failure::Closed);
    assert!(near.get_ref().is_none());

    // Writing, at each of the three steps.
    for step in 0..3 {
        let (mut near, _far) = client(config());
        for _ in 0..5 {
            near.send("news".into()).await.expect("alive");
        }
        near.handle().close();
        let error = match step {
            0 => near.feed("more".into()).await.expect_err("it is closed"),
            1 => near.start_send_unpin("more".into()).expect_err("closed"),
            _ => near.flush().await.expect_err("it is closed"),
        };
        assert_eq!(failure(&error), Failure::Closed);
        assert!(near.get_ref().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_it_from_outside_is_heeded_by_the_next_poll_amid_traffic() {
    let (cancel, cancelled) = oneshot::channel::<()>();
    let (near, mut far) = client(config());
    let mut near = near.until(cancelled.map(drop));
    far.send("one").await.expect("it is taken");
    far.send("two").await.expect("it is taken");
    near.next().await.expect("a line").expect("alive");
    drop(cancel);
    let mut read = Vec::new();
    while let Some(Ok(line)) = near.next().now_or_never().flatten() {
        read.push(line);
    }
    // What lay there with it may come first.
    assert!(read.len() <= 1, "{read:?}");
    assert_eq!(near.handle().failure(), Some(Failure::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_behind_an_answer_is_not_flushed_before_it_is_taken() {
    let (gated, gate) = gated();
    let mut near = HeartbeatStream::new(gated, Lines::new(), config());
    // Traffic, so that one message more is no news for the driver.
    for _ in 0..5 {
        near.send("news".into()).await.expect("alive");
        gate.open();
    }
    poll_fn(|cx| near.poll_ready_unpin(cx))
        .await
        .expect("ready");
    gate.send(Some("ping"));
    assert!(near.next().now_or_never().is_none());
    near.start_send_unpin("the message".into()).expect("alive");
    assert!(near.flush().now_or_never().is_none());
    gate.open();
    near.flush().now_or_never().expect("ready").expect("alive");
    assert_eq!(gate.taken()[5..], ["pong", "the message"]);
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_waits_for_the_transport_goes_out_though_a_writer_asks_for_the_same() {
    let (gated, gate) = gated();
    let settings = settings().ready_timeout(millis(10_000)).build();
    let mut near = HeartbeatStream::new(gated, Lines::new(), settings.expect("legal settings"));
    let handle = near.handle();
    near.send("news".into()).await.expect("alive");
    timeout(millis(500), near.next())
        .await
        .expect_err("nothing comes");
    assert_eq!(handle.pings(), 0);
    // The writer's question is the last one.
    let asking = timeout(millis(1), poll_fn(|cx| near.poll_ready_unpin(cx)));
    asking.await.expect_err("the gate is closed");
    gate.open();
    timeout(millis(1), near.next())
        .await
        .expect_err("nothing comes");
    assert_eq!((handle.pings(), gate.taken().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_has_ended_is_not_polled_again() {
    let (gated, gate) = gated();
    let mut near = HeartbeatStream::new(gated, Lines::new(), config());
    gate.send(Some("news"));
    gate.send(None);
    near.next().await.expect("a line").expect("alive");
    for _ in 0..10 {
        assert!(near.next().now_or_never().expect("ready").is_none());
        sleep(millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_answers_a_question_without_words_amid_traffic_too() {
    let settings = settings().evidence(Evidence::PongOnly).build();
    let (near, far) = duplex(4_096);
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), settings.expect("legal"));
    near = near.only_answer();
    let handle = near.handle();
    let mut far = lines(far);
    spawn(async move {
        // One for each question.
        loop {
            sleep(millis(500)).await;
            far.send("news").await.expect("it is taken");
        }
    });
    let reading = async { while let Some(Ok(_)) = near.next().await {} };
    timeout(millis(5_000), reading).await.expect_err("it lives");
    assert_eq!(handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn pings_go_out_amid_traffic_that_never_waits() {
    let config = Config::builder()
        .interval(millis(100))
        .pong_timeout(millis(100))
        .ping_when(PingWhen::Always);
    let (near, far) = client(config.build().expect("legal settings"));
    let handle = near.handle();
    let (mut writer, mut reader) = near.split();
    let (mut sending, receiving) = far.split();
    let flooding = spawn(async move {
        while sending.send("news").await.is_ok() {
            sleep(millis(1)).await;
        }
    });
    let echo = spawn(receiving.for_each(|_| async {}));
    let writing = spawn(async move {
        while writer.send("news".into()).await.is_ok() {
            sleep(millis(1)).await;
        }
    });
    let reading = async { while let Some(Ok(_)) = reader.next().await {} };
    timeout(millis(5_000), reading).await.expect_err("alive");
    assert!(handle.pings() >= 1, "{}", handle.pings());
    handle.close();
    drop(reader);
    writing.await.expect("no panic");
    for task in [flooding, echo] {
        task.abort();
    }
}

/// Four tasks on two threads, and pings of both ends all the while. Real time: the races are real.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_on_two_threads_lose_neither_a_message_nor_a_wake_up() {
    const LINES: usize = 2_000;
    let config = Config::builder()
        .interval(millis(1))
        .ready_timeout(millis(20_000))
        .pong_timeout(millis(20_000))
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings");
    for capacity in [16, 300, 20_000] {
        let (a, b) = duplex(capacity);
        let ends = [a, b].map(|io| HeartbeatStream::new(lines(io), Lines::new(), config));
        let handles = ends.each_ref().map(HeartbeatStream::handle);
        let tasks = ends.map(|end| {
            let (mut writer, mut reader) = end.split();
            let writing = spawn(async move {
                for number in 0..LINES {
                    writer.feed(number.to_string()).await.expect("alive");
                    if number % 7 == 0 {
                        writer.flush().await.expect("alive");
                    }
                    if number % 100 == 0 {
                        sleep(millis(2)).await;
                    }
                }
                writer.flush().await.expect("alive");
                writer
            });
            let reading = spawn(async move {
                for number in 0..LINES {
                    let line = reader.next().await.expect("a line").expect("alive");
                    assert_eq!(line, number.to_string());
                }
                reader
            });
            (writing, reading)
        });
        let all = async {
            let mut halves = Vec::new();
            for (writing, reading) in tasks {
                let writer = writing.await.expect("no panic");
                halves.push((writer, reading.await.expect("no panic")));
            }
            halves
        };
        let halves = timeout(Duration::from_secs(30), all).await;
        drop(halves.expect("nobody waits for ever"));
        assert!(handles.iter().any(|handle| handle.pongs() > 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_half_that_is_left_keeps_the_connection_alive_whichever_it_is() {
    for keeps_reader in [false, true] {
        let (near, far) = client(config());
        let handle = near.handle();
        let peer = spawn(live(far));
        let (mut writer, mut reader) = near.split();
        // Both have waited, so that both are known.
        let both = async { tokio::join!(reader.next(), writer.send("news".into())) };
        timeout(millis(300), both).await.expect_err("nothing comes");
        if keeps_reader {
            drop(writer);
            timeout(millis(10_000), reader.next())
                .await
                .expect_err("it lives");
        } else {
            drop(reader);
            for _ in 0..1_000 {
                writer.send("news".into()).await.expect("alive");
                sleep(millis(10)).await;
            }
        }
        assert!(handle.pongs() >= 10, "{}", handle.pongs());
        peer.abort();
    }
}
