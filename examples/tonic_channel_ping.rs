//! An ordinary `Channel` over a frozen server: it notices, says so typed, and reconnects (Unix).
//!
//! `cargo run --example tonic_channel_ping --features h2-io,hyper,tonic`

use std::{env, io, net::SocketAddr, process::Stdio, time::Duration};

use futures_util::stream::unfold;
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tonic::{
    Code,
    transport::{Endpoint, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, ServiceBuilder};
use tower_heartbeat::{BoxError, Config, HeartbeatError, h2_io::PingLayer, tonic::StatusLayer};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    if env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    let mut child = tokio::process::Command::new(env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let address: SocketAddr = lines.next_line().await?.ok_or("no address")?.parse()?;
    let server = Pid::from_raw(i32::try_from(child.id().ok_or("it ended")?)?);

    let pings = PingLayer::new(Config::detect_within(Duration::from_secs(1))?);
    let connector = pings.layer(tower::service_fn(move |_| async move {
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?))
    }));
    let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
    let mut client = HealthClient::new(
        ServiceBuilder::new()
            .layer(StatusLayer::new())
            .layer(pings.attribution())
            .service(channel),
    );
    let question = HealthCheckRequest::default;

    let answer = client.check(question()).await?.into_inner();
    println!("on the first connection: {:?}", answer.status());

    kill(server, Signal::SIGSTOP)?;
    let status = client.check(question()).await.expect_err("it is frozen");
    let end = HeartbeatError::find(&status).ok_or("not the heartbeat's")?;
    println!("frozen: {:?}, {end}", status.code());
    assert_eq!(status.code(), Code::Unavailable);

    kill(server, Signal::SIGCONT)?;
    let answer = client.check(question()).await?.into_inner();
    println!("on the second connection: {:?}", answer.status());
    Ok(())
}

/// Serves the health service until its input ends.
async fn serve() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let sockets = unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(socket, _)| socket), listener))
    });
    tokio::spawn(Server::builder().serve_with_incoming(health, sockets));
    tokio::io::stdin().read_u8().await.ok();
    std::process::exit(0)
}
