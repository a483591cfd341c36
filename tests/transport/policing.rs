//! Peers that ping too often.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    spawn,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::codec::{Framed, LinesCodec};
use tower_heartbeat::{
    Config, Failure, PingPolicy,
    transport::{Beats, HeartbeatStream, Lines},
};

use crate::support::{Codec, Connection, client, failure, lines, millis, nothing_for, verdict};

/// A ping a second, idle or not, and two that come too early.
fn policy() -> PingPolicy {
    PingPolicy::grpc()
        .min_interval(millis(1_000))
        .expect("legal")
        .while_idle(true)
}

/// A server that leaves pinging to its peer, and is quiet itself.
fn server(policy: PingPolicy) -> (Connection, Codec) {
    let quiet = Config::builder().interval(millis(24 * 3_600_000));
    let (near, far) = client(quiet.build().expect("legal"));
    (near.only_answer().police_pings(policy), far)
}

async fn pings(far: &mut Codec, count: usize) {
    for _ in 0..count {
        far.send("ping").await.expect("it is taken");
    }
}

/// What comes until the end.
async fn rest(far: Codec) -> Vec<String> {
    far.map(|line| line.expect("text")).collect().await
}

#[tokio::test(start_paused = true)]
async fn the_third_ping_that_comes_too_early_ends_it_and_nothing_behind_is_read() {
    let (mut near, mut far) = server(policy());
    let handle = near.handle();
    far.send("before").await.expect("it is taken");
    pings(&mut far, 4).await;
    far.send("behind").await.expect("it is taken");
    let before = near.next().await.expect("a line").expect("text");
    assert_eq!(before, "before");
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
    assert_eq!(handle.failure(), Some(Failure::PingFlood));
    assert!(near.get_ref().is_none());
    assert_eq!(rest(far).await, ["pong"; 3]);
}

#[tokio::test(start_paused = true)]
async fn two_that_come_too_early_do_not_end_it() {
    let (mut near, mut far) = server(policy());
    pings(&mut far, 3).await;
    nothing_for(&mut near, 100).await;
    assert_eq!(near.handle().failure(), None);
    pings(&mut far, 1).await;
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
}

#[tokio::test(start_paused = true)]
async fn a_flood_in_one_packet_costs_no_more_than_the_pings_that_are_let_pass() {
    let (near, mut far) = duplex(1 << 20);
    let near = HeartbeatStream::new(lines(near), Lines::new(), Config::default());
    let mut near = near.police_pings(policy().strikes(5));
    let flood = b"ping\n".repeat(100_000);
    far.write_all(&flood).await.expect("it is taken");
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
    let mut pongs = String::new();
    far.read_to_string(&mut pongs).await.expect("the end");
    assert_eq!(pongs, "pong\n".repeat(6));
}

#[tokio::test(start_paused = true)]
async fn one_that_keeps_the_interval_lives_also_where_many_pings_are_read_at_once() {
    for late in [0, 5_000, 60_000] {
        let (mut near, mut far) = server(policy());
        let handle = near.handle();
        let peer = spawn(async move {
            let mut second = interval(millis(1_000));
            for _ in 0..60 {
                second.tick().await;
                pings(&mut far, 1).await;
            }
            far
        });
        while !peer.is_finished() {
            nothing_for(&mut near, 1).await;
            if late > 0 {
                sleep(millis(late)).await;
            }
        }
        assert_eq!(handle.failure(), None, "read {late} ms late");
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_lets_others_have_their_turn_amid_a_backlog_is_no_reader_that_found_nothing()
{
    let (near, far) = duplex(1 << 20);
    // A few bytes a read: the task's budget is spent before the backlog is.
    let near = Framed::with_capacity(near, LinesCodec::new(), 64);
    let quiet = Config::builder().interval(millis(24 * 3_600_000));
    let near = HeartbeatStream::new(near, Lines::new(), quiet.build().expect("legal"));
    let mut near = near.only_answer().police_pings(policy());
    let mut far = lines(far);
    for _ in 0..10 {
        for _ in 0..150 {
            far.send("x".repeat(60)).await.expect("it is taken");
        }
        for _ in 0..4 {
            pings(&mut far, 1).await;
            sleep(millis(1_000)).await;
        }
    }
    for _ in 0..1_500 {
        near.next()
            .await
            .expect("a line")
            .expect("it keeps the interval");
    }
    let rest = timeout(millis(100), near.next()).await;
    assert!(rest.is_err(), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_pings_a_little_too_often_is_sent_off_in_the_end() {
    let (mut near, mut far) = server(policy());
    let began = Instant::now();
    spawn(async move {
        while far.send("ping").await.is_ok() {
            sleep(millis(999)).await;
        }
    });
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
    // The first is permitted.
    assert_eq!(began.elapsed(), millis(3 * 999));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_forgives_all_strikes_and_pongs_do_not() {
    let (mut near, mut far) = server(policy());
    for _ in 0..10 {
        pings(&mut far, 3).await;
        nothing_for(&mut near, 1).await;
        near.send("news".into()).await.expect("it lives");
    }
    pings(&mut far, 4).await;
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
}

#[tokio::test(start_paused = true)]
async fn without_a_busy_guard_it_is_idle_and_two_hours_are_the_least() {
    let strict = policy().while_idle(false).strikes(0);
    let second = 1_000;
    let two_hours = 2 * 3_600 * second;
    let (mut near, mut far) = server(strict);
    let busy = near.busy();
    for _ in 0..10 {
        pings(&mut far, 1).await;
        nothing_for(&mut near, second).await;
    }
    drop(busy);
    pings(&mut far, 1).await;
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);

    let (mut near, mut far) = server(strict);
    for _ in 0..3 {
        pings(&mut far, 1).await;
        nothing_for(&mut near, two_hours).await;
    }
    pings(&mut far, 1).await;
    nothing_for(&mut near, two_hours - 1).await;
    pings(&mut far, 1).await;
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
}

#[tokio::test(start_paused = true)]
async fn where_no_policy_is_set_nobody_counts() {
    let (near, mut far) = duplex(1 << 20);
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), Config::default());
    let flood = b"ping\n".repeat(100_000);
    far.write_all(&flood).await.expect("it is taken");
    far.write_all(b"news\n").await.expect("it is taken");
    let news = near.next().await.expect("a line").expect("text");
    assert_eq!(news, "news");
}

#[tokio::test(start_paused = true)]
async fn pings_that_are_shown_are_counted_and_the_last_is_not_shown() {
    let (near, mut far) = server(policy());
    let mut near = near.show_heartbeats();
    pings(&mut far, 5).await;
    for _ in 0..3 {
        let shown = near.next().await.expect("an item").expect("a ping");
        assert_eq!(shown, "ping");
    }
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
}

#[tokio::test(start_paused = true)]
async fn beats_that_come_too_often_are_a_flood_as_well() {
    for (every, is_sent_off) in [(1_000, false), (500, true)] {
        let (near, far) = duplex(4_096);
        let beats = Beats::new("beat".to_string(), millis(60_000)).expect("legal");
        let near = HeartbeatStream::new(lines(near), beats, Config::default());
        let mut near = near.police_pings(policy());
        let mut far = lines(far);
        spawn(async move {
            while far.send("beat").await.is_ok() {
                sleep(millis(every)).await;
            }
        });
        let item = timeout(millis(20_000), near.next()).await;
        assert_eq!(item.is_ok(), is_sent_off, "{item:?}");
        let expected = is_sent_off.then_some(Failure::PingFlood);
        assert_eq!(near.handle().failure(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_writer_in_another_task_is_told_and_may_be_the_one_who_finds_out() {
    // The reader finds out.
    let (near, far) = duplex(64);
    let near = HeartbeatStream::new(lines(near), Lines::new(), Config::default());
    let (mut writer, mut reader) = near.police_pings(policy()).split();
    let mut far = lines(far);
    let writing = spawn(async move {
        writer.send("x".repeat(60)).await?;
        writer.send("x".repeat(60)).await
    });
    sleep(millis(1)).await;
    pings(&mut far, 4).await;
    let read = reader.next().await.expect("an item").expect_err("an end");
    assert_eq!(failure(&read), Failure::PingFlood);
    let written = timeout(millis(1), writing).await.expect("it is woken");
    let written = written.expect("no panic").expect_err("an end");
    assert_eq!(failure(&written), Failure::PingFlood);

    // Nobody reads, and a ping of this side's has the writer look for its pong.
    let (near, far) = duplex(64);
    let near = HeartbeatStream::new(lines(near), Lines::new(), Config::default());
    let hourly = policy().min_interval(millis(3_600_000)).expect("legal");
    let mut near = near.police_pings(hourly.strikes(0));
    let mut far = lines(far);
    near.feed("x".repeat(60)).await.expect("it is buffered");
    near.feed("x".repeat(60)).await.expect("it is buffered");
    let writing = spawn(async move { near.flush().await });
    sleep(millis(1)).await;
    pings(&mut far, 2).await;
    let written = timeout(millis(60_000), writing).await.expect("in time");
    let written = written.expect("no panic").expect_err("an end");
    assert_eq!(failure(&written), Failure::PingFlood);
}
