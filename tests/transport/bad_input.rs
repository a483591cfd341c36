//! Input that is split, crowded, too long, or no text.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    spawn,
    time::{sleep, timeout},
};
use tokio_util::codec::LinesCodecError;
use tower_heartbeat::{
    Error, Failure, Setting,
    transport::{HeartbeatStream, Kind, Lines, Protocol},
};

use crate::support::{Connection, config, failure, lines, millis, nothing_for};

fn raw(capacity: usize) -> (Connection, DuplexStream) {
    let (near, far) = duplex(capacity);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config());
    (near, far)
}

#[tokio::test(start_paused = true)]
async fn a_ping_in_pieces_is_answered_once_it_is_whole() {
    let (mut near, mut far) = raw(4_096);
    for piece in [b"p".as_slice(), b"in", b"g"] {
        far.write_all(piece).await.expect("it is taken");
        nothing_for(&mut near, 10).await;
    }
    let unanswered = timeout(millis(10), far.read_u8()).await;
    unanswered.expect_err("it is not a line yet");
    far.write_all(b"\n").await.expect("it is taken");
    nothing_for(&mut near, 10).await;
    let mut answer = [0; 5];
    far.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"pong\n");
}

#[tokio::test(start_paused = true)]
async fn ten_pings_in_one_packet_with_a_line_among_them_are_all_answered() {
    let (mut near, mut far) = raw(4_096);
    let packet = ["ping\n".repeat(5), "news\n".into(), "ping\n".repeat(5)].concat();
    far.write_all(packet.as_bytes()).await.expect("it is taken");
    assert_eq!(near.next().await.expect("a line").expect("text"), "news");
    nothing_for(&mut near, 10).await;
    let mut answers = [0; 50];
    far.read_exact(&mut answers).await.expect("ten answers");
    assert_eq!(answers, *"pong\n".repeat(10).as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_line_over_the_limit_and_bytes_that_are_no_text_are_the_transports_errors() {
    for bad in [vec![b'x'; 100], vec![0xff, 0xfe, b'\n']] {
        let (mut near, mut far) = raw(4_096);
        let handle = near.handle();
        far.write_all(b"before\n").await.expect("it is taken");
        far.write_all(&bad).await.expect("it is taken");
        assert_eq!(near.next().await.expect("a line").expect("text"), "before");
        let error = near.next().await.expect("an item").expect_err("no line");
        assert!(
            matches!(
                error,
                Error::Inner(LinesCodecError::MaxLineLengthExceeded | LinesCodecError::Io(_))
            ),
            "{error:?}"
        );
        assert!(near.next().await.is_none());
        assert_eq!(handle.failure(), Some(Failure::Transport));
        let end = handle.error().expect("it has ended");
        let source = std::error::Error::source(&end).expect("the transport's");
        assert_eq!(source.to_string(), error.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn who_drops_the_connection_at_an_error_of_the_transport_has_it_end_by_that() {
    let (mut near, mut far) = raw(4_096);
    let handle = near.handle();
    far.write_all(&[0xff, b'\n']).await.expect("it is taken");
    near.next().await.expect("an item").expect_err("no line");
    drop(near);
    assert_eq!(handle.failure(), Some(Failure::Transport));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_grows_nothing_and_starves_nobody() {
    let (near, far) = duplex(64 * 1_024);
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), config());
    let handle = near.handle();
    let (mut reading, mut flooding) = tokio::io::split(far);
    let flood = spawn(async move {
        for _ in 0..2_000 {
            flooding.write_all("ping\n".repeat(100).as_bytes()).await?;
        }
        flooding.write_all(b"news\n").await?;
        Ok::<_, io::Error>(flooding)
    });
    // It reads no answer before the flood has ebbed.
    let read = timeout(millis(1_000), near.next()).await;
    let line = read.expect("in time").expect("a line").expect("text");
    assert_eq!(line, "news");
    let _flooding = flood.await.expect("no panic").expect("it was taken");
    let written = near.get_ref().expect("it lives").write_buffer().len();
    assert!(written < 16 * 1_024, "{written} bytes wait to be written");
    // The newest is answered all the same.
    let answers = spawn(async move {
        let mut bytes = vec![0; 1_024];
        let mut all = 0;
        while let Ok(Ok(read)) = timeout(millis(100), reading.read(&mut bytes)).await {
            all += read;
        }
        all
    });
    nothing_for(&mut near, 200).await;
    let all = answers.await.expect("no panic");
    assert!(
        all % 5 == 0 && all > 64 * 1_024 && all < 96 * 1_024,
        "{all}"
    );
    assert_eq!(handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_flood_lets_others_of_its_task_have_their_turn() {
    let mut near = HeartbeatStream::new(Flood { taken: 0 }, Lines::new(), config());
    for turn in 1..10 {
        assert!(near.next().now_or_never().is_none());
        let taken = near.get_ref().expect("it lives").taken;
        assert!(taken <= turn * 128, "{taken} in {turn} turns");
    }
}

/// Nothing but pings, as fast as they are taken.
struct Flood {
    taken: u32,
}

impl Stream for Flood {
    type Item = Result<String, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.taken += 1;
        assert!(self.taken < 1_000_000, "it takes them for ever");
        Poll::Ready(Some(Ok("ping".into())))
    }
}

impl Sink<String> for Flood {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: String) -> io::Result<()> {
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_breaks_under_a_ping_still_hands_over_all_there_was_to_read() {
    let (mut near, far) = raw(4_096);
    let handle = near.handle();
    let mut far = lines(far);
    for number in 0..40 {
        far.send(number.to_string()).await.expect("it is taken");
    }
    drop(far);
    // Nobody reads until a ping finds the pipe broken.
    let error = loop {
        if let Err(error) = near.flush().await {
            break error;
        }
        sleep(millis(5)).await;
    };
    assert_eq!(failure(&error), Failure::Transport);
    assert_eq!(handle.failure(), Some(Failure::Transport));
    for number in 0..40 {
        let line = near.next().await.expect("a line").expect("text");
        assert_eq!(line, number.to_string());
    }
    assert!(near.next().await.is_none());
}

#[test]
fn what_looks_like_a_heartbeat_and_is_none_is_the_users() {
    let (plain, numbered) = (Lines::new(), Lines::new().numbered());
    let data = [
        "",
        "pin",
        "pingpong",
        "ping ",
        "ping -1",
        "ping +1",
        "ping 1 2",
        "ping  1",
        "ping 18446744073709551616",
        "Ping",
        " ping",
        "pong x",
    ];
    for line in data {
        assert_eq!(plain.classify(&line.into()), Kind::Data, "{line:?}");
        assert_eq!(numbered.classify(&line.into()), Kind::Data, "{line:?}");
    }
    assert_eq!(plain.classify(&"pong 7".into()), Kind::Pong(None));
    assert_eq!(numbered.classify(&"pong 7".into()), Kind::Pong(Some(7)));
    assert_eq!(numbered.classify(&"pong".into()), Kind::Pong(Some(0)));
    assert_eq!(plain.classify(&"ping 7".into()), Kind::Ping);
}

#[test]
fn words_that_cannot_be_told_apart_or_are_no_lines_are_refused() {
    for (ping, pong) in [("a", "a"), ("a", "a 1"), ("a 1", "a")] {
        let error = Lines::words(ping, pong).expect_err("they are alike");
        assert_eq!(error.setting(), Setting::PongWord);
        assert_eq!(error.other(), Some(Setting::PingWord));
    }
    let error = Lines::words("", "a").expect_err("it is empty");
    assert_eq!(error.setting(), Setting::PingWord);
    let error = Lines::words("a", "b\n").expect_err("it is two lines");
    assert_eq!((error.setting(), error.other()), (Setting::PongWord, None));
    assert!(Lines::words("a", "a b").is_ok());
}
