//! Lines over TCP: a server is frozen, each missed pong counted, the connection closed and made anew (Unix).
//!
//! `cargo build --examples --features transport && cargo run --example tcp_line_client --features transport`

use std::{env, net::SocketAddr, process::Stdio, time::Duration};

use futures_util::{SinkExt, StreamExt};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::{net::TcpStream, process::Command, time::interval};
use tokio_util::codec::{Framed, LinesCodec};
use tower_heartbeat::transport::{HeartbeatStream, Lines};
use tower_heartbeat::{BoxError, Config, Failure, Handle};

type Connection = HeartbeatStream<Framed<TcpStream, LinesCodec>, Lines>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut child = Command::new(env::current_exe()?.with_file_name("tcp_line_server"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut told = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let address: SocketAddr = told.next_line().await?.ok_or("no address")?.parse()?;
    let server = Pid::from_raw(i32::try_from(child.id().ok_or("it ended")?)?);

    let mut connection = connect(address).await?;
    println!("on the first: {}", ask(&mut connection, "hello").await?);

    kill(server, Signal::SIGSTOP)?;
    let counting = tokio::spawn(count_misses(connection.handle()));
    let item = connection.next().await.ok_or("it closed")?;
    let error = item.expect_err("it is frozen");
    let end = error.heartbeat().ok_or("not the heartbeat's")?;
    println!("frozen: {end}");
    assert_eq!((end.failure(), end.missed()), (Failure::PongTimeout, 3));
    assert_eq!(counting.await?, 3);

    kill(server, Signal::SIGCONT)?;
    let mut next = connect(address).await?;
    println!("on the second: {}", ask(&mut next, "hello again").await?);
    // `connection` is still here; its socket is not.
    println!("the server: {}", told.next_line().await?.ok_or("it ended")?);
    next.close().await?;
    println!("the server: {}", told.next_line().await?.ok_or("it ended")?);
    Ok(())
}

/// After 300 ms of quiet a ping, 200 ms for its pong, three misses.
async fn connect(address: SocketAddr) -> Result<Connection, BoxError> {
    let config = Config::builder()
        .interval(Duration::from_millis(300))
        .pong_timeout(Duration::from_millis(200))
        .build()?;
    let lines = Framed::new(TcpStream::connect(address).await?, LinesCodec::new());
    Ok(HeartbeatStream::new(lines, Lines::new(), config))
}

async fn ask(connection: &mut Connection, line: &str) -> Result<String, BoxError> {
    connection.send(line.into()).await?;
    Ok(connection.next().await.ok_or("it closed")??)
}

async fn count_misses(handle: Handle) -> u32 {
    let (mut looks, mut missed) = (interval(Duration::from_millis(20)), 0);
    while handle.failure().is_none() || missed < handle.missed() {
        looks.tick().await;
        for miss in missed..handle.missed() {
            println!("missed pong {}", miss + 1);
        }
        missed = handle.missed();
    }
    missed
}
