//! The server's half over WebSocket.

use std::{convert::Infallible, future::pending, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{Role, frame::coding::CloseCode},
    },
};
use tower::service_fn;
use tower_heartbeat::{
    Failure,
    transport::{HeartbeatStream, Serve, ServeError, WebSocket},
};

use crate::{
    serve::{ended, failure, start},
    support::{config, millis},
};

type Far = WebSocketStream<DuplexStream>;
type End = Result<(), ServeError<tungstenite::Error, tungstenite::Error, Infallible>>;

async fn server(shows_heartbeats: bool) -> (impl Future<Output = End> + Send, Far) {
    stoppable(shows_heartbeats, pending()).await
}

/// A server that echoes text, after so many milliseconds as it says.
async fn stoppable<F>(shows_heartbeats: bool, stop: F) -> (impl Future<Output = End> + Send, Far)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (near, far) = duplex(4_096);
    let near = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
    let mut near = HeartbeatStream::new(near, WebSocket::new(), config()).only_answer();
    if shows_heartbeats {
        near = near.show_heartbeats();
    }
    let echo = service_fn(|message: Message| async move {
        let wait = message.to_text().expect("nothing but text comes here");
        sleep(millis(wait.parse().expect("a time"))).await;
        Ok::<_, Infallible>(message)
    });
    let far = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    (Serve::new(near, echo).drain_on(stop), far)
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_beside_a_slow_handler_and_only_messages_reach_it() {
    for shows_heartbeats in [false, true] {
        let (serve, mut far) = server(shows_heartbeats).await;
        let serving = start(serve);
        far.send(Message::text("2000")).await.expect("taken");
        for payload in [b"a".as_slice(), b"b", b"c", b"d"] {
            sleep(millis(400)).await;
            let began = Instant::now();
            let ping = Message::Ping(payload.to_vec().into());
            far.send(ping).await.expect("it is taken");
            let pong = far.next().await.expect("a frame").expect("a frame");
            assert_eq!(pong, Message::Pong(payload.to_vec().into()));
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
        let answer = far.next().await.expect("a frame").expect("a frame");
        assert_eq!(answer, Message::text("2000"));
        far.close(None).await.expect("it is taken");
        let close = far.next().await.expect("a frame").expect("a frame");
        assert!(close.is_close());
        ended(serving).await.expect("the peer closed");
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_peers_close_frame_no_answer_can_be_written_and_nobody_waits_for_one() {
    let (serve, mut far) = server(false).await;
    let serving = start(serve);
    far.send(Message::text("60000")).await.expect("taken");
    sleep(millis(100)).await;
    let began = Instant::now();
    far.close(None).await.expect("it is taken");
    let close = far.next().await.expect("a frame").expect("a frame");
    assert!(close.is_close());
    ended(serving).await.expect("the peer closed");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_left_with_a_close_frame() {
    let (serve, mut far) = server(false).await;
    let serving = start(serve);
    far.send(Message::text("60000")).await.expect("taken");
    let end = timeout(config().worst_case_detection(), serving).await;
    let end = end.expect("in time").expect("no panic");
    assert_eq!(
        failure(&end.expect_err("it is silent")),
        Failure::PongTimeout
    );
    let close = far.next().await.expect("a frame").expect("a frame");
    let Message::Close(Some(frame)) = close else {
        panic!("{close:?}")
    };
    assert_eq!(frame.code, CloseCode::Error);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_told_to_stop_answers_what_is_in_flight_and_closes_with_a_handshake() {
    for peer_closes in [false, true] {
        let (serve, mut far) = stoppable(false, sleep(millis(100))).await;
        let serving = start(serve);
        far.send(Message::text("300")).await.expect("taken");
        sleep(millis(200)).await;
        far.send(Message::text("0")).await.expect("taken");
        let answer = far.next().await.expect("a frame").expect("a frame");
        assert_eq!(answer, Message::text("300"));
        if peer_closes {
            let close = far.next().await.expect("a frame").expect("a frame");
            assert!(close.is_close());
            assert!(far.next().await.is_none());
            ended(serving).await.expect("it was told to");
        } else {
            let began = Instant::now();
            let error = ended(serving).await.expect_err("it owes a close frame");
            assert_eq!(failure(&error), Failure::PongTimeout);
            assert!(began.elapsed() <= config().worst_case_detection());
        }
    }
}
