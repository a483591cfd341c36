//! Over real sockets, with real time.

use std::time::{Duration, Instant};

use tokio::{io::AsyncReadExt, net::TcpStream, sync::mpsc};
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};
use tower_heartbeat::server::{Connections, Event, Limits, Reason, tonic::CountLayer};

use crate::support::{call, service};

#[tokio::test]
async fn the_address_is_the_sockets_and_idle_ones_are_closed() {
    let limits = Limits::builder().idle_timeout(Duration::from_millis(500));
    let (tell, mut ends) = mpsc::unbounded_channel();
    let connections = Connections::new(limits.build().expect("legal")).on_event(move |_, event| {
        if let Event::Ended(ended) = event {
            let _gone = tell.send(ended.clone());
        }
    });
    let address = "127.0.0.1:0".parse().expect("an address");
    let incoming = TcpIncoming::bind(address).expect("a port");
    let address = incoming.local_addr().expect("an address");
    let server = Server::builder()
        .layer(CountLayer::new())
        .serve_with_incoming(service(), connections.watch_incoming(incoming));
    let server = tokio::spawn(server);

    let mut silent = TcpStream::connect(address).await.expect("a socket");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut channel: Channel = endpoint.connect().await.expect("a channel");
    let begun = Instant::now();
    let answer = call(&mut channel, "/test/who").await.expect("an answer");
    assert!(answer.starts_with("Some(127.0.0.1:"), "{answer}");
    // Three limits long.
    call(&mut channel, "/test/stream/1500")
        .await
        .expect("all parts");
    for _ in 0..2 {
        let ended = tokio::time::timeout(Duration::from_secs(10), ends.recv()).await;
        let ended = ended.expect("in time").expect("it serves");
        assert_eq!((ended.reason(), ended.was_forced()), (Reason::Idle, false));
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(2_000),
        "{:?}",
        begun.elapsed()
    );
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.expect("the end");
    server.abort();
}
