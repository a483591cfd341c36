//! Requests, answers and control frames on one WebSocket.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::mpsc,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, reconnect::Reconnect, service_fn};
use tower_heartbeat::{
    Failure, Handle, Heartbeat, HeartbeatLayer,
    mux::{self, Connect, Mux},
    transport::WebSocket,
};

use crate::support::{Again, config, millis, settle, soon};

type Socket = WebSocketStream<DuplexStream>;

async fn pair() -> (Heartbeat<Mux<Message>>, Handle, Socket) {
    let (near, far) = duplex(4_096);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let (mux, connection) = mux::in_order(WebSocket::new()).pair(near);
    let service = HeartbeatLayer::new(config(), mux::ping()).layer(mux);
    let handle = service.handle();
    tokio::spawn(mux::drive(connection, handle.clone()));
    let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    (service, handle, far)
}

#[tokio::test(start_paused = true)]
async fn control_frames_go_beside_requests_and_the_last_user_leaves_with_a_close_frame() {
    let (mut service, handle, mut far) = pair().await;
    let (closes, mut closed) = mpsc::channel(1);
    let peer = tokio::spawn(async move {
        // Its own ping is answered, too, and its pong is no answer.
        far.send(Message::Ping("hi".into())).await.expect("open");
        let mut pongs = 0;
        while let Some(Ok(message)) = far.next().await {
            match message {
                Message::Text(text) => far.send(Message::Text(text)).await.expect("open"),
                Message::Pong(_) => pongs += 1,
                Message::Close(frame) => closes.try_send(frame).expect("one"),
                _ => {}
            }
        }
        pongs
    });
    for number in 0..20 {
        tokio::time::sleep(millis(450)).await;
        let text = Message::text(number.to_string());
        let answer = service.ready().await.expect("open").call(text.clone());
        assert_eq!(soon("an answer", answer).await.expect("alive"), text);
    }
    assert!(handle.pongs() >= 15 && handle.missed() == 0, "{handle:?}");
    drop(service);
    let frame = soon("a frame", closed.recv()).await.expect("a close frame");
    assert_eq!(u16::from(frame.expect("with a code").code), 1000);
    assert_eq!(soon("the end", peer).await.expect("no panic"), 1);
    settle().await;
    assert_eq!(handle.failure(), Some(Failure::Closed));
}

#[tokio::test(start_paused = true)]
async fn the_peers_ping_is_answered_at_once_on_a_connection_that_has_nothing_to_say() {
    let (_service, _, mut far) = pair().await;
    let begin = Instant::now();
    far.send(Message::Ping("hi".into())).await.expect("open");
    let pong = soon("a pong", far.next()).await.expect("a frame");
    assert_eq!(pong.expect("open"), Message::Pong("hi".into()));
    assert_eq!(begin.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_frame_is_awaited_for_half_a_second_and_no_longer() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    for answers in [true, false] {
        let (service, handle, mut far) = pair().await;
        handle.close();
        settle().await;
        tokio::time::sleep(millis(490)).await;
        assert_eq!(tasks(), 1, "the connection's; the driver is gone");
        if answers {
            assert!(far.next().await.expect("a frame").expect("open").is_close());
            // The socket answers when it is read from; a server then closes.
            assert!(far.next().await.is_none());
            drop(far);
        } else {
            tokio::time::sleep(millis(11)).await;
        }
        settle().await;
        assert_eq!(tasks(), 0, "{answers}");
        drop(service);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_left_with_a_close_frame_and_nobody_waits_for_its_own() {
    let (service, handle, mut far) = pair().await;
    assert_eq!(soon("an end", handle.closed()).await, Failure::PongTimeout);
    settle().await;
    assert_eq!(
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        0
    );
    // Byte by byte: a socket would answer the ping, and fail.
    let mut sent = Vec::new();
    far.get_mut().read_to_end(&mut sent).await.expect("open");
    let (ping, close) = sent.split_at(2 + 4 + 8);
    assert_eq!((ping[0], close[0]), (0x89, 0x88), "{sent:?}");
    let (mask, code) = (&close[2..4], &close[6..8]);
    assert_eq!(
        1011,
        u16::from_be_bytes([code[0] ^ mask[0], code[1] ^ mask[1]])
    );
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn over_a_websocket_a_retry_recovers_on_the_second_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let connector = service_fn(move |()| {
        let (near, far) = duplex(1_024);
        let connection = count.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
            if connection == 0 {
                return std::future::pending().await;
            }
            while let Some(Ok(message)) = far.next().await {
                if message.is_text() && far.send(message).await.is_err() {
                    break;
                }
            }
        });
        async move { io::Result::Ok(WebSocketStream::from_raw_socket(near, Role::Client, None).await) }
    });
    let heartbeat = HeartbeatLayer::new(config(), mux::ping());
    let connect = Connect::new(connector, heartbeat, mux::in_order(WebSocket::new()));
    let mut service = ServiceBuilder::new()
        .retry(Again(1))
        .buffer(16)
        .timeout(Duration::from_secs(60))
        .service(Reconnect::new(connect, ()));
    let hello = Message::text("hello");
    let answer = service.ready().await.expect("open").call(hello.clone());
    assert_eq!(
        soon("an answer", answer).await.expect("the second's"),
        hello
    );
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
