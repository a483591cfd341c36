//! Connections of which only one direction is polled, or none.

use std::{future::poll_fn, pin::Pin, task::Poll};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, split},
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{Config, Evidence, Failure, HeartbeatError, PingWhen, Stage, State};

use crate::support::{
    Side,
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, frame, opening},
    peer::{answer, client, failure_in, live, millis, pings, second},
    socket::Manners,
};

pub(crate) const BOUND: u64 = 1_001;

#[tokio::test(start_paused = true)]
async fn a_writer_whose_writes_are_always_taken_finds_a_frozen_peer() {
    let (mut io, far) = client(second());
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let began = Instant::now();
    let error = loop {
        if let Err(error) = io.write_all(&frame(DATA, 0, 1, b"more")).await {
            break error;
        }
        assert!(began.elapsed() < millis(2 * BOUND), "not found");
        sleep(millis(10)).await;
    };
    assert_eq!(failure_in(&error), Some(Failure::PongTimeout));
    assert!(
        began.elapsed() <= millis(BOUND + 20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(pings(&far), 1);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_finds_a_frozen_peer() {
    let (mut io, far) = client(second());
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    far.block_writes(true);
    let began = Instant::now();
    let data = frame(DATA, 0, 1, b"more");
    let stuck = io.write_all(&data);
    let error = timeout(millis(2 * BOUND), stuck)
        .await
        .expect("it is found")
        .expect_err("it is frozen");
    // It waits in front of the ping.
    assert_eq!(failure_in(&error), Some(Failure::PingBlocked));
    assert!(began.elapsed() <= millis(BOUND), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_finds_a_frozen_peer() {
    let (mut io, far) = client(second());
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    // The ping goes out, and no flush ends after it.
    let began = Instant::now();
    while pings(&far) == 0 {
        assert!(began.elapsed() < millis(BOUND), "it is not pinged");
        io.flush().await.expect("it lives");
        sleep(millis(1)).await;
    }
    far.block_writes(true);
    let began = Instant::now();
    let stuck = timeout(millis(2 * BOUND), io.flush());
    let error = stuck.await.expect("it is found").expect_err("it is frozen");
    assert_eq!(failure_in(&error), Some(Failure::PongTimeout));
    assert!(began.elapsed() <= millis(BOUND), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_lives_though_nobody_reads() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    let mut sent = opening(Side::Server);
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    let mut answered = 0;
    for n in 0..600 {
        sleep(millis(50)).await;
        answer(&far, &mut answered);
        if n % 25 == 0 {
            let data = frame(DATA, 0, 1, &[7; 300]);
            far.send(&data);
            sent.extend(data);
        }
        io.write_all(&frame(DATA, 0, 1, b"more"))
            .await
            .expect("it lives");
    }
    assert!(handle.pings() >= 20, "{}", handle.pings());
    assert_eq!(handle.state(), State::Alive);
    // Nothing of it is lost.
    let mut read = vec![0; sent.len()];
    io.read_exact(&mut read).await.expect("it is all there");
    assert!(read == sent);
}

#[tokio::test(start_paused = true)]
async fn a_pong_behind_more_than_is_read_ahead_is_waited_for() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    // More than any buffer of ours, and then a frozen peer.
    let data = frame(DATA, 0, 1, &[7; 200_000]);
    far.send(&data);
    for _ in 0..600 {
        sleep(millis(50)).await;
        io.write_all(&frame(DATA, 0, 1, b"more"))
            .await
            .expect("it is not judged");
    }
    assert!(pings(&far) >= 1);
    assert_eq!(handle.failure(), None);
    assert!(
        far.unread() > 150_000,
        "it is left to the socket's limits: {}",
        far.unread()
    );
    let mut read = vec![0; data.len() + 9];
    io.read_exact(&mut read).await.expect("it is all there");
    assert!(read[9..] == data);
    let began = Instant::now();
    let error = timeout(millis(2 * BOUND), io.read_u8())
        .await
        .expect("it is found")
        .expect_err("it is frozen");
    assert_eq!(failure_in(&error), Some(Failure::PongTimeout));
    assert!(began.elapsed() <= millis(BOUND), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stuck_ping_does_not_convict_a_peer_whose_bytes_nobody_reads() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    far.block_writes(true);
    let write = tokio::spawn(async move {
        let written = io.write_all(&frame(DATA, 0, 1, b"more")).await;
        (io, written)
    });
    for _ in 0..100 {
        sleep(millis(200)).await;
        far.send(&frame(DATA, 0, 1, b"more"));
    }
    assert_eq!(handle.failure(), None);
    far.block_writes(false);
    write.await.expect("no panic").1.expect("it is taken");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_limit_does_not_convict_a_peer_whose_bytes_nobody_reads() {
    let config = Config::builder()
        .interval(millis(60_000))
        .pong_timeout(millis(60_000))
        .quiet_timeout(millis(500))
        .build()
        .expect("legal settings");
    let (mut io, far) = client(config);
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.write_all(&frame(1, 4, 1, b""))
        .await
        .expect("it is taken");
    for _ in 0..100 {
        sleep(millis(100)).await;
        far.send(&frame(DATA, 0, 1, b"more"));
        io.write_all(&frame(DATA, 0, 1, b"more"))
            .await
            .expect("it lives");
    }
    assert_eq!(handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_writer_goes_on_finding_out_after_the_reader_has_left_in_the_middle_of_a_read() {
    for lives in [true, false] {
        let (io, far) = client(second());
        let handle = io.handle();
        let (mut reader, mut writer) = split(io);
        writer
            .write_all(&opening(Side::Client))
            .await
            .expect("it is taken");
        reader.read_exact(&mut [0; 9]).await.expect("SETTINGS");
        let reading = tokio::spawn(async move { reader.read_u8().await });
        // Long enough for a ping of which the reader saw the due time.
        sleep(millis(460)).await;
        reading.abort();
        drop(reading.await);
        if lives {
            tokio::spawn(live(far, millis(20)));
        }
        let began = Instant::now();
        let end = loop {
            if let Err(error) = writer.write_all(&frame(DATA, 0, 1, b"more")).await {
                break Some(failure_in(&error));
            }
            if began.elapsed() > millis(20_000) {
                break None;
            }
            sleep(millis(10)).await;
        };
        if lives {
            assert_eq!(end, None, "{:?}", began.elapsed());
            assert!(handle.pongs() >= 10);
        } else {
            assert_eq!(end, Some(Some(Failure::PongTimeout)));
            assert!(
                began.elapsed() <= millis(BOUND + 20),
                "{:?}",
                began.elapsed()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_alone_pings_and_finds_out() {
    for lives in [true, false] {
        let (mut io, far) = client(second());
        let handle = io.handle();
        io.write_all(&opening(Side::Client))
            .await
            .expect("it is taken");
        io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
        if lives {
            tokio::spawn(live(far, millis(20)));
        }
        match timeout(millis(20_000), io.read_u8()).await {
            Err(_) => assert!(lives),
            Ok(Ok(byte)) => panic!("nobody sent {byte}"),
            Ok(Err(error)) => {
                assert!(!lives);
                assert_eq!(failure_in(&error), Some(Failure::PongTimeout));
            }
        }
        assert_eq!(handle.pongs() >= 10, lives);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answered_while_nobody_polled_lives() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let mut answered = 0;
    for _ in 0..5 {
        while pings(&far) == answered {
            once(&mut io).await;
            sleep(millis(5)).await;
        }
        answer(&far, &mut answered);
        sleep(millis(60_000)).await;
        assert!(
            once(&mut io).await,
            "the pong is withheld, and nothing is wrong"
        );
        assert_eq!(handle.pongs(), u64::try_from(answered).expect("few"));
    }
    assert_eq!(handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_overtakes_the_flush_of_its_ping_counts() {
    let config = Config::builder()
        .interval(millis(100))
        .pong_timeout(millis(100))
        .max_missed(1)
        .ready_timeout(millis(10_000))
        .ping_when(PingWhen::Always)
        .evidence(Evidence::PongOnly)
        .build()
        .expect("legal settings");
    let (mut io, far) = client(config);
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    // A write gets through at once, a flush after a while.
    far.have_manners(Manners {
        flush_pends: 100,
        ..Manners::EASY
    });
    let mut answered = 0;
    for _ in 0..1_000 {
        if !once(&mut io).await || handle.failure().is_some() {
            break;
        }
        answer(&far, &mut answered);
        sleep(millis(1)).await;
    }
    assert_eq!(handle.failure(), None);
    assert!(handle.pongs() >= 5, "{}", handle.pongs());
}
#[tokio::test(start_paused = true)]
async fn a_response_that_came_before_the_end_is_handed_on_and_its_request_was_sent() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    // A whole request and its whole response, which a writer comes upon that looks for a pong.
    io.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, b"head"))
        .await
        .expect("it is taken");
    let response = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"response");
    for _ in 0..60 {
        if pings(&far) > 0 && far.unread() == 0 && handle.in_flight() > 0 {
            far.send(&response);
        }
        io.write_all(&frame(DATA, 0, 3, b"more"))
            .await
            .expect("it lives");
        sleep(millis(10)).await;
    }
    assert_eq!(
        (handle.in_flight(), far.unread()),
        (0, 0),
        "it was read ahead"
    );
    handle.close();
    let error = io.write_all(b"more").await.expect_err("it is closed");
    let error = HeartbeatError::find(&error).expect("typed");
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    let mut read = vec![0; response.len()];
    io.read_exact(&mut read).await.expect("it had come");
    assert!(read == response);
    let error = io.read_u8().await.expect_err("it is closed");
    assert_eq!(failure_in(&error), Some(Failure::Closed));
}

/// Polls a read once; `true` if it is pending.
pub(crate) async fn once<T: AsyncRead + Unpin>(io: &mut T) -> bool {
    let mut bytes = [0; 64];
    let mut buffer = ReadBuf::new(&mut bytes);
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut buffer).is_pending())).await
}
