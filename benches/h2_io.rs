//! PINGs at the IO beside hyper's own keep-alive, and beside neither.
//!
//! `cargo bench --bench h2_io --features h2-io,hyper -- throughput`: requests a second, and megabytes of one
//! long body, over loopback to a server in a child process, in turns; `-- kills`: living peers that
//! stream but are slow to answer a PING, and how many of them are declared dead. Without an
//! argument, both.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    time::{sleep, timeout_at},
};
use tower_heartbeat::{BoxError, Config, PingWhen, h2_io::PingIo};

type Client = SendRequest<Empty<Bytes>>;

const INTERVAL: Duration = Duration::from_millis(200);
const PONG_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two parts of a body, where the answer to a PING comes after all of them.
const PART: Duration = Duration::from_millis(300);
const PARTS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Layer,
    KeepAlive,
    Neither,
}

const KINDS: [Kind; 3] = [Kind::Layer, Kind::KeepAlive, Kind::Neither];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        "serve" => return serve().await,
        "throughput" => throughput().await?,
        "kills" => kills().await?,
        _ => {
            throughput().await?;
            kills().await?;
        }
    }
    Ok(())
}

/// Rounds of the three in changing order, so that a noisy moment meets all; medians of the ratios.
async fn throughput() -> Result<(), BoxError> {
    const ROUNDS: usize = 30;
    const ROUND: Duration = Duration::from_millis(300);
    let server = Server::start()?;
    println!("over loopback, a PING every {INTERVAL:?}, {ROUNDS} rounds in turns");
    let mut clients = Vec::new();
    for kind in KINDS {
        clients.push(client(kind, server.address).await?);
    }
    for (name, streams, path) in [
        ("1 stream, requests/s", 1, "/1024"),
        ("64 streams, requests/s", 64, "/1024"),
        ("1 stream, MiB/s of a body", 1, "/16777216"),
    ] {
        let mut rates = [const { Vec::new() }; 3];
        for round in 0..ROUNDS {
            for turn in 0..KINDS.len() {
                let which = (round + turn) % KINDS.len();
                rates[which].push(rate(&clients[which], streams, path, ROUND).await?);
            }
        }
        let ratio = |which: usize| {
            let rounds = rates[which].iter().zip(&rates[2]);
            median(rounds.map(|(with, without)| with / without).collect())
        };
        println!(
            "{name:26} layer {:8.0} ({:.3} of neither)  keep-alive {:8.0} ({:.3})  neither {:8.0}",
            median(rates[0].clone()),
            ratio(0),
            median(rates[1].clone()),
            ratio(1),
            median(rates[2].clone()),
        );
    }
    Ok(())
}

/// Requests a second, or MiB of bodies that are longer than one.
async fn rate(
    client: &Client,
    streams: usize,
    path: &str,
    time: Duration,
) -> Result<f64, BoxError> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..streams)
        .map(|_| {
            let (mut client, path) = (client.clone(), path.to_string());
            tokio::spawn(async move {
                let mut done = 0.0;
                while start.elapsed() < time {
                    client.ready().await?;
                    let body = client.send_request(get(&path)).await?.into_body();
                    let length = body.collect().await?.to_bytes().len();
                    done += f64::max(1.0, length as f64 / f64::from(1 << 20));
                }
                Ok::<_, hyper::Error>(done)
            })
        })
        .collect();
    let mut done = 0.0;
    for task in tasks {
        done += task.await??;
    }
    Ok(done / start.elapsed().as_secs_f64())
}

/// A peer that lives and streams, but whose answers to PINGs come long after the pong wait.
async fn kills() -> Result<(), BoxError> {
    const PEERS: usize = 40;
    println!(
        "{PEERS} peers that send 1 KiB every {PART:?}, {PARTS} times, and answer PINGs after it; PING \
         after {INTERVAL:?}, pong wait {PONG_TIMEOUT:?}"
    );
    for kind in [Kind::Layer, Kind::KeepAlive] {
        let mut tasks = Vec::new();
        for _ in 0..PEERS {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let mut client = client(kind, listener.local_addr()?).await?;
            let (stream, _) = listener.accept().await?;
            tokio::spawn(late(stream));
            tasks.push(tokio::spawn(async move {
                let response = client.send_request(get("/")).await?;
                response.into_body().collect().await.map(drop)
            }));
        }
        let mut killed = 0;
        for task in tasks {
            killed += usize::from(task.await?.is_err());
        }
        println!("{:10} {killed} of {PEERS} killed", format!("{kind:?}"));
    }
    Ok(())
}

async fn late(stream: TcpStream) -> std::io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    write.write_all(&frame(4, 0, 0, &[])).await?;
    read.read_exact(&mut [0; 24]).await?;
    // Up to its request.
    while read_frame(&mut read).await?.0 != 1 {}
    let reading = tokio::spawn(async move {
        let mut answers = Vec::new();
        let late = tokio::time::Instant::now() + PART * PARTS;
        while let Ok(Ok((kind, flags, payload))) = timeout_at(late, read_frame(&mut read)).await {
            if kind == 6 && flags == 0 {
                answers.extend(frame(6, 1, 0, &payload));
            }
        }
        answers
    });
    write.write_all(&frame(4, 1, 0, &[])).await?;
    write.write_all(&frame(1, 4, 1, &[0x88])).await?;
    for _ in 0..PARTS {
        write.write_all(&frame(0, 0, 1, &[b'x'; 1024])).await?;
        sleep(PART).await;
    }
    write.write_all(&reading.await?).await?;
    write.write_all(&frame(0, 1, 1, &[])).await?;
    sleep(PART).await;
    Ok(())
}

async fn read_frame(stream: &mut OwnedReadHalf) -> std::io::Result<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    Ok((head[3], head[4], payload))
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, _, high, low] = (payload.len() as u32).to_be_bytes();
    let head = [0, high, low, kind, flags, 0, 0, 0, stream];
    [&head, payload].concat()
}

async fn client(kind: Kind, address: SocketAddr) -> Result<Client, BoxError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    if kind == Kind::Layer {
        let config = Config::builder()
            .interval(INTERVAL)
            .pong_timeout(PONG_TIMEOUT)
            .max_missed(1)
            .ping_when(PingWhen::Always)
            .build()?;
        let io = TokioIo::new(PingIo::client(stream, config));
        let (client, connection) = builder.handshake(io).await?;
        tokio::spawn(connection);
        return Ok(client);
    }
    if kind == Kind::KeepAlive {
        builder
            .keep_alive_interval(INTERVAL)
            .keep_alive_timeout(PONG_TIMEOUT)
            .keep_alive_while_idle(true);
    }
    let (client, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost{path}"))
        .body(Empty::new())
        .expect("a legal URI")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server in a child process, which ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Result<Server, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            // Closed when this process ends, however it ends: then the server goes as well.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse()?;
        Ok(Server { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Answers with as many bytes as the path says.
async fn serve() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::thread::spawn(|| {
        let ended = std::io::stdin().read(&mut [0]);
        std::process::exit(i32::from(ended.is_err()));
    });
    let most = Bytes::from(vec![b'x'; 1 << 24]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let most = most.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let length = request.uri().path()[1..].parse().unwrap_or(0);
            let body = Full::new(most.slice(..most.len().min(length)));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}
