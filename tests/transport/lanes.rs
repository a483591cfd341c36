//! The two halves of one connection, in two tasks.

use std::{future::poll_fn, task::Poll};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    spawn,
    time::{Instant, sleep, timeout},
};
use tokio_util::codec::LinesCodecError;
use tower_heartbeat::{
    Config, Error, Evidence, Failure, Stage, State,
    transport::{HeartbeatStream, Lines},
};

use crate::gated::gated;
use crate::strict::Strict;
use crate::support::{client, config, failure, lines, live, millis, nothing_for, settings};

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_is_woken_though_a_heartbeat_took_its_place_with_the_transport() {
    let (near, far) = duplex(32);
    let config = settings().interval(millis(100)).pong_timeout(millis(5_000));
    let config = config.ready_timeout(millis(5_000)).build().expect("legal");
    let near = HeartbeatStream::new(lines(near), Lines::new(), config);
    let handle = near.handle();
    let (mut writer, mut reader) = near.split();
    let writing = spawn(async move {
        for number in 0..20 {
            writer.send(format!("{number:060}")).await.expect("alive");
        }
    });
    // It polls the transport for a ping while the writer waits for the same.
    let reading = spawn(async move { reader.next().await.map(|item| item.is_ok()) });
    sleep(millis(1_000)).await;
    let peer = spawn(live(lines(far)));
    let written = timeout(millis(1_000), writing).await;
    written.expect("it is woken").expect("no panic");
    // It still pings.
    sleep(millis(500)).await;
    reading.abort();
    drop(reading.await);
    let read = peer.await.expect("no panic");
    assert_eq!(read.len(), 20);
    assert!(handle.pongs() >= 2, "{}", handle.pongs());
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_waited_with_a_writer_goes_out_when_the_writer_is_gone() {
    let (near, far) = duplex(16);
    let config = settings().ready_timeout(millis(5_000));
    let config = config.pong_timeout(millis(5_000)).build().expect("legal");
    let near = HeartbeatStream::new(lines(near), Lines::new(), config);
    let handle = near.handle();
    let (mut writer, mut reader) = near.split();
    let reading = spawn(async move { reader.next().await.is_some() });
    let writing = spawn(async move { writer.send("x".repeat(60)).await.is_ok() });
    sleep(millis(450)).await;
    assert_eq!(handle.pings(), 0);
    writing.abort();
    drop(writing.await);
    spawn(live(lines(far)));
    sleep(millis(10)).await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 1));
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn split_halves_in_two_tasks_get_everything_through_a_narrow_transport() {
    let (near, far) = duplex(16);
    let config = settings().interval(millis(50)).build().expect("legal");
    let near = HeartbeatStream::new(lines(near), Lines::new(), config);
    let handle = near.handle();
    let (mut writer, mut reader) = near.split();
    let peer = spawn(live(lines(far)));
    let reading = spawn(async move { reader.next().await.is_none() });
    for number in 0..50 {
        let sent = timeout(millis(1_000), writer.send(format!("{number:050}"))).await;
        sent.expect("it gets on").expect("alive");
        sleep(millis(60)).await;
    }
    assert!(handle.pongs() > 20, "{}", handle.pongs());
    handle.close();
    assert!(!reading.await.expect("no panic"));
    drop(writer);
    let read = peer.await.expect("no panic");
    assert_eq!(read.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn who_only_writes_finds_its_peer_alive_and_keeps_what_came_for_a_reader() {
    for evidence in [Evidence::AnyTraffic, Evidence::PongOnly] {
        let config = settings().evidence(evidence).build().expect("legal");
        let (mut near, mut far) = client(config);
        far.send("one").await.expect("it is taken");
        far.send("two").await.expect("it is taken");
        spawn(live(far));
        for _ in 0..200 {
            near.send("news".into()).await.expect("alive");
            sleep(millis(20)).await;
        }
        let handle = near.handle();
        assert!(handle.pongs() > 5, "{}", handle.pongs());
        for expected in ["one", "two"] {
            let line = near.next().await.expect("a line").expect("text");
            assert_eq!(line, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_only_writes_finds_a_frozen_peer() {
    let (mut near, _far) = client(config());
    let began = Instant::now();
    let error = loop {
        if let Err(error) = near.send("news".into()).await {
            break error;
        }
        sleep(millis(10)).await;
    };
    assert_eq!(failure(&error), Failure::PongTimeout);
    assert!(began.elapsed() <= config().worst_case_detection() + millis(10));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_many_messages_unread_is_not_judged() {
    let (mut near, far) = client(config());
    let (mut sender, receiver) = far.split();
    // A living peer that doesn't answer pings.
    for number in 0..100 {
        sender.send(number.to_string()).await.expect("it is taken");
    }
    let draining = spawn(async move { receiver.for_each(|_| async {}).await });
    for _ in 0..300 {
        near.send("news".into()).await.expect("alive");
        sleep(millis(10)).await;
    }
    for number in 0..100 {
        let line = near.next().await.expect("a line").expect("text");
        assert_eq!(line, number.to_string());
    }
    drop(near);
    draining.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_death_wakes_both_halves_and_tells_how_far_a_message_got() {
    let (near, _far) = duplex(16);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config());
    let (mut writer, mut reader) = near.split();
    let writing = spawn(async move {
        // Taken, and on its way for ever.
        writer.send("x".repeat(60)).await.expect_err("it is frozen")
    });
    let reading = spawn(async move { reader.next().await.expect("an item") });
    let both = async { tokio::join!(reading, writing) };
    let (read, written) = timeout(millis(2_000), both).await.expect("both are told");
    let read = read.expect("no panic").expect_err("it is frozen");
    assert_eq!(failure(&read), Failure::PingBlocked);
    let written = written.expect("no panic");
    assert_eq!(failure(&written), Failure::PingBlocked);
    let stage = written.heartbeat().expect("the heartbeat's").stage();
    assert_eq!(stage, Stage::AwaitingResponse);
}

#[tokio::test(start_paused = true)]
async fn a_ping_between_the_question_and_the_message_takes_nothing_from_it() {
    // Also where the peer has closed its side meanwhile.
    for is_half_closed in [false, true] {
        let (near, mut far) = duplex(4);
        let mut transport = lines(near);
        transport.set_backpressure_boundary(1);
        let config = settings().ready_timeout(millis(5_000));
        let config = config.build().expect("legal");
        let mut near = HeartbeatStream::new(Strict::new(transport), Lines::new(), config);
        poll_fn(|cx| near.poll_ready_unpin(cx))
            .await
            .expect("ready");
        // A ping takes the place, and its last byte finds none.
        let nothing = timeout(millis(420), near.next()).await;
        nothing.expect_err("nothing comes");
        near.start_send_unpin("the message".into()).expect("alive");
        let asked = poll_fn(|cx| Poll::Ready(near.poll_ready_unpin(cx))).await;
        assert!(asked.is_pending());
        if is_half_closed {
            far.shutdown().await.expect("it closes");
            assert!(near.next().await.is_none());
        }
        let peer = spawn(
            lines(far)
                .map(|line| line.expect("text"))
                .collect::<Vec<_>>(),
        );
        near.send("another".into()).await.expect("it is taken");
        near.close().await.expect("it is taken");
        drop(near);
        let read = peer.await.expect("no panic");
        assert_eq!(read, ["ping", "the message", "another"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_back_is_flushed_and_closed_after_and_not_before() {
    let (gated, gate) = gated();
    let mut near = HeartbeatStream::new(gated, Lines::new(), config());
    poll_fn(|cx| near.poll_ready_unpin(cx))
        .await
        .expect("ready");
    // The gate closes behind the ping.
    let nothing = timeout(millis(420), near.next()).await;
    nothing.expect_err("nothing comes");
    near.start_send_unpin("the message".into()).expect("alive");
    assert!(near.flush().now_or_never().is_none());
    assert!(near.close().now_or_never().is_none());
    gate.open();
    near.flush().now_or_never().expect("ready").expect("alive");
    assert_eq!(gate.taken(), ["ping", "the message"]);
}

#[tokio::test(start_paused = true)]
async fn a_half_that_is_gone_does_not_hold_up_the_other() {
    let (near, far) = client(config());
    let (writer, mut reader) = near.split();
    drop(writer);
    spawn(live(far));
    let item = timeout(millis(10_000), reader.next()).await;
    item.expect_err("it lives");
}

#[tokio::test(start_paused = true)]
async fn nobody_polls_for_long_and_the_next_poll_reads_before_it_judges() {
    let (mut near, far) = client(Config::detect_within(millis(1_000)).expect("legal"));
    let handle = near.handle();
    spawn(live(far));
    nothing_for(&mut near, 460).await;
    for _ in 0..5 {
        sleep(millis(20_000)).await;
        nothing_for(&mut near, 20).await;
        assert_eq!(handle.state(), State::Alive);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_not_overtaken_by_a_writer_who_never_stops() {
    let (near, mut far) = duplex(32);
    let config = settings()
        .interval(millis(100))
        .pong_timeout(millis(60_000));
    let config = config.ready_timeout(millis(2_000)).build().expect("legal");
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), config);
    let handle = near.handle();
    let writing = spawn(async move {
        loop {
            // No flush: `Framed` makes room when it is asked whether there is any.
            near.feed("x".repeat(60)).await?;
        }
        #[expect(unreachable_code, reason = "it says what fails")]
        Ok::<(), Error<LinesCodecError>>(())
    });
    // A line each four milliseconds.
    let reading = spawn(async move {
        let mut bytes = [0; 32];
        while far.read(&mut bytes).await.is_ok_and(|length| length > 0) {
            sleep(millis(2)).await;
        }
    });
    sleep(millis(5_000)).await;
    assert_eq!(handle.failure(), None);
    writing.abort();
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_pings_faster_than_it_reads_gets_messages_between_the_answers() {
    let (near, far) = duplex(64);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config());
    let (mut writer, mut reader) = near.split();
    let reading =
        spawn(async move { while reader.next().await.is_some_and(|item| item.is_ok()) {} });
    let writing = spawn(async move { while writer.feed("x".repeat(50)).await.is_ok() {} });
    let (mut pings, mut read) = lines(far).split();
    let flooding = spawn(async move {
        while pings.send("ping\nping\nping".to_string()).await.is_ok() {
            sleep(millis(1)).await;
        }
    });
    let (mut messages, mut answers) = (0, 0);
    for _ in 0..2_000 {
        match read.next().await.expect("alive").expect("a line").as_str() {
            "pong" => answers += 1,
            "ping" => {}
            _ => messages += 1,
        }
        sleep(millis(1)).await;
    }
    assert!(messages > 500 && answers > 500, "{messages}, {answers}");
    for task in [reading, writing, flooding] {
        task.abort();
    }
}
