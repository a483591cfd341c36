//! The whole stack: a retry that finds a second connection.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::codec::{Framed, LinesCodec};
use tower::{Service, ServiceBuilder, ServiceExt, reconnect::Reconnect, service_fn};
use tower_heartbeat::{
    Config, HeartbeatLayer,
    mux::{self, Connect},
};

use crate::support::{Again, by_id, config, soon};

/// Answers what it reads, but on the first connection only pings, and those not for long.
pub(crate) async fn serve<T>(io: T, connection: usize)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut lines = Framed::new(io, LinesCodec::new());
    let mut pings = 0;
    while let Some(Ok(line)) = lines.next().await {
        let answer = match (line.as_str(), connection) {
            ("ping", 0) if pings == 2 => continue,
            ("ping", _) => {
                pings += 1;
                "pong".into()
            }
            (_, 0) => continue,
            (_, _) => line,
        };
        if lines.send(answer).await.is_err() {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_duplex_a_retry_recovers_on_the_second_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let connector = service_fn(move |()| {
        let (near, far) = duplex(1_024);
        tokio::spawn(serve(far, count.fetch_add(1, Ordering::Relaxed)));
        async move { io::Result::Ok(Framed::new(near, LinesCodec::new())) }
    });
    let connect = Connect::new(
        connector,
        HeartbeatLayer::new(config(), mux::ping()),
        by_id(),
    );
    let mut service = ServiceBuilder::new()
        .retry(Again(1))
        .buffer(16)
        .timeout(Duration::from_secs(60))
        .service(Reconnect::new(connect, ()));
    let begin = Instant::now();
    let answer = service.ready().await.expect("open").call("0 hello".into());
    let answer = soon("an answer", answer).await.expect("the second one's");
    assert_eq!(answer, "0 hello");
    assert!(begin.elapsed() <= 3 * config().worst_case_detection());
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_a_retry_recovers_on_the_second_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, count.fetch_add(1, Ordering::Relaxed)));
        }
    });
    let connector = service_fn(|address: SocketAddr| async move {
        let socket = TcpStream::connect(address).await?;
        io::Result::Ok(Framed::new(socket, LinesCodec::new()))
    });
    let config = Config::detect_within(Duration::from_secs(2)).expect("legal");
    let connect = Connect::new(connector, HeartbeatLayer::new(config, mux::ping()), by_id());
    let service = ServiceBuilder::new()
        .retry(Again(1))
        .buffer(16)
        .timeout(Duration::from_secs(60))
        .service(Reconnect::new(connect, address));
    // Several at once: they die together and share the next connection.
    let calls = (0..8).map(|number| service.clone().oneshot(format!("{number} hello")));
    let answers = soon("answers", futures_util::future::join_all(calls)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect("the second one's"), format!("{number} hello"));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
