//! WebSocket's frames as other implementations may send them.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    spawn,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WebSocketError, Message, error::ProtocolError, protocol::Role},
};
use tower_heartbeat::{
    Config, Error, Failure, State,
    transport::{HeartbeatStream, WebSocket},
};

use crate::support::{config, millis, settings};

type Near = HeartbeatStream<WebSocketStream<DuplexStream>, WebSocket>;

/// A client, and the far end in bytes.
async fn client(config: Config) -> (Near, DuplexStream) {
    let (near, far) = duplex(4_096);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    (HeartbeatStream::new(near, WebSocket::new(), config), far)
}

/// The payload of the client's next ping.
async fn ping(far: &mut DuplexStream) -> [u8; 8] {
    let mut frame = [0; 14];
    far.read_exact(&mut frame).await.expect("a ping");
    assert_eq!(frame[..2], [0x89, 0x88]);
    std::array::from_fn(|i| frame[6 + i] ^ frame[2 + i % 4])
}

async fn pong(far: &mut DuplexStream, payload: [u8; 8]) {
    let frame = [[0x8a, 8].as_slice(), &payload].concat();
    far.write_all(&frame).await.expect("it is taken");
}

fn heartbeats(error: Error<WebSocketError>) -> Failure {
    let Error::Heartbeat(error) = error else {
        panic!("{error:?}")
    };
    error.failure()
}

#[tokio::test(start_paused = true)]
async fn a_control_frame_of_more_than_125_bytes_is_the_transports_error_and_the_end() {
    let (mut near, mut far) = client(config()).await;
    // A ping of 126 bytes.
    let frame = [[0x89, 126, 0, 126].as_slice(), &[b'x'; 126]].concat();
    far.write_all(&frame).await.expect("it is taken");
    let error = near.next().await.expect("an item").expect_err("no frame");
    assert!(
        matches!(
            error,
            Error::Inner(WebSocketError::Protocol(ProtocolError::ControlFrameTooBig))
        ),
        "{error:?}"
    );
    let end = timeout(millis(2_000), near.next()).await;
    assert!(!matches!(end.expect("in time"), Some(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_pong_with_a_wrong_payload_beside_a_ping_that_is_out_is_unexpected() {
    let (near, mut far) = client(config()).await;
    let mut near = near.strict_pongs();
    let peer = async {
        let mut payload = ping(&mut far).await;
        payload[7] ^= 1;
        pong(&mut far, payload).await;
    };
    let (read, ()) = tokio::join!(near.next(), peer);
    let error = read.expect("an item").expect_err("a wrong pong");
    assert_eq!(heartbeats(error), Failure::UnexpectedPong);
    assert_eq!(near.handle().pongs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_later_pong_answers_earlier_pings_too() {
    let config = settings().ready_timeout(millis(10_000));
    // A ping finds room for half of itself.
    let (near, mut far) = duplex(8);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let config = config.build().expect("legal settings");
    let mut near = HeartbeatStream::new(near, WebSocket::new(), config).strict_pongs();
    let handle = near.handle();
    let peer = spawn(async move {
        sleep(millis(480)).await;
        // It is given up for that.
        far.write_all(b"\x81\x04news").await.expect("it is taken");
        let first = ping(&mut far).await;
        let second = ping(&mut far).await;
        assert_ne!(first, second);
        pong(&mut far, second).await;
        sleep(millis(100)).await;
        far
    });
    let news = near.next().await.expect("an item").expect("alive");
    assert_eq!(news, Message::text("news"));
    let reading = timeout(millis(550), near.next()).await;
    reading.expect_err("nothing else comes");
    assert_eq!((handle.pongs(), handle.missed()), (1, 0));
    assert_eq!(handle.state(), State::Alive);
    drop(peer.await);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_goodbye_and_leaves_the_connection_open_holds_nobody_up() {
    for closes in [false, true] {
        let (mut near, mut far) = client(config()).await;
        far.write_all(b"\x88\x02\x03\xe8")
            .await
            .expect("it is taken");
        let close = near.next().await.expect("an item").expect("a frame");
        assert!(close.is_close());
        let began = Instant::now();
        if closes {
            let closed = timeout(millis(5_000), near.close()).await;
            let _either = closed.expect("in time");
        }
        let end = timeout(millis(5_000), near.next()).await;
        assert!(!matches!(end.expect("in time"), Some(Ok(_))));
        assert!(began.elapsed() <= config().worst_case_detection());
        assert!(near.handle().failure().is_some());
    }
}
