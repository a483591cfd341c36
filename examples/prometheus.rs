//! The figures of a few connections, served to Prometheus on loopback, and read once as it would read them.
//!
//! `cargo run --example prometheus --features metrics [-- <seconds>]`
//!
//! One of the peers freezes, one slows down.

#![expect(clippy::disallowed_methods, reason = "an example waits")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};
use tower::{Layer, service_fn};
use tower_heartbeat::{BoxError, Config, HeartbeatLayer, PingWhen, metrics, ping};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let seconds = std::env::args().nth(1).map_or(Ok(4), |s| s.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets(&[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])?
        .install()?;
    metrics::describe();
    println!("serving http://{address}/metrics for {seconds} s");

    let config = Config::builder()
        .detect_within(Duration::from_secs(1))
        .ping_when(PingWhen::Always)
        .build()?;
    let layer = HeartbeatLayer::new(config, ping::request(|| ()));
    let start = Instant::now();
    let connections: Vec<_> = (0..5)
        .map(|n| layer.layer(service_fn(move |()| answer(n, start))))
        .collect();

    sleep(Duration::from_secs(seconds)).await;
    let text = scraped(address).await?;
    let ours = text.lines().filter(|line| line.contains("tower_heartbeat"));
    ours.for_each(|line| println!("{line}"));
    for (n, connection) in connections.iter().enumerate() {
        let handle = connection.handle();
        println!("{n}: {:?}, {:?}", handle.state(), handle.rtt());
    }
    Ok(())
}

/// What peer `n` takes for an answer. Number 3 freezes after two seconds, number 4 is slow from then on.
async fn answer(n: u64, start: Instant) -> Result<(), std::io::Error> {
    let later = start.elapsed() > Duration::from_secs(2);
    match n {
        3 if later => std::future::pending::<()>().await,
        4 if later => sleep(Duration::from_millis(60)).await,
        n => sleep(Duration::from_millis(1 + n)).await,
    }
    Ok(())
}

/// As Prometheus does it.
async fn scraped(address: SocketAddr) -> Result<String, BoxError> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn free_port() -> Result<u16, BoxError> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
