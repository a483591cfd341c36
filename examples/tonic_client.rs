//! A gRPC server freezes under a call of a generated client.
//!
//! `cargo run --example tonic_client --features hyper,tonic`

use std::{io, net::SocketAddr, time::Duration};

use futures_util::stream::unfold;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::{Code, transport::Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{ServiceBuilder, reconnect::Reconnect};
use tower_heartbeat::tonic::{StatusLayer, health};
use tower_heartbeat::{BoxError, Config, HeartbeatError, HeartbeatLayer, hyper::http2::Connect};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (freezes, frozen) = watch::channel(false);
    tokio::spawn(serve(listener, frozen));

    let connector = tower::service_fn(|address: SocketAddr| async move {
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?))
    });
    let origin = Uri::from_static("http://localhost");
    let config = Config::detect_within(Duration::from_secs(1))?;
    let heartbeat = HeartbeatLayer::new(config, health().origin(origin.clone()));
    let channel = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .buffer(64)
        .service(Reconnect::new(Connect::new(connector, heartbeat), address));
    let mut client = HealthClient::with_origin(channel, origin);
    let question = HealthCheckRequest::default;

    let answer = client.check(question()).await?.into_inner();
    println!("on the first connection: {:?}", answer.status());

    freezes.send(true)?;
    let status = client.check(question()).await.expect_err("it is frozen");
    let end = HeartbeatError::find(&status).ok_or("not the heartbeat's")?;
    println!("frozen: {}, {end} ({:?})", status.code(), end.stage());
    assert_eq!(status.code(), Code::Unavailable);

    freezes.send(false)?;
    let answer = client.check(question()).await?.into_inner();
    println!("on the second connection: {:?}", answer.status());
    Ok(())
}

/// Serves gRPC on any number of connections, and carries no bytes while it is frozen.
async fn serve(listener: TcpListener, frozen: watch::Receiver<bool>) -> Result<(), BoxError> {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let incoming = unfold((listener, frozen), |(listener, frozen)| async move {
        let (mut socket, _) = listener.accept().await.ok()?;
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut watched = frozen.clone();
        tokio::spawn(async move {
            let mut carry = std::pin::pin!(tokio::io::copy_bidirectional(&mut socket, &mut far));
            loop {
                tokio::select! {
                    _ = &mut carry, if !*watched.borrow() => return,
                    changed = watched.changed() => if changed.is_err() { return },
                }
            }
        });
        Some((Ok::<_, io::Error>(near), (listener, frozen)))
    });
    let server = Server::builder().serve_with_incoming(health, incoming);
    Ok(server.await?)
}
