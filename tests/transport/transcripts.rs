//! What the users send is what the users get, whatever heartbeats go between.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, duplex},
    runtime::Builder,
    spawn,
    time::{sleep, timeout},
};
use tokio_util::codec::{Framed, LinesCodec};
use tower_heartbeat::{
    Config, PingWhen,
    transport::{HeartbeatStream, Lines},
};

use crate::{strict::Strict, support::millis};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn messages_arrive_whole_in_order_and_once_and_heartbeats_not_at_all(
        there in script(),
        back in script(),
        chunks in (1_usize..=7, 1_usize..=7),
        capacity in 1_usize..64,
        is_split in any::<bool>(),
        is_numbered in any::<bool>(),
    ) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (a, b) = duplex(capacity);
        let lines = if is_numbered { Lines::new().numbered() } else { Lines::new() };
        let expected = (said(&there), said(&back));
        let (heard_by_b, heard_by_a, pings) = runtime.block_on(async {
            let a = HeartbeatStream::new(framed(a, chunks.0), lines.clone(), config());
            let b = HeartbeatStream::new(framed(b, chunks.1), lines, config());
            let handles = [a.handle(), b.handle()];
            let a = spawn(talk(a, there, back.len(), is_split));
            let b = spawn(talk(b, back, expected.0.len(), true));
            let heard = (b.await.expect("no panic"), a.await.expect("no panic"));
            (heard.0, heard.1, handles.map(|handle| handle.pings()))
        });
        prop_assert_eq!((heard_by_b, heard_by_a), expected);
        // Each pause is longer than the interval.
        prop_assert!(pings[0] + pings[1] >= 1);
    }
}

/// Lines, and pauses before each.
fn script() -> impl Strategy<Value = Vec<(String, u64)>> {
    let line = prop_oneof![
        "[a-z]{0,12}",
        Just("pin".to_string()),
        Just("pingpong".to_string()),
        Just("ping one".to_string()),
    ];
    let line = line.prop_map(|line| {
        if line == "ping" || line == "pong" {
            String::new()
        } else {
            line
        }
    });
    prop::collection::vec((line, prop_oneof![Just(0_u64), 0_u64..60]), 1..30)
}

fn said(script: &[(String, u64)]) -> Vec<String> {
    script.iter().map(|(line, _)| line.clone()).collect()
}

fn config() -> Config {
    Config::builder()
        .interval(millis(10))
        .pong_timeout(millis(500))
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings")
}

/// Says all of the script, hears as many lines, and stays until the other side can have heard, too.
async fn talk<T>(
    connection: T,
    script: Vec<(String, u64)>,
    count: usize,
    split: bool,
) -> Vec<String>
where
    T: Stream<Item = Result<String, T::Error>> + Sink<String> + Send + Unpin + 'static,
    T::Error: std::fmt::Debug + Send,
{
    if split {
        let (mut writer, mut reader) = connection.split();
        let writing = spawn(async move {
            for (line, pause) in script {
                sleep(millis(pause)).await;
                writer.send(line).await.expect("alive");
            }
            writer
        });
        let mut heard = Vec::new();
        for _ in 0..count {
            heard.push(reader.next().await.expect("a line").expect("text"));
        }
        // Whoever is done goes on answering.
        let rest = timeout(millis(3_000), reader.next()).await;
        assert!(!matches!(rest, Ok(Some(Ok(_)))), "too much: {rest:?}");
        let mut writer = writing.await.expect("no panic");
        // A heartbeat that is cut off would be a line of its own.
        let _the_other_may_be_gone = writer.close().await;
        return heard;
    }
    let mut connection = connection;
    let mut heard = Vec::new();
    for (line, pause) in script {
        let pause = sleep(millis(pause));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                line = connection.next(), if heard.len() < count => {
                    heard.push(line.expect("a line").expect("text"));
                }
            }
        }
        connection.feed(line).await.expect("alive");
        connection.flush().await.expect("alive");
    }
    while heard.len() < count {
        heard.push(connection.next().await.expect("a line").expect("text"));
    }
    let rest = timeout(millis(3_000), connection.next()).await;
    assert!(!matches!(rest, Ok(Some(Ok(_)))), "too much: {rest:?}");
    let _the_other_may_be_gone = connection.close().await;
    heard
}

fn framed<T>(io: T, chunk: usize) -> Strict<Framed<Chunks<T>, LinesCodec>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut framed = Framed::new(Chunks { io, chunk }, LinesCodec::new());
    framed.set_backpressure_boundary(16);
    Strict::new(framed)
}

/// Reads and writes a few bytes at a time.
struct Chunks<T> {
    io: T,
    chunk: usize,
}

impl<T: AsyncRead + Unpin> AsyncRead for Chunks<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let chunk = self.chunk;
        let mut few = buffer.take(chunk);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut few);
        let bytes = few.filled().to_vec();
        buffer.put_slice(&bytes);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Chunks<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = bytes.len().min(self.chunk);
        Pin::new(&mut self.io).poll_write(cx, &bytes[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
