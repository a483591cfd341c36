//! Three servers behind a `Balance`; one is frozen and thawed, and every call is answered (Unix).
//!
//! `cargo run --example balance --features balance,hyper,retry`

#![expect(clippy::disallowed_methods, reason = "it waits")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{convert::Infallible, env, net::SocketAddr, process::Stdio, time::Duration};

use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Bytes, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
use tower::{Service, ServiceBuilder, ServiceExt, balance::p2c::Balance, timeout::Timeout};
use tower_heartbeat::{BoxError, Config, HeartbeatLayer, http::head, hyper::http2::Connect};
use tower_heartbeat::{balance::Endpoints, ready_limit::ReadyLimitLayer, retry::RetryPolicy};

const PHASES: [&str; 3] = ["all well", "0 is frozen", "0 is thawed"];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    if let Some(number) = env::args().nth(1) {
        return serve(number).await;
    }
    let mut children = Vec::new();
    for number in 0..3 {
        children.push((number, start(number).await?));
    }
    let frozen = children[0].1.0.id().ok_or("it ended")?;
    let frozen = Pid::from_raw(i32::try_from(frozen)?);

    let connector = tower::service_fn(|address: SocketAddr| async move {
        TcpStream::connect(address).await.map(TokioIo::new)
    });
    let connector = Timeout::new(connector, Duration::from_secs(2));
    // New calls go elsewhere after 700 ms of quiet; what is in flight has until a second.
    let config = Config::builder()
        .detect_within(Duration::from_secs(1))
        .suspect_after(Duration::from_millis(700))
        .build()?;
    let ping = head::<Empty<Bytes>>("http://localhost/health".parse()?);
    let connect = Connect::new(connector, HeartbeatLayer::new(config, ping));
    let targets = children.iter().map(|(number, child)| (*number, child.1));
    let endpoints = Endpoints::fixed(connect, targets);
    let troubles = endpoints.troubles();
    let limit = ReadyLimitLayer::new(Duration::from_secs(5))?.because(move || troubles.last());
    let policy = RetryPolicy::builder()
        .idempotent(|request: &Request<_>| request.method().is_idempotent())
        .build()?;
    let loads = PendingRequestsDiscover::new(endpoints, CompleteOnResponse::default());
    let client = ServiceBuilder::new()
        .retry(policy)
        .buffer(64)
        .layer(limit)
        .timeout(Duration::from_secs(10))
        .service(Balance::new(loads));

    let phase = AtomicUsize::new(0);
    let served: [[AtomicUsize; 3]; 3] = Default::default();
    let workers = (0..6).map(|_| {
        let (mut client, phase, served) = (client.clone(), &phase, &served);
        async move {
            while let Some(served) = served.get(phase.load(Ordering::Relaxed)) {
                let request = Request::get("http://localhost/").body(Empty::new())?;
                let response = client.ready().await?.call(request).await?;
                let body = response.into_body().collect().await?.to_bytes();
                let number: usize = std::str::from_utf8(&body)?.parse()?;
                served[number].fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, BoxError>(())
        }
    });
    let direct = async {
        for signal in [Some(Signal::SIGSTOP), Some(Signal::SIGCONT), None] {
            tokio::time::sleep(Duration::from_secs(4)).await;
            if let Some(signal) = signal {
                kill(frozen, signal)?;
            }
            phase.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<_, BoxError>(())
    };
    let (answered, directed) = tokio::join!(join_all(workers), direct);
    directed?;
    answered.into_iter().collect::<Result<(), _>>()?;

    println!("every call was answered; who answered how many:");
    println!("{:12}{:>8}{:>8}{:>8}", "", 0, 1, 2);
    let served = served.map(|phase| phase.map(AtomicUsize::into_inner));
    for (name, [first, second, third]) in PHASES.iter().zip(served) {
        println!("{name:12}{first:>8}{second:>8}{third:>8}");
    }
    let [well, frozen, thawed] = served;
    assert!(well.iter().chain(&thawed).all(|served| *served > 0));
    // What it had sent before may have been read after.
    assert!(frozen[0] <= 6 && frozen[1] > 0 && frozen[2] > 0);
    Ok(())
}

async fn start(number: usize) -> Result<(Child, SocketAddr), BoxError> {
    let mut child = Command::new(env::current_exe()?)
        .arg(number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let address = lines.next_line().await?.ok_or("no address")?.parse()?;
    Ok((child, address))
}

/// Answers with its number after five milliseconds, until its input ends.
async fn serve(number: String) -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async {
        tokio::io::stdin().read_u8().await.ok();
        std::process::exit(0)
    });
    loop {
        let (socket, _) = listener.accept().await?;
        let number = number.clone();
        let answer = service_fn(move |_| {
            let number = Full::<Bytes>::from(number.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok::<_, Infallible>(Response::new(number))
            }
        });
        let builder = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(builder.serve_connection(TokioIo::new(socket), answer));
    }
}
