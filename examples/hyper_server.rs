//! A server that lets go of clients that never begin, idle, freeze, or have been there for long.
//!
//! `cargo run --example hyper_server --features server`
//!
//! It serves hyper's HTTP/1 and HTTP/2 on loopback and is its own clients: one that stops in the middle of a
//! request line, one that idles, one whose request takes longer than the idle limit, one that is frozen with
//! SIGSTOP under an endless response (a child process), and one that keeps calling, whose connection gets
//! too old. It prints what ended each connection; the exit code says whether everything was as promised.
//! With `--serve` it only serves, until Ctrl-C.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    pin::Pin,
    process::{Child, Command, ExitCode, Stdio},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame},
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    BoxError,
    server::{Connections, Ended, Event, Limits, Reason, RequestBody},
};

const HANDSHAKE: Duration = Duration::from_millis(700);
const IDLE: Duration = Duration::from_secs(1);
const AGE: Duration = Duration::from_secs(3);
const WRITE: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(2);
/// What lies between a limit and the moment it is looked at, on a machine that is busy.
const MARGIN: Duration = Duration::from_millis(700);

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--client") => {
            read_for_ever(arguments[2].parse()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("--serve") => {
            let (server, address) = Server::start().await?;
            println!(
                "serving on http://{address}: /now, /slow, /endless; Ctrl-C drains and ends it"
            );
            tokio::signal::ctrl_c().await?;
            server.connections.shutdown().await;
            Ok(ExitCode::SUCCESS)
        }
        _ => demonstrate().await,
    }
}

async fn demonstrate() -> Result<ExitCode, BoxError> {
    let (server, address) = Server::start().await?;
    let (half, idle, slow, frozen, busy) = tokio::try_join!(
        half_a_line(&server, address),
        idle(&server, address),
        slow(&server, address),
        frozen(&server, address),
        keeps_calling(&server, address),
    )?;
    let stopped = stop(&server, address).await?;
    let all = half && idle && slow && frozen && busy && stopped;
    println!(
        "{}",
        if all {
            "all as promised"
        } else {
            "NOT as promised"
        }
    );
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A server, and how its connections ended, by their client's address.
#[derive(Clone)]
struct Server {
    connections: Connections,
    ends: Arc<Mutex<HashMap<SocketAddr, Ended>>>,
}

impl Server {
    async fn start() -> Result<(Server, SocketAddr), BoxError> {
        let limits = Limits::builder()
            .handshake_timeout(HANDSHAKE)
            .idle_timeout(IDLE)
            .max_age(AGE)
            .write_timeout(WRITE)
            .grace(GRACE)
            .build()?;
        let connections = Connections::new(limits).on_event(|connection, event| {
            if let Event::Draining(reason) = event {
                println!("  draining, {} in flight: {reason}", connection.in_flight());
            }
        });
        let server = Server {
            connections,
            ends: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(server.clone().accept(listener));
        Ok((server, address))
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((socket, client)) = listener.accept().await {
            let served = self
                .connections
                .serve_connection(TokioIo::new(socket), service_fn(answer));
            let ends = Arc::clone(&self.ends);
            tokio::spawn(async move {
                let ended = served.await;
                ends.lock().expect("not poisoned").insert(client, ended);
            });
        }
    }

    /// How a client's connection ended, if it did in time, and whether that is what was promised.
    async fn ended(&self, who: &str, client: SocketAddr, reason: Reason, forced: bool) -> bool {
        let end = async {
            loop {
                if let Some(end) = self.ends.lock().expect("not poisoned").remove(&client) {
                    return end;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(Duration::from_secs(20), end).await {
            Ok(end) => {
                println!("{who}: {end}");
                end.reason() == reason && end.was_forced() == forced
            }
            Err(_) => {
                println!("{who}: its connection is still there");
                false
            }
        }
    }
}

async fn answer(
    request: Request<RequestBody>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let body = match request.uri().path() {
        "/slow" => {
            sleep(IDLE + IDLE / 2).await;
            Full::from("slow").boxed()
        }
        "/endless" => Endless.boxed(),
        _ => Full::from("now").boxed(),
    };
    Ok(Response::new(body))
}

async fn half_a_line(server: &Server, address: SocketAddr) -> Result<bool, BoxError> {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(b"GET /now HT").await?;
    let client = socket.local_addr()?;
    let ended = server.ended("half a request line", client, Reason::Handshake, true);
    Ok(ended.await && begun.elapsed() < HANDSHAKE + MARGIN)
}

async fn idle(server: &Server, address: SocketAddr) -> Result<bool, BoxError> {
    let (mut send, client) = http1_client(address).await?;
    send.send_request(request("/now", address))
        .await?
        .collect()
        .await?;
    let idle_at = Instant::now();
    let ended = server.ended("idle", client, Reason::Idle, false).await;
    Ok(ended && idle_at.elapsed() < IDLE + MARGIN)
}

async fn slow(server: &Server, address: SocketAddr) -> Result<bool, BoxError> {
    let (mut send, client) = http1_client(address).await?;
    let answer = send.send_request(request("/slow", address)).await?;
    let body = answer.collect().await?.to_bytes();
    let ended = server.ended("slow", client, Reason::Idle, false).await;
    Ok(ended && body == "slow")
}

async fn frozen(server: &Server, address: SocketAddr) -> Result<bool, BoxError> {
    let mut child = Frozen::start(address)?;
    sleep(Duration::from_millis(200)).await;
    kill(child.pid()?, Signal::SIGSTOP)?;
    let frozen_at = Instant::now();
    let ended = server.ended("frozen", child.address, Reason::Stalled, true);
    let ended = ended.await && frozen_at.elapsed() < WRITE + AGE;
    child.child.kill()?;
    child.child.wait()?;
    Ok(ended)
}

async fn keeps_calling(server: &Server, address: SocketAddr) -> Result<bool, BoxError> {
    let (mut send, mut client) = http2_client(address).await?;
    let first = client;
    let (mut calls, mut moves) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < AGE + AGE / 2 {
        if send.ready().await.is_err() {
            (send, client) = http2_client(address).await?;
            moves += 1;
        }
        send.send_request(request("/now", address))
            .await?
            .collect()
            .await?;
        calls += 1;
        sleep(Duration::from_millis(20)).await;
    }
    let ended = server
        .ended("keeps calling", first, Reason::Age, false)
        .await;
    println!("  {calls} calls, {moves} move, none failed");
    drop(send);
    let left = server
        .ended("leaves", client, Reason::ClientClosed, false)
        .await;
    Ok(ended && left && moves == 1)
}

/// One request is in flight as the server shuts down.
async fn stop(server: &Server, address: SocketAddr) -> Result<bool, BoxError> {
    let (mut send, client) = http2_client(address).await?;
    let asked = tokio::spawn(send.send_request(request("/slow", address)));
    sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    server.connections.shutdown().await;
    let in_time = begun.elapsed() < GRACE + MARGIN;
    let answered = asked.await?.is_ok();
    let ended = server
        .ended("at the shutdown", client, Reason::Shutdown, false)
        .await;
    Ok(in_time && answered && ended)
}

async fn http1_client(
    address: SocketAddr,
) -> Result<(http1::SendRequest<Empty<Bytes>>, SocketAddr), BoxError> {
    let socket = TcpStream::connect(address).await?;
    let client = socket.local_addr()?;
    let (send, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    Ok((send, client))
}

async fn http2_client(
    address: SocketAddr,
) -> Result<(http2::SendRequest<Empty<Bytes>>, SocketAddr), BoxError> {
    let socket = TcpStream::connect(address).await?;
    let client = socket.local_addr()?;
    let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    Ok((send, client))
}

fn request(path: &str, address: SocketAddr) -> Request<Empty<Bytes>> {
    Request::builder()
        .uri(format!("http://{address}{path}"))
        .header("host", address.to_string())
        .body(Empty::new())
        .expect("a request")
}

/// The client to be frozen: this program, in a process of its own.
struct Frozen {
    child: Child,
    address: SocketAddr,
}

impl Frozen {
    fn start(server: SocketAddr) -> Result<Frozen, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--client", &server.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Frozen {
            address: line.trim().parse()?,
            child,
        })
    }

    fn pid(&self) -> Result<Pid, BoxError> {
        Ok(Pid::from_raw(self.child.id().try_into()?))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed already.
        let _gone = self.child.kill();
    }
}

fn read_for_ever(server: SocketAddr) -> Result<(), BoxError> {
    let mut socket = std::net::TcpStream::connect(server)?;
    println!("{}", socket.local_addr()?);
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut buffer = vec![0; 65_536];
    while socket.read(&mut buffer)? > 0 {}
    Ok(())
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 16_384] = [b'x'; 16_384];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}
