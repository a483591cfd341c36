//! PINGs of others on the same connection: hyper's keep-alive, and those with which it measures.

use std::io;

use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http2, server::conn::http2 as server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf,
        duplex, split,
    },
    time::{Instant, sleep},
};
use tower_heartbeat::{Config, Failure, Handle, PingWhen, State, h2_io::PingIo};

use super::{
    server::{get, second, serve},
    support::peer::millis,
};

type Sending = http2::SendRequest<Empty<Bytes>>;

/// Keeps it alive by pings of its own, so often, and measures with others.
async fn shake_hands<T>(near: T, config: Config, interval: u64) -> (Sending, Handle)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = PingIo::client(near, config);
    let handle = io.handle();
    let connected = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(millis(interval))
        .keep_alive_timeout(millis(10 * interval))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await;
    let (send, connection) = connected.expect("a handshake");
    tokio::spawn(connection);
    (send, handle)
}

fn often() -> Config {
    Config::builder()
        .interval(millis(5))
        .pong_timeout(millis(1_000))
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings")
}

#[tokio::test(start_paused = true)]
async fn each_gets_the_answers_to_its_own_pings() {
    const LENGTH: usize = 300_000;
    let (near, far) = line();
    let body = Bytes::from(vec![7; LENGTH]);
    let answer = service_fn(move |_| {
        let body = http_body_util::Full::new(body.clone());
        async move {
            sleep(millis(1)).await;
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        }
    });
    // The server measures and keeps alive as well, over pings of its own.
    let far = PingIo::server(far, often());
    let theirs = far.handle();
    tokio::spawn(
        server::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(millis(7))
            .keep_alive_timeout(millis(1_000))
            .serve_connection(TokioIo::new(far), answer),
    );
    let (mut send, ours) = shake_hands(near, often(), 7).await;
    for _ in 0..20 {
        let answer = send.send_request(get("0")).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), vec![7; LENGTH]);
        sleep(millis(50)).await;
    }
    for handle in [ours, theirs] {
        assert!(handle.pongs() >= 20, "{}", handle.pongs());
        assert!(handle.pings() - handle.pongs() <= 1);
        assert_eq!((handle.state(), handle.failure()), (State::Alive, None));
    }
    send.ready()
        .await
        .expect("hyper's keep-alive is content, too");
}

/// With a latency, so that pings of both kinds are on their way at the same time.
fn line() -> (DuplexStream, DuplexStream) {
    let (near, near_far) = duplex(8 * 1024);
    let (far_near, far) = duplex(8 * 1024);
    let (near_read, near_write) = split(near_far);
    let (far_read, far_write) = split(far_near);
    tokio::spawn(carry(near_read, far_write));
    tokio::spawn(carry(far_read, near_write));
    (near, far)
}

async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        sleep(millis(2)).await;
        to.write_all(&buffer[..read]).await?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_freeze_is_found_by_ours_where_hypers_own_is_the_slower() {
    let (near, frozen) = serve();
    let (mut send, handle) = shake_hands(near, second(), 1_000).await;
    send.send_request(get("0")).await.expect("an answer");
    sleep(millis(5_000)).await;
    frozen.send_replace(true);
    let began = Instant::now();
    let error = send.send_request(get("0")).await.expect_err("it is frozen");
    assert!(began.elapsed() <= millis(1_001), "{:?}", began.elapsed());
    assert!(
        format!("{error:?}").contains("did not answer a ping"),
        "{error:?}"
    );
    assert_eq!(handle.failure(), Some(Failure::PongTimeout));
}
