//! A server of lines: it answers pings, shouts everything else back, and lets clients go that fall silent.
//!
//! `examples/tcp_line_client.rs` starts it. It tells its port first, and ends with its input.

use std::{process::exit, time::Duration};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::codec::{Framed, LinesCodec};
use tower::service_fn;
use tower_heartbeat::transport::{HeartbeatStream, Lines, Serve};
use tower_heartbeat::{BoxError, Config};

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
    let shout = service_fn(|line: String| async move { Ok::<_, BoxError>(line.to_uppercase()) });
    let lines = Framed::new(socket, LinesCodec::new_with_max_length(1_024));
    // The clients ping; this side waits for that, or for anything else.
    let config = Config::detect_within(Duration::from_secs(60))?;
    let client = HeartbeatStream::new(lines, Lines::new(), config).only_answer();
    Ok(Serve::new(client, shout).await?)
}
