//! A round trip through a `Mux` beside one through a task written by hand.
//!
//! `cargo bench --bench mux --features transport`: rounds of both in turns, over a duplex and over loopback, with one caller
//! and with 64; medians, and the median of the ratios. `-- only mux` (or `hand`) sends 20,000 requests through one of them in one
//! thread, for `valgrind --tool=callgrind`, whose instruction counts no noise reaches.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    collections::HashMap,
    io,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, future::join_all};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    net::{TcpListener, TcpStream},
    select,
    sync::{mpsc, oneshot},
};
use tokio_util::{
    bytes::{Buf, BufMut, BytesMut},
    codec::{Decoder, Encoder, Framed},
};
use tower::{Service, ServiceExt};
use tower_heartbeat::{
    BoxError,
    mux::{self, Mux},
    transport::{Ids, Kind, Protocol},
};

/// Two numbers: an id and a value. The value zero is a ping, one a pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    id: u64,
    value: u64,
}

#[derive(Clone, Copy)]
struct Frames;

impl Decoder for Frames {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Frame>> {
        if bytes.len() < 16 {
            return Ok(None);
        }
        let (id, value) = (bytes.get_u64(), bytes.get_u64());
        Ok(Some(Frame { id, value }))
    }
}

impl Encoder<Frame> for Frames {
    type Error = io::Error;

    fn encode(&mut self, frame: Frame, bytes: &mut BytesMut) -> io::Result<()> {
        bytes.reserve(16);
        bytes.put_u64(frame.id);
        bytes.put_u64(frame.value);
        Ok(())
    }
}

impl Protocol for Frames {
    type Message = Frame;

    fn classify(&self, frame: &Frame) -> Kind {
        match frame.value {
            0 => Kind::Ping,
            1 => Kind::Pong(Some(frame.id)),
            _ => Kind::Data,
        }
    }

    fn ping(&mut self, nonce: NonZeroU64) -> Option<Frame> {
        Some(Frame {
            id: nonce.get(),
            value: 0,
        })
    }

    fn pong(&mut self, ping: &Frame) -> Option<Frame> {
        Some(Frame { value: 1, ..*ping })
    }
}

impl Ids<Frame> for Frames {
    fn id(&self, frame: &Frame) -> Option<u64> {
        Some(frame.id)
    }

    fn set_id(&self, frame: &mut Frame, id: u64) {
        frame.id = id;
    }
}

/// What the two have in common.
trait Client: Clone + Send + 'static {
    fn ask(&mut self, value: u64) -> impl Future<Output = Result<Frame, BoxError>> + Send;
}

impl Client for Mux<Frame> {
    async fn ask(&mut self, value: u64) -> Result<Frame, BoxError> {
        Ok(self.ready().await?.call(Frame { id: 0, value }).await?)
    }
}

/// As one writes it: a bounded queue, a map of who waits, a task that does both directions.
#[derive(Clone)]
struct ByHand(mpsc::Sender<(Frame, oneshot::Sender<Frame>)>);

impl ByHand {
    fn new<T>(io: T) -> ByHand
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, mut calls) = mpsc::channel::<(Frame, oneshot::Sender<Frame>)>(64);
        tokio::spawn(async move {
            let (mut sink, mut stream) = Framed::new(io, Frames).split();
            let mut waiting = HashMap::new();
            let mut last = 0;
            loop {
                select! {
                    call = calls.recv() => {
                        let Some((mut frame, answer)) = call else { break };
                        last += 1;
                        frame.id = last;
                        waiting.insert(last, answer);
                        sink.feed(frame).await?;
                        // What else there is goes out with it.
                        while let Ok((mut frame, answer)) = calls.try_recv() {
                            last += 1;
                            frame.id = last;
                            waiting.insert(last, answer);
                            sink.feed(frame).await?;
                        }
                        sink.flush().await?;
                    }
                    frame = stream.next() => {
                        let Some(frame) = frame else { break };
                        let frame: Frame = frame?;
                        if let Some(answer) = waiting.remove(&frame.id) {
                            // The caller may have left.
                            let _ = answer.send(frame);
                        }
                    }
                }
            }
            io::Result::Ok(())
        });
        ByHand(sender)
    }
}

impl Client for ByHand {
    async fn ask(&mut self, value: u64) -> Result<Frame, BoxError> {
        let (answer, answered) = oneshot::channel();
        self.0.send((Frame { id: 0, value }, answer)).await?;
        Ok(answered.await?)
    }
}

fn through_mux<T>(io: T) -> Mux<Frame>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mux, connection) = mux::by_id(Frames, Frames).pair(Framed::new(io, Frames));
    tokio::spawn(connection);
    mux
}

/// Sends everything back.
async fn echo<T>(io: T) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(io);
    tokio::io::copy(&mut reader, &mut writer).await?;
    Ok(())
}

/// A connection to an echo over a duplex.
fn in_memory() -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
    let (near, far) = duplex(65_536);
    tokio::spawn(echo(far));
    near
}

/// The same over loopback.
async fn over_tcp() -> Result<TcpStream, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connecting = TcpStream::connect(listener.local_addr()?);
    let (near, far) = tokio::try_join!(connecting, listener.accept())?;
    near.set_nodelay(true)?;
    far.0.set_nodelay(true)?;
    tokio::spawn(echo(far.0));
    Ok(near)
}

/// Time for `requests` round trips of each of `callers`, one after the other.
async fn round<C: Client>(client: &C, callers: u64, requests: u64) -> Result<Duration, BoxError> {
    let start = Instant::now();
    let tasks = (0..callers).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move {
            for value in 2..requests + 2 {
                assert_eq!(client.ask(value).await?.value, value);
            }
            Ok::<_, BoxError>(())
        })
    });
    for ended in join_all(tasks).await {
        ended??;
    }
    Ok(start.elapsed())
}

/// New connections for each round: one that answers 64 callers in two halves instead of at once goes on so.
async fn compare(what: &str, callers: u64) -> Result<(), BoxError> {
    const ROUNDS: usize = 41;
    let requests = 4_000 / callers;
    let (mut times, mut ratios) = (Vec::new(), Vec::new());
    for turn in 0..ROUNDS {
        let (mux, hand) = match what {
            "tcp" => (
                through_mux(over_tcp().await?),
                ByHand::new(over_tcp().await?),
            ),
            _ => (through_mux(in_memory()), ByHand::new(in_memory())),
        };
        let (a, b) = if turn % 2 == 0 {
            let a = round(&mux, callers, requests).await?;
            (a, round(&hand, callers, requests).await?)
        } else {
            let b = round(&hand, callers, requests).await?;
            (round(&mux, callers, requests).await?, b)
        };
        ratios.push(a.as_secs_f64() / b.as_secs_f64());
        times.push((a, b));
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / (callers * requests) as f64;
    let mux = median(times.iter().map(|time| micros(time.0)).collect());
    let hand = median(times.iter().map(|time| micros(time.1)).collect());
    println!(
        "{what:6}, {callers:2} callers: mux {mux:6.2} µs, by hand {hand:6.2} µs, ratio {:.3}",
        median(ratios)
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn all() -> Result<(), BoxError> {
    for callers in [1, 64] {
        compare("duplex", callers).await?;
        compare("tcp", callers).await?;
    }
    Ok(())
}

async fn only(which: &str) -> Result<(), BoxError> {
    let took = match which {
        "mux" => round(&through_mux(in_memory()), 1, 20_000).await?,
        "hand" => round(&ByHand::new(in_memory()), 1, 20_000).await?,
        "nothing" => Duration::ZERO,
        other => return Err(format!("{other} is neither mux nor hand").into()),
    };
    println!("{took:?}");
    Ok(())
}

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("only") => runtime.block_on(only(&arguments[2])),
        _ => runtime.block_on(all()),
    }
}
