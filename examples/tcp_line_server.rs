//! A server of lines: it answers pings, shouts everything else back, and lets clients go that fall silent.
//!
//! `examples/tcp_line_client.rs` starts it. It tells its port first, and ends with its input.

use std::{process::exit, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::codec::{Framed, LinesCodec};
use tower_heartbeat::{BoxError, Config, transport::HeartbeatStream, transport::Lines};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                match serve(socket).await {
                    Ok(()) => println!("a client closed"),
                    Err(error) => println!("a client failed: {error}"),
                }
            });
        }
    });
    tokio::io::stdin().read_u8().await.ok();
    exit(0)
}

async fn serve(socket: TcpStream) -> Result<(), BoxError> {
    let lines = Framed::new(socket, LinesCodec::new_with_max_length(1_024));
    // The clients ping; this side waits for that, or for anything else.
    let config = Config::detect_within(Duration::from_secs(60))?;
    let mut client = HeartbeatStream::new(lines, Lines::new(), config).only_answer();
    while let Some(line) = client.next().await {
        client.send(line?.to_uppercase()).await?;
    }
    Ok(())
}
