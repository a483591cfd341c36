//! An HTTP/1 server freezes, first between two requests and then under one.
//!
//! `cargo run --example hyper_http1 --features hyper`

use std::{io, net::SocketAddr, time::Duration};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tower::{Service, ServiceExt, reconnect::Reconnect};
use tower_heartbeat::{BoxError, Config, Failure, HeartbeatError, HeartbeatLayer};
use tower_heartbeat::{http::head, hyper::http1::Connect};

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
        .detect_within(Duration::from_secs(1)) // between requests, by pings
        .quiet_timeout(Duration::from_secs(2)) // under a request, by its silence
        .build()?;
    let (connected, mut connections) = mpsc::unbounded_channel();
    let heartbeat = HeartbeatLayer::new(config, head("http://localhost/health".parse()?))
        .on_connect(move |handle| drop(connected.send(handle.clone())));
    let mut client = Reconnect::new(Connect::new(connector, heartbeat)?, address);
    let mut get = async || -> Result<Bytes, BoxError> {
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new())?;
        let response = client.ready().await?.call(request).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    };
    println!("on the first connection: {:?}", get().await?);

    freezes.send(true)?;
    let first = connections.recv().await.ok_or("no connection")?;
    println!("frozen between requests: {}", first.closed().await);
    freezes.send(false)?;
    println!("on the second connection: {:?}", get().await?);

    freezes.send(true)?;
    let error = get().await.expect_err("it is frozen");
    let error = HeartbeatError::find(&*error).ok_or("not the heartbeat's")?;
    println!("frozen under a request: {error} ({:?})", error.stage());
    assert_eq!(error.failure(), Failure::ReadTimeout);
    freezes.send(false)?;
    println!("on the third connection: {:?}", get().await?);
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
