//! Peers that live and send, and whose answers to PINGs come long after the pong wait.

use std::io;

use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    sync::mpsc,
    time::{Duration, sleep},
};
use tower_heartbeat::{Config, Evidence, Failure, PingWhen, h2_io::PingIo};

use super::{
    server::get,
    support::{
        frames::{ACK, DATA, PING, frame},
        peer::millis,
    },
};

const INTERVAL: Duration = millis(200);
const PONG_TIMEOUT: Duration = millis(200);
/// Between two parts of the body.
const PART: Duration = millis(300);
const PARTS: usize = 100;
const LENGTH: usize = PARTS * 1024;

fn config(when: PingWhen, evidence: Evidence) -> Config {
    Config::builder()
        .interval(INTERVAL)
        .pong_timeout(PONG_TIMEOUT)
        .max_missed(1)
        .ping_when(when)
        .evidence(evidence)
        .build()
        .expect("legal settings")
}

/// How many bytes of the body come over `io`, and how the connection ends.
async fn download<T>(
    io: T,
    builder: &http2::Builder<TokioExecutor>,
) -> (hyper::Result<usize>, hyper::Result<()>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut send, connection) = builder
        .handshake::<_, Empty<Bytes>>(TokioIo::new(io))
        .await
        .expect("a handshake");
    let connection = tokio::spawn(connection);
    let body = async {
        let body = send.send_request(get("0")).await?.into_body();
        Ok(body.collect().await?.to_bytes().len())
    };
    let body = body.await;
    drop(send);
    (body, connection.await.expect("no panic"))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_data_and_answers_half_a_minute_too_late_lives() {
    for when in [PingWhen::Quiet, PingWhen::Always, PingWhen::WhileBusy] {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(late(far));
        let io = PingIo::client(near, config(when, Evidence::AnyTraffic));
        let handle = io.handle();
        let builder = http2::Builder::new(TokioExecutor::new());
        let (body, connection) = download(io, &builder).await;
        assert_eq!(body.expect("it lives"), LENGTH, "{when:?}");
        connection.expect("its client has left");
        assert!(handle.pings() > 0, "{when:?}");
        assert_eq!(handle.failure(), Some(Failure::Closed), "{when:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_peer_is_dead_to_who_takes_nothing_but_pongs() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(late(far));
    let io = PingIo::client(near, config(PingWhen::Always, Evidence::PongOnly));
    let handle = io.handle();
    let builder = http2::Builder::new(TokioExecutor::new());
    let (body, _) = download(io, &builder).await;
    body.expect_err("it is dead");
    assert_eq!(handle.failure(), Some(Failure::PongTimeout));
}

#[tokio::test(start_paused = true)]
async fn the_same_peer_is_killed_by_hypers_own_keep_alive() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(late(far));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(INTERVAL)
        .keep_alive_timeout(PONG_TIMEOUT);
    let (body, connection) = download(near, &builder).await;
    body.expect_err("it is killed");
    assert!(connection.expect_err("it is killed").is_timeout());
}

/// Answers one request with parts, and all PINGs after them, in the order in which they came.
async fn late(far: DuplexStream) -> io::Result<()> {
    let (mut read, mut write) = split(far);
    write.write_all(&frame(4, 0, 0, b"")).await?;
    read.read_exact(&mut [0; 24]).await?;
    while read_frame(&mut read).await?.0 != 1 {}
    write.write_all(&frame(4, ACK, 0, b"")).await?;
    // `:status: 200`.
    write.write_all(&frame(1, 4, 1, &[0x88])).await?;
    let (due, mut answers) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((kind, flags, payload)) = read_frame(&mut read).await {
            if kind == PING && flags & ACK == 0 {
                drop(due.send(frame(PING, ACK, 0, &payload)));
            }
        }
    });
    for _ in 0..PARTS {
        write.write_all(&frame(DATA, 0, 1, &[b'x'; 1024])).await?;
        sleep(PART).await;
    }
    while let Ok(answer) = answers.try_recv() {
        write.write_all(&answer).await?;
    }
    write.write_all(&frame(DATA, 1, 1, b"")).await?;
    sleep(PART).await;
    Ok(())
}

async fn read_frame<R>(io: &mut R) -> io::Result<(u8, u8, Vec<u8>)>
where
    R: AsyncRead + Unpin,
{
    let mut head = [0; 9];
    io.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("it fits")];
    io.read_exact(&mut payload).await?;
    Ok((head[3], head[4], payload))
}
