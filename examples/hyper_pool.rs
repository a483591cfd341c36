//! hyper-util's `cache` of HTTP/1 connections: those that die in it, or idle for too long, leave it.
//!
//! `cargo run --example hyper_pool --features hyper`

#![expect(clippy::disallowed_methods, reason = "it waits")]

use std::{io, net::SocketAddr, time::Duration};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::{client::pool::cache, rt::TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::{sync::watch, time::sleep};
use tower::{Service, ServiceExt};
use tower_heartbeat::{BoxError, Config, HeartbeatLayer, http::head, hyper::http1::Connect};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (freezes, frozen) = watch::channel(false);
    tokio::spawn(serve(listener, frozen));

    let connector = tower::service_fn(|address: SocketAddr| async move {
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?))
    });
    let config = Config::builder()
        .detect_within(Duration::from_secs(1))
        .idle_timeout(Duration::from_secs(3))
        .build()?;
    let ping = head::<Empty<Bytes>>("http://localhost/health".parse()?);
    let layer = HeartbeatLayer::new(config, ping).on_connect(|_| println!("a new connection"));
    let connect = Connect::new(connector, layer)?;
    let mut pool = cache::builder().build(connect);

    // What an application does for each request; the connection goes back when it is dropped.
    let mut get = async || -> Result<Bytes, BoxError> {
        // Without this, a connection that died in the pool would be handed out once more.
        pool.retain(|connection| connection.is_alive());
        let mut connection = pool.ready().await?.call(address).await?;
        let request = Request::get("http://localhost/").body(Empty::new())?;
        let response = connection.ready().await?.call(request).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    };
    println!("answers: {:?}, {:?}", get().await?, get().await?);

    freezes.send(true)?;
    println!("the server is frozen, with the connection in the pool");
    sleep(Duration::from_secs(2)).await;
    freezes.send(false)?;
    println!("answer: {:?}", get().await?);

    println!("nobody asks for a while: the idle limit closes the connection");
    sleep(Duration::from_secs(4)).await;
    println!("answer: {:?}", get().await?);
    Ok(())
}

/// Answers on any number of connections, unless it is frozen.
async fn serve(listener: TcpListener, frozen: watch::Receiver<bool>) -> Result<(), BoxError> {
    loop {
        let (mut socket, _) = listener.accept().await?;
        let mut frozen = frozen.clone();
        tokio::spawn(async move {
            let mut request = [0; 1024];
            while socket.read(&mut request).await? > 0 {
                frozen.wait_for(|frozen| !frozen).await?;
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
                socket.write_all(head).await?;
                if !request.starts_with(b"HEAD") {
                    socket.write_all(b"hello").await?;
                }
            }
            Ok::<_, BoxError>(())
        });
    }
}
