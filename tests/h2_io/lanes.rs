//! The two directions of one connection, in two tasks.

use std::{
    future::{pending, poll_fn},
    io,
    pin::Pin,
    task::Poll,
    thread,
};

use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    runtime::Builder,
    task::{JoinHandle, coop::consume_budget, spawn},
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{Config, Evidence, Failure, h2_io::PingIo};

use crate::support::{
    Side,
    frames::{ACK, DATA, PING, frame, go_away, opening},
    peer::{client, failure_in, live, millis, nothing_for, pings, second},
    random::Random,
    socket::{Far, Manners, Socket, socket},
};

/// A reader and a writer, each stuck in a task of its own.
async fn stuck(
    io: PingIo<Socket>,
    far: &Far,
) -> (JoinHandle<io::Result<u8>>, JoinHandle<io::Result<()>>) {
    let (mut reader, mut writer) = split(io);
    writer
        .write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    reader.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let reading = spawn(async move { reader.read_u8().await });
    // A ping is out by now.
    sleep(millis(460)).await;
    assert_eq!(pings(far), 1);
    far.block_writes(true);
    let writing = spawn(async move { writer.write_all(&frame(DATA, 0, 1, b"more")).await });
    sleep(millis(1)).await;
    (reading, writing)
}

#[tokio::test(start_paused = true)]
async fn a_death_wakes_both_lanes() {
    let (io, far) = client(second());
    let (reading, writing) = stuck(io, &far).await;
    let both = async { (reading.await, writing.await) };
    let (read, written) = timeout(millis(1_000), both).await.expect("both are told");
    let errors = [
        read.expect("no panic").expect_err("it is frozen"),
        written.expect("no panic").expect_err("it is frozen"),
    ];
    for error in errors {
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(failure_in(&error), Some(Failure::PongTimeout));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_from_another_thread_wakes_both_lanes() {
    let (io, far) = client(second());
    let handle = io.handle();
    let (reading, writing) = stuck(io, &far).await;
    let began = Instant::now();
    thread::spawn(move || handle.close())
        .join()
        .expect("no panic");
    let both = async { (reading.await, writing.await) };
    let (read, written) = timeout(millis(10), both).await.expect("both are told");
    let errors = [
        read.expect("no panic").expect_err("it is closed"),
        written.expect("no panic").expect_err("it is closed"),
    ];
    for error in errors {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(failure_in(&error), Some(Failure::Closed));
    }
    assert_eq!(began.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_cannot_be_written_fails_the_writer_and_leaves_the_reader_its_bytes() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let last = [frame(DATA, 1, 1, b"the last"), go_away(1, 0, b"")].concat();
    far.fail_writes(io::ErrorKind::BrokenPipe);
    let (mut reader, mut writer) = split(io);
    let mut read = vec![0; last.len()];
    let reading = spawn(async move { reader.read_exact(&mut read).await.map(|_| (reader, read)) });
    // The ping is due, and fails.
    assert_eq!(
        timeout(millis(500), handle.closed()).await,
        Ok(Failure::Transport)
    );
    far.send(&last);
    far.finish();
    let (mut reader, read) = reading.await.expect("no panic").expect("it is readable");
    assert_eq!(read, last);
    assert_eq!(reader.read(&mut [0; 9]).await.expect("the end"), 0);
    let error = writer.write_all(b"more").await.expect_err("it is broken");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let error = handle.error().expect("it has ended");
    let source = std::error::Error::source(&error).expect("the IO's error");
    assert_eq!(source.to_string(), "broken pipe");
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_one_lane_began_is_ended_for_the_other_when_the_one_is_gone() {
    let (io, far) = client(second());
    let (mut reader, mut writer) = split(io);
    writer
        .write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    reader.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let before = far.accepted().len();
    let reading = spawn(async move { reader.read_u8().await });
    // The reader's poll begins the ping, and finds the IO full.
    sleep(millis(400)).await;
    far.block_writes(true);
    sleep(millis(60)).await;
    assert_eq!(far.accepted().len(), before);
    let data = frame(DATA, 0, 1, b"more");
    let sent = data.clone();
    let writing = spawn(async move { writer.write_all(&sent).await });
    sleep(millis(1)).await;
    reading.abort();
    drop(reading.await);
    far.block_writes(false);
    let written = timeout(millis(1), writing).await.expect("it is woken");
    written.expect("no panic").expect("it is taken");
    assert_eq!(pings(&far), 1);
    assert!(far.delivered().ends_with(&data));
}

#[tokio::test(start_paused = true)]
async fn a_drop_with_a_ping_out_closes() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    nothing_for(&mut io, 460).await;
    assert_eq!(pings(&far), 1);
    drop(io);
    assert_eq!(handle.failure(), Some(Failure::Closed));
    assert_eq!(handle.closed().await, Failure::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_comes_before_the_error_that_follows_it() {
    let (mut io, far) = client(second());
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    nothing_for(&mut io, 460).await;
    let pong = frame(PING, ACK, 0, b"not ours");
    far.send(&pong[..12]);
    nothing_for(&mut io, 1).await;
    far.fail_reads(io::ErrorKind::ConnectionReset);
    let mut read = Vec::new();
    let error = io.read_to_end(&mut read).await.expect_err("it is reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(read, pong[..12]);
}

#[tokio::test(start_paused = true)]
async fn a_pong_counts_once_however_often_it_comes() {
    let config = Config::builder()
        .interval(millis(100))
        .pong_timeout(millis(100))
        .max_missed(1)
        .evidence(Evidence::PongOnly)
        .build()
        .expect("legal settings");
    let (mut io, far) = client(config);
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    nothing_for(&mut io, 120).await;
    let ping = far.delivered();
    let payload = &ping[ping.len() - 8..];
    let pong = frame(PING, ACK, 0, payload);
    for copies in [1, 3, 50] {
        far.send(&pong.repeat(copies));
    }
    let mut read = vec![0; 53 * 17];
    io.read_exact(&mut read)
        .await
        .expect("all but the first are handed on");
    assert_eq!(read, pong.repeat(53));
    nothing_for(&mut io, 1).await;
    assert_eq!(handle.pongs(), 1);
    // The next ping isn't answered by them.
    let error = timeout(millis(300), io.read_u8())
        .await
        .expect("it is found")
        .expect_err("it is frozen");
    assert_eq!(failure_in(&error), Some(Failure::PongTimeout));
}

/// Outside of its workers a runtime wakes at once whoever has used up its budget.
#[test]
fn a_poll_whose_budget_is_spent_returns() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let (send, done) = std::sync::mpsc::channel();
    thread::spawn(move || {
        runtime.block_on(async {
            let (near, _far) = tokio::io::duplex(1_024);
            let config = Config::detect_within(millis(20)).expect("legal settings");
            let mut io = PingIo::client(near, config);
            io.write_all(&opening(Side::Client))
                .await
                .expect("it is taken");
            let handle = io.handle();
            while handle.failure().is_none() {
                // The ping that is due finds the IO without a budget, and so does a reading ahead.
                poll_fn(|cx| {
                    spend_budget(cx);
                    let _pending = Pin::new(&mut io).poll_flush(cx);
                    Poll::Ready(())
                })
                .await;
                tokio::task::yield_now().await;
            }
        });
        send.send(()).expect("it is awaited");
    });
    done.recv_timeout(millis(20_000)).expect("it doesn't spin");
}

fn spend_budget(cx: &mut std::task::Context<'_>) {
    loop {
        let consumed = std::pin::pin!(consume_budget());
        if consumed.poll(cx).is_pending() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_awkward_io_carries_pings_for_a_long_time() {
    let manners = Manners {
        write: 3,
        read: 2,
        write_pends: 40,
        flush_pends: 40,
        read_pends: 40,
        vectored: false,
        buffers: true,
    };
    let (near, far) = socket(manners, Random::new(1));
    far.send(&opening(Side::Server));
    let mut io = PingIo::client(near, second());
    let handle = io.handle();
    tokio::spawn(live(far, millis(10)));
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.flush().await.expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let reading = async {
        io.read_u8().await.expect_err("nobody sends anything");
        pending::<()>().await;
    };
    timeout(millis(60_000), reading)
        .await
        .expect_err("it lives");
    assert!(handle.pongs() > 100, "{}", handle.pongs());
    assert_eq!(handle.failure(), None);
}
