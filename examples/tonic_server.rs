//! tonic's `Server` with limits on its connections.
//!
//! `cargo run --example tonic_server --features tonic-server`
//!
//! It serves a health service on loopback and is its own clients, one after the other: one that never begins, one that
//! idles, one with a stream that is open for longer than the idle limit, one that is frozen with SIGSTOP under an
//! endless stream (a child process), and a channel that keeps calling, whose connection gets too old. It prints
//! what ended each connection; the exit code says whether everything was as promised. With `--serve` it only
//! serves, until Ctrl-C.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Status,
    body::Body,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_heartbeat::{
    BoxError,
    server::{Connections, Ended, Event, Limits, Reason, tonic::CountLayer},
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
            read_for_ever(arguments[2].parse()?).await?;
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

/// The health service, beside a stream without end.
fn service() -> BoxCloneService<Request<Body>, Response<Body>, Infallible> {
    let (_, health) = health_reporter();
    BoxCloneService::new(service_fn(move |request: Request<Body>| {
        let health = health.clone();
        async move {
            if request.uri().path() != "/demo.Endless/Read" {
                return health.oneshot(request).await;
            }
            let address =
                tonic::Request::from_parts(Default::default(), request.extensions().clone(), ());
            println!("  a stream to {:?}", address.remote_addr());
            Ok(endless())
        }
    }))
}

fn endless() -> Response<Body> {
    static PART: [u8; 16_384] = [0; 16_384];
    let parts = futures_util::stream::repeat_with(|| {
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&PART)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(parts)));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

async fn serve() -> Result<ExitCode, BoxError> {
    let connections = Connections::new(limits()?).on_event(|_, event| {
        if let Event::Ended(ended) = event {
            println!("{ended}");
        }
    });
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    println!(
        "serving grpc.health.v1.Health on {}; Ctrl-C drains and ends it",
        incoming.local_addr()?
    );
    let leaving = connections.clone();
    Server::builder()
        .layer(CountLayer::new())
        .serve_with_incoming_shutdown(
            service(),
            connections.watch_incoming(incoming),
            async move {
                let _ = tokio::signal::ctrl_c().await;
                // In good order, and within `grace`.
                tokio::spawn(async move { leaving.shutdown().await });
            },
        )
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
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    let server = Server::builder()
        .layer(CountLayer::new())
        .serve_with_incoming(service(), connections.watch_incoming(incoming));
    tokio::spawn(server);

    let mut demonstration = Demonstration { address, ends };
    let all = [
        demonstration.never_begins().await?,
        demonstration.idle().await?,
        demonstration.open_stream().await?,
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
    async fn ended(
        &mut self,
        who: &str,
        reason: Reason,
        forced: bool,
    ) -> Result<Option<Duration>, BoxError> {
        let ended = timeout(Duration::from_secs(20), self.ends.recv()).await?;
        let ended = ended.ok_or("it serves no more")?;
        println!("{who}: {ended}");
        let as_promised = ended.reason() == reason && ended.was_forced() == forced;
        Ok(as_promised.then(|| ended.age()))
    }

    async fn never_begins(&mut self) -> Result<bool, BoxError> {
        let _socket = TcpStream::connect(self.address).await?;
        let ended = self.ended("never begins", Reason::Handshake, true).await?;
        Ok(ended.is_some())
    }

    async fn idle(&mut self) -> Result<bool, BoxError> {
        let mut client = HealthClient::new(self.channel().await?);
        client.check(HealthCheckRequest::default()).await?;
        Ok(self.ended("idle", Reason::Idle, false).await?.is_some())
    }

    /// It says nothing, and is open for longer than the limit.
    async fn open_stream(&mut self) -> Result<bool, BoxError> {
        let mut client = HealthClient::new(self.channel().await?);
        let watch = client.watch(HealthCheckRequest::default()).await?;
        let open_for = IDLE + IDLE / 2;
        sleep(open_for).await;
        drop(watch);
        let age = self.ended("open stream", Reason::Idle, false).await?;
        Ok(age.is_some_and(|age| age >= open_for + IDLE))
    }

    async fn frozen(&mut self) -> Result<bool, BoxError> {
        let mut client = Frozen::start(self.address)?;
        kill(client.pid()?, Signal::SIGSTOP)?;
        let ended = self.ended("frozen", Reason::Stalled, true).await?;
        client.0.kill()?;
        client.0.wait()?;
        Ok(ended.is_some())
    }

    async fn keeps_calling(&mut self) -> Result<bool, BoxError> {
        let mut client = HealthClient::new(self.channel().await?);
        let mut calls = 0;
        let begun = Instant::now();
        while begun.elapsed() < AGE + AGE / 2 {
            match client.check(HealthCheckRequest::default()).await {
                Ok(_) => calls += 1,
                // The channel had taken it as the GOAWAY came in, and never sent it.
                Err(status) if status.code() == Code::Cancelled => continue,
                Err(status) => return Err(status.into()),
            }
            sleep(Duration::from_millis(20)).await;
        }
        println!("  {calls} calls, none failed");
        drop(client);
        let moved = self.ended("keeps calling", Reason::Age, false).await?;
        let left = self.ended("leaves", Reason::ClientClosed, false).await?;
        Ok(moved.is_some() && left.is_some())
    }

    /// A stream is open then, and does not end by itself.
    async fn shutdown(&mut self, connections: &Connections) -> Result<bool, BoxError> {
        let mut client = HealthClient::new(self.channel().await?);
        let watch = client.watch(HealthCheckRequest::default()).await?;
        let mut watch = watch.into_inner();
        watch.message().await?;
        let begun = Instant::now();
        connections.shutdown().await;
        let in_time = begun.elapsed() < GRACE + Duration::from_secs(1);
        let cut: Result<_, Status> = watch.message().await;
        let ended = self
            .ended("at the shutdown", Reason::Shutdown, true)
            .await?;
        Ok(in_time && cut.is_err() && ended.is_some())
    }

    async fn channel(&self) -> Result<Channel, BoxError> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?;
        Ok(endpoint.connect().await?)
    }
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

async fn read_for_ever(server: SocketAddr) -> Result<(), BoxError> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))?;
    let mut channel = endpoint.connect().await?;
    let request = Request::post(format!("http://{server}/demo.Endless/Read"))
        .header("content-type", "application/grpc")
        .body(Body::empty())?;
    let response = channel.ready().await?.call(request).await?;
    let mut body = response.into_body();
    body.frame().await.ok_or("no part")??;
    println!("reading");
    while let Some(part) = body.frame().await {
        part?;
    }
    Ok(())
}
