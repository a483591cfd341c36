//! `axum::serve` with limits on its connections.
//!
//! `cargo run --example axum_server --features axum`
//!
//! It serves on loopback and is its own clients, one after the other: one that never begins, one that idles, one whose
//! request takes longer than the idle limit, one that is frozen with SIGSTOP under an endless response (a child
//! process), and one that keeps calling, whose connection gets too old. It prints what ended each connection; the
//! exit code says whether everything was as promised. With `--serve` it only serves, until Ctrl-C.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{ConnectInfo, Request},
    routing::get,
};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Bytes, Frame},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    BoxError,
    server::{Connections, Ended, Event, Handle, Limits, Reason},
};

const HANDSHAKE: Duration = Duration::from_millis(700);
const IDLE: Duration = Duration::from_secs(1);
const AGE: Duration = Duration::from_secs(3);
const WRITE: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--client") => {
            read_for_ever(arguments[2].parse()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("--serve") => serve().await,
        _ => demonstrate().await,
    }
}

fn limits() -> Result<Limits, BoxError> {
    let limits = Limits::builder()
        .handshake_timeout(HANDSHAKE)
        .idle_timeout(IDLE)
        .max_age(AGE)
        .write_timeout(WRITE)
        .grace(GRACE)
        .build()?;
    Ok(limits)
}

/// Handlers as they always are: they find the client's address, and its connection.
fn app() -> Router {
    async fn now(
        ConnectInfo(client): ConnectInfo<SocketAddr>,
        Extension(connection): Extension<Handle>,
    ) -> String {
        format!("{client}, here for {:.1?}", connection.age())
    }
    async fn slow() -> &'static str {
        sleep(IDLE + IDLE / 2).await;
        "slow"
    }
    async fn endless() -> Body {
        static PART: [u8; 16_384] = [b'x'; 16_384];
        let parts = futures_util::stream::repeat_with(|| {
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(&PART)))
        });
        Body::new(StreamBody::new(parts))
    }
    Router::new()
        .route("/now", get(now))
        .route("/slow", get(slow))
        .route("/endless", get(endless))
}

async fn serve() -> Result<ExitCode, BoxError> {
    let connections = Connections::new(limits()?).on_event(|_, event| {
        if let Event::Ended(ended) = event {
            println!("{ended}");
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!(
        "serving on http://{}: /now, /slow, /endless; Ctrl-C drains and ends it",
        listener.local_addr()?
    );
    let leaving = connections.clone();
    connections
        .serve_axum(
            listener,
            app().into_make_service_with_connect_info::<SocketAddr>(),
        )
        .with_graceful_shutdown(async move {
            let _ = tokio::signal::ctrl_c().await;
            // In good order, and within `grace`.
            tokio::spawn(async move { leaving.shutdown().await });
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

async fn demonstrate() -> Result<ExitCode, BoxError> {
    let (tell, ends) = unbounded_channel();
    let connections = Connections::new(limits()?).on_event(move |_, event| {
        if let Event::Ended(ended) = event {
            let _gone = tell.send(ended.clone());
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = app().into_make_service_with_connect_info::<SocketAddr>();
    let serve = connections.serve_axum(listener, app);
    tokio::spawn(async move { serve.await });

    let mut demonstration = Demonstration { address, ends };
    let all = [
        demonstration.never_begins().await?,
        demonstration.idle().await?,
        demonstration.slow().await?,
        demonstration.frozen().await?,
        demonstration.keeps_calling().await?,
        demonstration.shutdown(&connections).await?,
    ];
    if all.contains(&false) {
        println!("NOT as promised");
        return Ok(ExitCode::FAILURE);
    }
    println!("all as promised");
    Ok(ExitCode::SUCCESS)
}

struct Demonstration {
    address: SocketAddr,
    ends: UnboundedReceiver<Ended>,
}

impl Demonstration {
    /// How the next connection ended, and whether that is what was promised.
    async fn ended(&mut self, who: &str, reason: Reason, forced: bool) -> Result<bool, BoxError> {
        let ended = timeout(Duration::from_secs(20), self.ends.recv()).await?;
        let ended = ended.ok_or("it serves no more")?;
        println!("{who}: {ended}");
        Ok(ended.reason() == reason && ended.was_forced() == forced)
    }

    async fn never_begins(&mut self) -> Result<bool, BoxError> {
        let _socket = TcpStream::connect(self.address).await?;
        self.ended("never begins", Reason::Handshake, true).await
    }

    async fn idle(&mut self) -> Result<bool, BoxError> {
        let mut send = self.client().await?;
        let answer = self.ask(&mut send, "/now").await?;
        println!("  the server says {:?}", String::from_utf8_lossy(&answer));
        self.ended("idle", Reason::Idle, false).await
    }

    async fn slow(&mut self) -> Result<bool, BoxError> {
        let mut send = self.client().await?;
        let answer = self.ask(&mut send, "/slow").await?;
        Ok(self.ended("slow", Reason::Idle, false).await? && answer == "slow")
    }

    async fn frozen(&mut self) -> Result<bool, BoxError> {
        let mut client = Frozen::start(self.address)?;
        kill(client.pid()?, Signal::SIGSTOP)?;
        let ended = self.ended("frozen", Reason::Stalled, true).await?;
        client.0.kill()?;
        client.0.wait()?;
        Ok(ended)
    }

    /// HTTP/1 tells it with an answer that the connection leaves, so that it makes another one.
    async fn keeps_calling(&mut self) -> Result<bool, BoxError> {
        let mut send = self.client().await?;
        let (mut calls, mut moves) = (0, 0);
        let begun = Instant::now();
        while begun.elapsed() < AGE + AGE / 2 {
            if send.ready().await.is_err() {
                send = self.client().await?;
                moves += 1;
            }
            self.ask(&mut send, "/now").await?;
            calls += 1;
            sleep(Duration::from_millis(20)).await;
        }
        println!("  {calls} calls, {moves} move, none failed");
        drop(send);
        let moved = self.ended("keeps calling", Reason::Age, false).await?;
        let left = self.ended("leaves", Reason::ClientClosed, false).await?;
        Ok(moved && left && moves == 1)
    }

    /// One request is in flight then.
    async fn shutdown(&mut self, connections: &Connections) -> Result<bool, BoxError> {
        let mut send = self.client().await?;
        let address = self.address;
        let asked = tokio::spawn(async move { ask(&mut send, address, "/slow").await });
        sleep(Duration::from_millis(200)).await;
        connections.shutdown().await;
        let answered = asked.await??;
        let ended = self.ended("at the shutdown", Reason::Shutdown, false);
        Ok(ended.await? && answered == "slow")
    }

    async fn client(&self) -> Result<SendRequest<Full<Bytes>>, BoxError> {
        let socket = TcpStream::connect(self.address).await?;
        let (send, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(send)
    }

    async fn ask(
        &self,
        send: &mut SendRequest<Full<Bytes>>,
        path: &str,
    ) -> Result<Bytes, BoxError> {
        ask(send, self.address, path).await
    }
}

async fn ask(
    send: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: &str,
) -> Result<Bytes, BoxError> {
    let request = Request::get(path)
        .header("host", address.to_string())
        .body(Full::default())?;
    let answer = send.send_request(request).await?;
    Ok(answer.collect().await?.to_bytes())
}

/// The client to be frozen: this program, in a process of its own.
struct Frozen(Child);

impl Frozen {
    /// It has read something when this returns.
    fn start(server: SocketAddr) -> Result<Frozen, BoxError> {
        let child = Command::new(std::env::current_exe()?)
            .args(["--client", &server.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut client = Frozen(child);
        let stdout = client.0.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut String::new())?;
        Ok(client)
    }

    fn pid(&self) -> Result<Pid, BoxError> {
        Ok(Pid::from_raw(self.0.id().try_into()?))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed already.
        let _gone = self.0.kill();
    }
}

fn read_for_ever(server: SocketAddr) -> Result<(), BoxError> {
    let mut socket = std::net::TcpStream::connect(server)?;
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut buffer = vec![0; 65_536];
    socket.read_exact(&mut buffer)?;
    println!("reading");
    while socket.read(&mut buffer)? > 0 {}
    Ok(())
}
