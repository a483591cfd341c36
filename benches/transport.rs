//! A transport of lines with a heartbeat, beside the same without.
//!
//! `cargo bench --bench transport --features transport`: lines of 16 bytes over loopback TCP and in memory, in turns, in
//! about half a minute. A number after `--` is how many rounds.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    fmt::Debug,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    runtime::{Handle, Runtime},
    sync::mpsc,
};
use tokio_util::codec::{Framed, LinesCodec};
use tower_heartbeat::{
    BoxError, Config,
    transport::{HeartbeatStream, Lines},
};

fn main() -> Result<(), BoxError> {
    // cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.find(|argument| !argument.starts_with("--"));
    throughput(rounds.map_or(Ok(ROUNDS), |rounds| rounds.parse())?)
}

const ROUNDS: usize = 61;

const LINE: &str = "sixteen bytes in";
/// Messages of a flush.
const BATCH: usize = 100;
const CAPACITY: usize = 64 * 1_024;

/// What the measured side does, and how the far end answers that.
#[derive(Clone, Copy)]
enum Work {
    Read,
    WriteBatches,
    WriteEach,
    Ask,
}

impl Work {
    const ALL: [(&str, Work, usize); 4] = [
        ("read", Work::Read, 500_000),
        ("write, flushed by the hundred", Work::WriteBatches, 500_000),
        ("write, flushed one by one", Work::WriteEach, 10_000),
        ("ask and read the answer", Work::Ask, 4_000),
    ];

    async fn done_by<C>(self, connection: &mut C, count: usize) -> Duration
    where
        C: Stream<Item = Result<String, <C as Sink<String>>::Error>> + Sink<String> + Unpin,
        <C as Sink<String>>::Error: Debug,
    {
        let start = Instant::now();
        match self {
            Work::Read => {
                for _ in 0..count {
                    let line = connection.next().await.expect("a line").expect("text");
                    assert_eq!(line.len(), LINE.len());
                }
            }
            Work::WriteBatches => {
                for _ in 0..count / BATCH {
                    for _ in 0..BATCH {
                        connection.feed(LINE.into()).await.expect("alive");
                    }
                    connection.flush().await.expect("alive");
                }
            }
            Work::WriteEach => {
                for _ in 0..count {
                    connection.send(LINE.into()).await.expect("alive");
                }
            }
            Work::Ask => {
                for _ in 0..count {
                    connection.send(LINE.into()).await.expect("alive");
                    connection.next().await.expect("a line").expect("text");
                }
            }
        }
        start.elapsed()
    }

    /// The far end, in bytes, so that it costs little.
    async fn met_by<T>(self, mut far: T) -> io::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let lines = format!("{LINE}\n").repeat(512);
        let mut buffer = vec![0; CAPACITY];
        loop {
            match self {
                Work::Read => far.write_all(lines.as_bytes()).await?,
                Work::WriteBatches | Work::WriteEach => {
                    if far.read(&mut buffer).await? == 0 {
                        return Ok(());
                    }
                }
                Work::Ask => {
                    let read = far.read(&mut buffer).await?;
                    if read == 0 {
                        return Ok(());
                    }
                    far.write_all(&buffer[..read]).await?;
                }
            }
        }
    }
}

/// Pairs of rounds, one with and one without, so that a noisy moment meets both; median of the ratios.
fn throughput(rounds: usize) -> Result<(), BoxError> {
    println!("lines a second, with a heartbeat and without, {rounds} rounds in turns");
    let (far_side, far_ends) = (runtime(), mpsc::unbounded_channel::<(Work, TcpStream)>());
    let (meet, mut met) = far_ends;
    let peer = far_side.handle().clone();
    std::thread::spawn(move || {
        far_side.block_on(async {
            while let Some((work, far)) = met.recv().await {
                tokio::spawn(work.met_by(far));
            }
        });
    });
    for (name, work, count) in Work::ALL {
        let ratio = runtime().block_on(async {
            let (with, without) = (sockets(&peer).await?, sockets(&peer).await?);
            meet.send((work, with.1))?;
            meet.send((work, without.1))?;
            Ok::<_, BoxError>(turns(work, count, rounds, with.0, without.0).await)
        })?;
        println!("{name:30} loopback TCP {ratio}");
        let ratio = runtime().block_on(async {
            let (with, without) = (duplex(CAPACITY), duplex(CAPACITY));
            tokio::spawn(work.met_by(with.1));
            tokio::spawn(work.met_by(without.1));
            turns(work, count, rounds, with.0, without.0).await
        });
        println!("{name:30} in memory    {ratio}");
    }
    Ok(())
}

async fn turns<T>(work: Work, count: usize, rounds: usize, with: T, without: T) -> String
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut with = HeartbeatStream::new(lines(with), Lines::new(), Config::default());
    let mut without = lines(without);
    let (mut rates, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..rounds {
        let (a, b) = if round % 2 == 0 {
            let a = work.done_by(&mut with, count).await;
            (a, work.done_by(&mut without, count).await)
        } else {
            let b = work.done_by(&mut without, count).await;
            (work.done_by(&mut with, count).await, b)
        };
        let [a, b] = [a, b].map(|time| count as f64 / time.as_secs_f64());
        rates[0].push(a);
        rates[1].push(b);
        ratios.push(a / b);
    }
    let [with, without] = rates.map(median);
    let ratio = median(ratios);
    format!("with {with:9.0}, without {without:9.0}, ratio {ratio:.3}")
}

fn lines<T>(io: T) -> Framed<T, LinesCodec>
where
    T: AsyncRead + AsyncWrite,
{
    Framed::new(io, LinesCodec::new_with_max_length(1_024))
}

/// This end, and one that lives in the far side's runtime.
async fn sockets(far_side: &Handle) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let (far, _) = listener.accept().await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let far = far.into_std()?;
    let _entered = far_side.enter();
    Ok((near, TcpStream::from_std(far)?))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime")
}
