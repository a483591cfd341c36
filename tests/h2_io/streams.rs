//! Requests in flight, as the frames tell.

use std::{future::poll_fn, pin::Pin, task::Poll};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::Instant,
};
use tower_heartbeat::{Config, ConfigBuilder, Failure, PingWhen, h2_io::PingIo};

use crate::support::{
    Side,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PUSH_PROMISE, RST_STREAM, frame,
        go_away, opening,
    },
    peer::{client, live, millis, nothing_for, second},
    random::Random,
    socket::{Far, Manners, Socket, socket},
};

enum Step {
    Written(Vec<u8>),
    Read(Vec<u8>),
}

use Step::{Read, Written};

/// Whether requests are in flight after each step.
async fn follow(mut io: PingIo<Socket>, far: Far, steps: Vec<(Step, bool)>) {
    let handle = io.handle();
    for (n, (step, busy)) in steps.into_iter().enumerate() {
        match step {
            Written(bytes) => io.write_all(&bytes).await.expect("it is taken"),
            Read(bytes) => {
                far.send(&bytes);
                while far.unread() > 0 {
                    once(&mut io).await;
                }
            }
        }
        assert_eq!(handle.in_flight() > 0, busy, "after step {n}");
        assert_eq!(handle.failure(), None);
    }
}

async fn once(io: &mut PingIo<Socket>) {
    let mut bytes = [0; 4_096];
    let mut buffer = ReadBuf::new(&mut bytes);
    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut buffer))).await;
    assert!(matches!(polled, Poll::Ready(Ok(())) | Poll::Pending));
}

fn headers(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, b"head")
}

fn data(stream: u32, flags: u8) -> Vec<u8> {
    frame(DATA, flags, stream, b"data")
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_flight_until_both_sides_have_ended_it() {
    let (io, far) = client(second());
    let steps = vec![
        (Written(opening(Side::Client)), false),
        (Written(headers(1, 0)), true),
        (Written(data(1, 0)), true),
        (Read(headers(1, 0)), true),
        (Read(data(1, END_STREAM)), true),
        (Written(data(1, END_STREAM)), false),
        // Without bodies, and with trailers.
        (Written(headers(3, END_STREAM)), true),
        (Read(headers(3, END_STREAM)), false),
        (Written(headers(5, END_STREAM)), true),
        (Read([headers(5, 0), data(5, 0)].concat()), true),
        (Read(headers(5, END_STREAM)), false),
        // A head of two frames, and the answer's.
        (Written(frame(HEADERS, END_STREAM, 7, b"he")), true),
        (Written(frame(CONTINUATION, END_HEADERS, 7, b"ad")), true),
        (Read(frame(HEADERS, END_STREAM, 7, b"")), true),
        (Read(frame(CONTINUATION, 0, 7, b"a")), true),
        (Read(frame(CONTINUATION, END_HEADERS, 7, b"d")), false),
        // What comes after the end is nothing new.
        (Read(data(7, END_STREAM)), false),
        (Written(headers(7, 0)), false),
        // Nor is what is promised, or an odd number from the server.
        (
            Read(frame(PUSH_PROMISE, END_HEADERS, 7, &[0, 0, 0, 2])),
            false,
        ),
        (Read([headers(2, 0), headers(9, 0)].concat()), false),
    ];
    follow(io, far, steps).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_either_side_ends_a_request() {
    let (io, far) = client(second());
    let steps = vec![
        (Written(opening(Side::Client)), false),
        (Written(headers(1, 0)), true),
        (Written(reset(1)), false),
        (Written(headers(3, END_STREAM)), true),
        // Refused.
        (Read(reset(3)), false),
        (Written([headers(5, 0), headers(7, 0)].concat()), true),
        (Read([headers(5, 0), reset(5)].concat()), true),
        (Read(reset(7)), false),
        (Read(reset(7)), false),
    ];
    follow(io, far, steps).await;
}

#[tokio::test(start_paused = true)]
async fn a_goaway_ends_what_the_server_does_not_take_and_what_comes_after_it() {
    let (io, far) = client(second());
    let steps = vec![
        (Written(opening(Side::Client)), false),
        (
            Written([headers(1, END_STREAM), headers(3, 0), headers(5, 0)].concat()),
            true,
        ),
        (Read(go_away(3, 0, b"")), true),
        (Read(headers(1, END_STREAM)), true),
        // It was on its way.
        (Written(headers(7, 0)), true),
        (Read(headers(3, END_STREAM)), true),
        (Written(data(3, END_STREAM)), false),
        (Written(headers(9, 0)), false),
    ];
    follow(io, far, steps).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_counts_the_clients_requests() {
    let (near, far) = socket(Manners::EASY, Random::new(0));
    let steps = vec![
        (Written(opening(Side::Server)), false),
        (Read(opening(Side::Client)), false),
        (Read(headers(1, END_STREAM)), true),
        (Written(headers(1, 0)), true),
        (Written(data(1, END_STREAM)), false),
        (Read(headers(3, 0)), true),
        (Written(reset(3)), false),
        (
            Written(frame(PUSH_PROMISE, END_HEADERS, 3, &[0, 0, 0, 2])),
            false,
        ),
        (Written(headers(2, 0)), false),
    ];
    follow(PingIo::server(near, second()), far, steps).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_not_take_any_more_is_not_in_flight() {
    let (near, far) = socket(Manners::EASY, Random::new(0));
    let goodbye = go_away(1, 0, b"");
    let steps = vec![
        (Written(opening(Side::Server)), false),
        (Read(opening(Side::Client)), false),
        (Read([headers(1, END_STREAM), headers(3, 0)].concat()), true),
        (Written(goodbye[..12].to_vec()), true),
        (Written(goodbye[12..].to_vec()), true),
        // On its way when the server said so, and never answered.
        (Read(headers(5, END_STREAM)), true),
        (Written(headers(1, END_STREAM)), false),
        (Read(headers(7, END_STREAM)), false),
    ];
    follow(PingIo::server(near, second()), far, steps).await;
}

async fn opened(set: fn(ConfigBuilder) -> ConfigBuilder) -> (PingIo<Socket>, Far) {
    let config = Config::builder()
        .interval(millis(100))
        .pong_timeout(millis(100));
    let (mut io, far) = client(set(config).build().expect("legal settings"));
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    (io, far)
}

#[tokio::test(start_paused = true)]
async fn pings_while_busy_sleep_between_requests() {
    let (mut io, far) = opened(|config| config.ping_when(PingWhen::WhileBusy)).await;
    let handle = io.handle();
    tokio::spawn(live(far.clone(), millis(5)));
    nothing_for(&mut io, 10_000).await;
    assert_eq!(handle.pings(), 0);
    io.write_all(&headers(1, END_STREAM))
        .await
        .expect("it is taken");
    nothing_for(&mut io, 1_000).await;
    let busy = handle.pings();
    assert!((9..=11).contains(&busy), "{busy}");
    far.send(&headers(1, END_STREAM));
    io.read_exact(&mut [0; 13]).await.expect("the answer");
    nothing_for(&mut io, 10_000).await;
    assert_eq!(handle.pings(), busy);
    assert_eq!(handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closes_and_a_busy_one_does_not() {
    let (mut io, far) = opened(|config| config.idle_timeout(millis(1_000))).await;
    let handle = io.handle();
    tokio::spawn(live(far.clone(), millis(5)));
    io.write_all(&headers(1, END_STREAM))
        .await
        .expect("it is taken");
    nothing_for(&mut io, 10_000).await;
    assert_eq!(handle.failure(), None);
    far.send(&headers(1, END_STREAM));
    io.read_exact(&mut [0; 13]).await.expect("the answer");
    let began = Instant::now();
    io.read_u8().await.expect_err("it is closed");
    assert_eq!(handle.failure(), Some(Failure::IdleTimeout));
    let waited = began.elapsed();
    assert!(
        waited >= millis(1_000) && waited <= millis(1_000 + 26),
        "{waited:?}"
    );
}
