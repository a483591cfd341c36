//! How connections leave of which less is known.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tower_heartbeat::server::{Connections, Limits, Phase, Reason};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What is in there nobody can tell, so nothing is cut off before it has to be.
#[tokio::test(start_paused = true)]
async fn limits_below_tls_leave_alone_what_they_cannot_see() {
    let limits = Limits::builder()
        .handshake_timeout(ms(100))
        .idle_timeout(ms(300))
        .grace(ms(200));
    let connections = Connections::new(limits.build().expect("legal"));
    let (near, mut far) = duplex(100);
    let mut io = connections.watch(near);
    let handle = io.handle();
    // The first bytes of a ClientHello.
    far.write_all(&[22, 3, 1]).await.expect("room");
    io.read_exact(&mut [0; 3]).await.expect("all");
    let waited = tokio::time::timeout(ms(10_000), io.read_u8()).await;
    assert!(waited.is_err(), "it is still open");
    assert_eq!(handle.phase(), Phase::Serving);
    handle.drain();
    let drained = tokio::time::Instant::now();
    let error = io.read_u8().await.expect_err("it is cut");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert_eq!(drained.elapsed(), ms(200));
    drop(io);
    let ended = handle.ended().expect("it is over");
    assert_eq!(
        (ended.reason(), ended.was_forced()),
        (Reason::Shutdown, true)
    );
}

/// A client that has sent nothing is owed nothing.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_never_used_ends_at_once() {
    let connections = Connections::new(Limits::builder().build().expect("legal"));
    let (near, _far) = duplex(100);
    let mut io = connections.watch(near);
    io.handle().drain();
    assert_eq!(io.read(&mut [0]).await.expect("the end"), 0);
}
