//! Clients that ping too often, frame by frame.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    spawn,
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{Config, Failure, PingPolicy, h2_io::PingIo};

use crate::support::{
    Side,
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, WINDOW_UPDATE,
        frame, go_away, opening,
    },
    peer::{failure_in, millis, nothing_for},
    random::Random,
    socket::{Far, Manners, Socket, socket},
};

const SECOND: Duration = Duration::from_secs(1);

/// A ping a second, also while idle.
pub(crate) fn policy() -> PingPolicy {
    strict().while_idle(true)
}

fn strict() -> PingPolicy {
    PingPolicy::grpc().min_interval(SECOND).expect("legal")
}

/// Settings with which this side sends no ping while a test runs.
pub(crate) fn without_pings() -> Config {
    Config::builder()
        .interval(Duration::from_secs(24 * 60 * 60))
        .ready_timeout(READY_TIMEOUT)
        .build()
        .expect("legal")
}

const READY_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"too soon")
}

fn complaint(last: u32) -> Vec<u8> {
    go_away(last, 11, b"too_many_pings")
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, b"x")
}

/// A server that has opened its side, and its client.
async fn server(policy: PingPolicy) -> (PingIo<Socket>, Far) {
    let (near, far) = socket(Manners::EASY, Random::new(0));
    let mut io = PingIo::server(near, without_pings()).police_pings(policy);
    far.send(&opening(Side::Client));
    io.read_exact(&mut [0; 24 + 9]).await.expect("SETTINGS");
    let settings = opening(Side::Server);
    io.write_all(&settings).await.expect("it is taken");
    (io, far)
}

async fn end_of(io: &mut PingIo<Socket>) -> io::Error {
    let mut read = Vec::new();
    let end = timeout(10 * READY_TIMEOUT, io.read_to_end(&mut read)).await;
    end.expect("in time").expect_err("it ends so")
}

async fn sent_off(io: &mut PingIo<Socket>) {
    let mut read = Vec::new();
    let end = timeout(millis(10), io.read_to_end(&mut read)).await;
    let error = end.expect("in time").expect_err("it is sent off");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(failure_in(&error), Some(Failure::PingFlood));
}

#[tokio::test(start_paused = true)]
async fn the_third_ping_that_comes_too_early_is_answered_by_a_go_away_and_the_end() {
    let (mut io, far) = server(policy()).await;
    let handle = io.handle();
    let let_pass = [request(1), request(5), ping().repeat(3)].concat();
    far.send(&let_pass);
    io.read_exact(&mut vec![0; let_pass.len()])
        .await
        .expect("it lives");
    nothing_for(&mut io, 10).await;
    assert_eq!(handle.failure(), None);

    far.send(&ping());
    sent_off(&mut io).await;
    assert_eq!(handle.failure(), Some(Failure::PingFlood));
    let expected = [opening(Side::Server), complaint(5)].concat();
    assert_eq!(far.delivered(), expected);
    let error = io.write_all(&frame(DATA, 0, 1, b"more")).await;
    assert_eq!(
        failure_in(&error.expect_err("it has ended")),
        Some(Failure::PingFlood)
    );
    io.shutdown().await.expect("nothing to wait for");
    assert_eq!(far.delivered(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_came_with_the_ping_that_was_too_many_is_read_and_nothing_after() {
    let (mut io, far) = server(policy()).await;
    let flood = [ping().repeat(4), request(7)].concat();
    far.send(&flood);
    let mut read = vec![0; flood.len()];
    io.read_exact(&mut read).await.expect("it came before");
    assert_eq!(read, flood);
    far.send(&[ping().repeat(1_000), request(9)].concat());
    let unread = far.unread();
    sent_off(&mut io).await;
    assert_eq!(far.unread(), unread);
    let expected = [opening(Side::Server), complaint(7)].concat();
    assert_eq!(far.delivered(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_the_interval_lives_and_one_that_is_always_a_little_early_does_not() {
    for (early, is_sent_off) in [(Duration::ZERO, false), (millis(1), true)] {
        let (mut io, far) = server(policy()).await;
        let handle = io.handle();
        let pinging = spawn(async move {
            for _ in 0..30 {
                far.send(&ping());
                sleep(SECOND - early).await;
            }
        });
        let mut read = Vec::new();
        while !pinging.is_finished() && handle.failure().is_none() {
            drop(timeout(SECOND, io.read_buf(&mut read)).await);
        }
        let expected = is_sent_off.then_some(Failure::PingFlood);
        assert_eq!(handle.failure(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_and_data_forgive_and_other_frames_do_not() {
    let answers = [
        (frame(HEADERS, END_HEADERS, 1, b"x"), true),
        (frame(DATA, 0, 1, b"x"), true),
        (frame(DATA, 0, 1, b""), true),
        (frame(PING, ACK, 0, b"too soon"), false),
        (frame(SETTINGS, ACK, 0, b""), false),
        (frame(WINDOW_UPDATE, 0, 0, b"1234"), false),
    ];
    for (answer, forgives) in answers {
        let (mut io, far) = server(policy()).await;
        let handle = io.handle();
        far.send(&request(1));
        for _ in 0..5 {
            far.send(&ping().repeat(2));
            let mut read = Vec::new();
            drop(timeout(millis(1), io.read_to_end(&mut read)).await);
            drop(io.write_all(&answer).await);
        }
        let expected = (!forgives).then_some(Failure::PingFlood);
        assert_eq!(handle.failure(), expected, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_open_stream_two_hours_are_the_least() {
    let two_hours = 2 * 60 * 60 * 1_000;
    for has_stream in [true, false] {
        let (mut io, far) = server(strict().strikes(0)).await;
        if has_stream {
            far.send(&request(1));
        } else {
            // It was opened, and answered.
            far.send(&request(1));
            io.read_exact(&mut [0; 10]).await.expect("it lives");
            let answer = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"x");
            io.write_all(&answer).await.expect("it lives");
        }
        far.send(&ping());
        let mut read = Vec::new();
        drop(timeout(SECOND, io.read_to_end(&mut read)).await);
        far.send(&ping());
        if has_stream {
            drop(timeout(SECOND, io.read_to_end(&mut read)).await);
            assert_eq!(io.handle().failure(), None);
        } else {
            sent_off(&mut io).await;
        }
    }
    let (mut io, far) = server(strict().strikes(0)).await;
    for _ in 0..3 {
        far.send(&ping());
        io.read_exact(&mut [0; 17]).await.expect("it lives");
        nothing_for(&mut io, two_hours).await;
    }
    assert_eq!(io.handle().failure(), None);
}

#[tokio::test(start_paused = true)]
async fn pongs_are_no_pings() {
    let (mut io, far) = server(policy()).await;
    let pongs = frame(PING, ACK, 0, b"too soon").repeat(100);
    far.send(&pongs);
    io.read_exact(&mut vec![0; pongs.len()])
        .await
        .expect("it lives");
    nothing_for(&mut io, 10).await;
    assert_eq!(io.handle().failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_go_away_waits_for_the_end_of_a_header_block_and_nothing_stands_behind_it() {
    let (io, far) = server(policy()).await;
    let (mut reader, mut writer) = split(io);
    let head = frame(HEADERS, 0, 1, b"half a block");
    let rest = frame(CONTINUATION, END_HEADERS, 1, b"the rest");
    let body = frame(DATA, END_STREAM, 1, b"never sent");
    far.send(&request(1));
    writer.write_all(&head).await.expect("it lives");
    far.send(&ping().repeat(4));
    let mut read = Vec::new();
    drop(timeout(millis(10), reader.read_to_end(&mut read)).await);
    assert_eq!(read.len(), 10 + 4 * 17);
    assert_eq!(
        far.delivered(),
        [opening(Side::Server), head.clone()].concat()
    );

    let both = [rest.clone(), body].concat();
    let error = writer.write_all(&both).await.expect_err("it has ended");
    assert_eq!(failure_in(&error), Some(Failure::PingFlood));
    let expected = [opening(Side::Server), head, rest, complaint(1)].concat();
    assert_eq!(far.delivered(), expected);
    let error = reader.read_u8().await.expect_err("it has ended");
    assert_eq!(failure_in(&error), Some(Failure::PingFlood));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_left_pending_is_repeated_before_the_go_away() {
    let (io, far) = server(policy()).await;
    let (mut reader, mut writer) = split(io);
    far.block_writes(true);
    let body = frame(DATA, 0, 1, b"it waits");
    let sent = body.clone();
    let writing = spawn(async move {
        writer.write_all(&sent).await?;
        writer.flush().await
    });
    sleep(millis(1)).await;
    far.send(&ping().repeat(4));
    let reading = spawn(async move { reader.read_to_end(&mut Vec::new()).await });
    sleep(millis(100)).await;
    assert!(!reading.is_finished());
    far.block_writes(false);
    let ends = async { (reading.await, writing.await) };
    let (read, written) = timeout(millis(1), ends).await.expect("both are woken");
    let error = read.expect("no panic").expect_err("it has ended");
    assert_eq!(failure_in(&error), Some(Failure::PingFlood));
    let error = written.expect("no panic").expect_err("it has ended");
    assert_eq!(failure_in(&error), Some(Failure::PingFlood));
    let expected = [opening(Side::Server), body, complaint(0)].concat();
    assert_eq!(far.delivered(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_flood_from_a_client_that_takes_nothing_ends_after_the_ready_timeout() {
    let (mut io, far) = server(policy()).await;
    let handle = io.handle();
    far.block_writes(true);
    far.send(&ping().repeat(4));
    let began = Instant::now();
    let error = end_of(&mut io).await;
    assert_eq!(failure_in(&error), Some(Failure::PingFlood));
    assert_eq!(began.elapsed(), READY_TIMEOUT);
    assert_eq!(handle.failure(), Some(Failure::PingFlood));
    assert_eq!(far.delivered(), opening(Side::Server));
}

#[tokio::test(start_paused = true)]
async fn its_handle_says_so_at_once_though_the_go_away_waits() {
    let (mut io, far) = server(policy()).await;
    let handle = io.handle();
    far.block_writes(true);
    far.send(&ping().repeat(4));
    nothing_behind_the_flood(&mut io).await;
    assert_eq!(handle.failure(), Some(Failure::PingFlood));
    // What was begun is ended, whatever its user wants.
    let shut = timeout(millis(10), io.shutdown()).await;
    shut.expect_err("the GOAWAY is half written");
    far.block_writes(false);
    io.shutdown().await.expect("it is out");
    let expected = [opening(Side::Server), complaint(0)].concat();
    assert_eq!(far.delivered(), expected);
}

async fn nothing_behind_the_flood(io: &mut PingIo<Socket>) {
    let mut read = Vec::new();
    let end = timeout(millis(10), io.read_to_end(&mut read)).await;
    end.expect_err("it waits");
    assert!(ping().repeat(4).starts_with(&read));
}

#[tokio::test(start_paused = true)]
async fn before_this_side_has_opened_or_after_it_was_shut_down_there_is_no_go_away() {
    for opens in [false, true] {
        let (near, far) = socket(Manners::EASY, Random::new(0));
        let mut io = PingIo::server(near, without_pings()).police_pings(policy());
        far.send(&[opening(Side::Client), ping().repeat(4)].concat());
        let mut written = Vec::new();
        if opens {
            written = opening(Side::Server);
            io.write_all(&written).await.expect("it is taken");
            io.shutdown().await.expect("it is taken");
        }
        let began = Instant::now();
        let error = end_of(&mut io).await;
        assert_eq!(failure_in(&error), Some(Failure::PingFlood));
        // The opening may come yet.
        let wait = if opens { millis(0) } else { READY_TIMEOUT };
        assert_eq!(began.elapsed(), wait);
        assert_eq!(far.delivered(), written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_may_be_sent_off_as_well() {
    let (near, far) = socket(Manners::EASY, Random::new(0));
    let mut io = PingIo::client(near, without_pings()).police_pings(policy());
    let begin = [opening(Side::Client), request(1)].concat();
    io.write_all(&begin).await.expect("it is taken");
    far.send(&[opening(Side::Server), ping().repeat(4)].concat());
    sent_off(&mut io).await;
    assert_eq!(far.delivered(), [begin, complaint(0)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_second_go_away_takes_nothing_back() {
    let (mut io, far) = server(policy()).await;
    far.send(&[request(1), request(3)].concat());
    io.read_exact(&mut [0; 20]).await.expect("it lives");
    let graceful = go_away(1, 0, b"");
    io.write_all(&graceful).await.expect("it lives");
    far.send(&ping().repeat(4));
    sent_off(&mut io).await;
    let expected = [opening(Side::Server), graceful, complaint(1)].concat();
    assert_eq!(far.delivered(), expected);
}
