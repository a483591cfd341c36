//! Limits other than the pong wait, and slow readers.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncWriteExt, duplex},
    spawn,
    time::{Instant, sleep},
};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tower_heartbeat::{
    Config, Error, Evidence, Failure, PingWhen, Stage,
    transport::{self, HeartbeatStream, Lines},
};

use crate::support::{client, config, lines, live, millis, nothing_for, settings, verdict};

#[tokio::test(start_paused = true)]
async fn heartbeats_are_no_use_and_messages_of_either_side_are() {
    let config = settings()
        .idle_timeout(millis(1_000))
        .build()
        .expect("legal");
    let (mut near, far) = client(config);
    spawn(live(far));
    let began = Instant::now();
    assert_eq!(verdict(&mut near).await, Failure::IdleTimeout);
    let took = began.elapsed();
    assert!(took >= millis(1_000) && took <= millis(1_060), "{took:?}");

    let (mut near, mut far) = client(config);
    for round in 0..6 {
        if round % 2 == 0 {
            near.send("news".into()).await.expect("it is taken");
            far.next().await.expect("a line").expect("text");
        } else {
            far.send("news").await.expect("it is taken");
            near.next().await.expect("a line").expect("text");
        }
        // It would be pinged here, and is told that its peer lives.
        far.send("pong").await.expect("it is taken");
        nothing_for(&mut near, 400).await;
        far.send("pong").await.expect("it is taken");
        nothing_for(&mut near, 400).await;
    }
    assert_eq!(near.handle().failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_busy_guard_keeps_it_from_being_idle_and_lets_quiet_limits_and_busy_pings_act() {
    let config = settings()
        .idle_timeout(millis(1_000))
        .quiet_timeout(millis(2_000))
        .ping_when(PingWhen::NotBusy)
        .build()
        .expect("legal");
    let (mut near, _far) = client(config);
    let busy = near.busy();
    let began = Instant::now();
    assert_eq!(verdict(&mut near).await, Failure::ReadTimeout);
    assert!(began.elapsed() >= millis(2_000));
    drop(busy);

    let config = settings().ping_when(PingWhen::WhileBusy).build();
    let (mut near, _far) = client(config.expect("legal"));
    nothing_for(&mut near, 5_000).await;
    assert_eq!(near.handle().pings(), 0);
    let _busy = near.busy();
    assert_eq!(verdict(&mut near).await, Failure::PongTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_slow_to_poll_is_no_dead_peer() {
    for evidence in [Evidence::AnyTraffic, Evidence::PongOnly] {
        let config = settings().evidence(evidence).build().expect("legal");
        let (mut near, far) = client(config);
        spawn(live(far));
        for _ in 0..10 {
            nothing_for(&mut near, 30).await;
            sleep(millis(3_000)).await;
        }
        assert_eq!(near.handle().failure(), None, "{evidence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_for_each_of_many_messages_has_a_living_peer() {
    for evidence in [Evidence::AnyTraffic, Evidence::PongOnly] {
        let config = settings().evidence(evidence).build().expect("legal");
        let (mut near, mut far) = client(config);
        let handle = near.handle();
        for number in 0..12 {
            far.send(number.to_string()).await.expect("it is taken");
        }
        spawn(live(far));
        for number in 0..12 {
            let line = near.next().await.expect("a line").expect("text");
            assert_eq!(line, number.to_string());
            sleep(millis(300)).await;
        }
        assert_eq!(handle.failure(), None, "{evidence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_slowly_is_life_where_bytes_are_heard() {
    for hears in [false, true] {
        let (near, mut far) = duplex(4_096);
        let (near, ear) = transport::hear(near);
        let near = Framed::new(near, LinesCodec::new());
        let near = HeartbeatStream::new(near, Lines::new(), config());
        let mut near = if hears { near.hear_bytes(&ear) } else { near };
        spawn(async move {
            for _ in 0..20 {
                far.write_all(b"a").await.expect("it is taken");
                sleep(millis(300)).await;
            }
            far.write_all(b"\n").await.expect("it is taken");
            sleep(millis(10_000)).await;
        });
        let read = near.next().await.expect("an item");
        match (hears, read) {
            (true, Ok(line)) => assert_eq!(line, "a".repeat(20)),
            (false, Err(error)) => {
                assert_eq!(crate::support::failure(&error), Failure::PongTimeout)
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_message_and_then_silence_is_silence() {
    let (near, mut far) = duplex(4_096);
    let (near, ear) = transport::hear(near);
    let near = Framed::new(near, LinesCodec::new());
    let mut near = HeartbeatStream::new(near, Lines::new(), config()).hear_bytes(&ear);
    far.write_all(b"half a li").await.expect("it is taken");
    let began = Instant::now();
    let error = near.next().await.expect("an item").expect_err("no line");
    assert_eq!(crate::support::failure(&error), Failure::PongTimeout);
    assert!(began.elapsed() <= config().worst_case_detection());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_blocks_the_ping_and_does_not_hang_the_reader() {
    let (near, _far) = duplex(32);
    let config = Config::builder()
        .interval(millis(400))
        .ready_timeout(millis(100))
        .pong_timeout(millis(1_000))
        .build()
        .expect("legal");
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), config);
    // It stays in the transport's buffer, but for 32 bytes.
    near.feed("x".repeat(60)).await.expect("it is buffered");
    assert_eq!(verdict(&mut near).await, Failure::PingBlocked);

    let (near, _far) = duplex(32);
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), config);
    let on_its_way = near.send("x".repeat(60)).await.expect_err("it is stuck");
    assert_eq!(stage(&on_its_way), Stage::AwaitingResponse);
    let refused = near.send("x".into()).await.expect_err("it has ended");
    assert_eq!(stage(&refused), Stage::NotSent);
}

fn stage(error: &Error<LinesCodecError>) -> Stage {
    let error = error.heartbeat().expect("the heartbeat's own");
    error.stage()
}
