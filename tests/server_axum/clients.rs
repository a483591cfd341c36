//! Clients whose way to the server takes its time.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::mpsc,
    time::Instant,
};

use crate::support::ms;

/// The other end of `io`, so many milliseconds away.
pub(crate) fn far_away(io: DuplexStream, delay: u64) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (server_read, server_write) = tokio::io::split(io);
    let (client_read, client_write) = tokio::io::split(near);
    tokio::spawn(carry(client_read, server_write, delay));
    tokio::spawn(carry(server_read, client_write, delay));
    far
}

async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, delay: u64) {
    let (send, mut sent) = mpsc::unbounded_channel();
    let reader = async move {
        let mut buffer = [0; 4096];
        loop {
            let read = from.read(&mut buffer).await.unwrap_or(0);
            let part = buffer[..read].to_vec();
            if send.send((Instant::now() + ms(delay), part)).is_err() || read == 0 {
                return;
            }
        }
    };
    let writer = async move {
        while let Some((at, part)) = sent.recv().await {
            tokio::time::sleep_until(at).await;
            if part.is_empty() || to.write_all(&part).await.is_err() {
                break;
            }
        }
        let _gone = to.shutdown().await;
    };
    tokio::join!(reader, writer);
}
