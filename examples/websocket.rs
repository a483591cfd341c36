//! A WebSocket server freezes. The client finds out, leaves it with a close frame, and connects anew.
//!
//! `cargo run --example websocket --features websocket`

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::{select, sync::watch};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async, tungstenite::Message};
use tower_heartbeat::transport::{HearingIo, HeartbeatStream, WebSocket, hear};
use tower_heartbeat::{BoxError, Config, Failure};

type Connection = HeartbeatStream<WebSocketStream<HearingIo<TcpStream>>, WebSocket>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (freezes, frozen) = watch::channel(false);
    tokio::spawn(serve(listener, frozen));

    let mut first = connect(address).await?;
    println!("on the first: {}", ask(&mut first, "hello").await?);

    freezes.send(true)?;
    let error = first.next().await.ok_or("it closed")?;
    let error = error.expect_err("it is frozen");
    println!("frozen: {error}");
    let end = error.heartbeat().ok_or("not the heartbeat's")?;
    assert_eq!(end.failure(), Failure::PongTimeout);
    freezes.send(false)?;

    let mut second = connect(address).await?;
    println!("on the second: {}", ask(&mut second, "hello").await?);
    second.close().await?;
    let answer = second.next().await.ok_or("no close frame")??;
    assert!(answer.is_close() && second.next().await.is_none());
    println!("closed in good order");
    Ok(())
}

async fn connect(address: SocketAddr) -> Result<Connection, BoxError> {
    let (socket, ear) = hear(TcpStream::connect(address).await?);
    let (socket, _response) = client_async(format!("ws://{address}/"), socket).await?;
    let config = Config::detect_within(Duration::from_secs(1))?;
    Ok(HeartbeatStream::new(socket, WebSocket::new(), config).hear_bytes(&ear))
}

async fn ask(connection: &mut Connection, text: &str) -> Result<Message, BoxError> {
    connection.send(Message::text(text)).await?;
    Ok(connection.next().await.ok_or("it closed")??)
}

/// Sends back what it gets, unless it is frozen.
async fn serve(listener: TcpListener, frozen: watch::Receiver<bool>) -> Result<(), BoxError> {
    loop {
        let (socket, _) = listener.accept().await?;
        let mut frozen = frozen.clone();
        tokio::spawn(async move {
            let socket = accept_async(socket).await?;
            let config = Config::detect_within(Duration::from_secs(60))?;
            let mut client = HeartbeatStream::new(socket, WebSocket::new(), config).only_answer();
            loop {
                select! {
                    changed = frozen.changed() => changed?,
                    message = client.next() => match message.transpose()? {
                        Some(message) if message.is_text() => client.send(message).await?,
                        Some(message) => println!("the server was told: {message:?}"),
                        None => return Ok::<_, BoxError>(()),
                    },
                }
                frozen.wait_for(|frozen| !frozen).await?;
            }
        });
    }
}
