//! Python's websockets.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use tower_heartbeat::{
    Config, Failure, State,
    transport::{HearingIo, HeartbeatStream, WebSocket, hear},
};

use super::{
    peer::{MARGIN, Peer},
    support::{millis, secs, soon},
};

type Connection = HeartbeatStream<WebSocketStream<HearingIo<TcpStream>>, WebSocket>;

fn config() -> Config {
    Config::detect_within(secs(2)).expect("a legal bound")
}

async fn connect(peer: &Peer, config: Config) -> Connection {
    let socket = TcpStream::connect(peer.address).await.expect("it listens");
    let (socket, ear) = hear(socket);
    let url = format!("ws://{}/", peer.address);
    let (socket, _) = client_async(url, socket).await.expect("a handshake");
    HeartbeatStream::new(socket, WebSocket::new(), config).hear_bytes(&ear)
}

async fn assert_echoes(connection: &mut Connection, message: Message) {
    connection.send(message.clone()).await.expect("alive");
    let echo = soon(secs(30), "an echo", connection.next()).await;
    assert_eq!(echo.expect("an item").expect("alive"), message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_websocket_peer_is_found_in_time_and_a_new_connection_works_after_the_thaw() {
    let Some(peer) = Peer::websockets(0.0) else {
        return;
    };
    let mut connection = connect(&peer, config()).await;
    let handle = connection.handle();
    assert_echoes(&mut connection, Message::text("hello")).await;
    let reading = async { soon(secs(60), "an end", connection.next()).await };
    let freezing = async {
        // Several pings.
        sleep(secs(3)).await;
        assert!(handle.pongs() >= 2, "{}", handle.pongs());
        peer.freeze();
        Instant::now()
    };
    let (item, frozen_at) = tokio::join!(reading, freezing);
    let took = frozen_at.elapsed();
    println!("websockets: {took:?} from the freeze to the verdict");
    let error = item.expect("an item").expect_err("it is frozen");
    let error = error.heartbeat().expect("the heartbeat's own");
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");

    peer.thaw();
    let mut next = connect(&peer, config()).await;
    assert_echoes(&mut next, Message::text("hello again")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_peer_that_thaws_within_the_wait_lives_and_so_does_one_that_pings_itself() {
    for interval in [0.0, 0.1] {
        let Some(peer) = Peer::websockets(interval) else {
            return;
        };
        let config = Config::detect_within(secs(20)).expect("a legal bound");
        let mut connection = connect(&peer, config).await;
        let handle = connection.handle();
        assert_echoes(&mut connection, Message::text("hello")).await;
        peer.freeze();
        let asking = async {
            let asked = handle.ping_now();
            let thawing = async {
                sleep(millis(1_000)).await;
                peer.thaw();
            };
            let (rtt, ()) = tokio::join!(asked, thawing);
            rtt.expect("a pong")
        };
        let rtt = tokio::select! {
            rtt = asking => rtt,
            item = connection.next() => panic!("{item:?}"),
        };
        assert!(rtt >= millis(900), "{rtt:?}");
        // A message of 8 MiB beside the pings of both.
        assert_echoes(&mut connection, Message::binary(vec![7; 8 << 20])).await;
        assert_eq!(handle.state(), State::Alive);
        connection.close().await.expect("alive");
        let close = soon(secs(30), "a close frame", connection.next()).await;
        assert!(close.expect("an item").expect("alive").is_close());
    }
}
