//! WebSocket's control frames.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{DuplexStream, duplex},
    spawn,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tower_heartbeat::{
    Config, Error, Evidence, Failure, PingPolicy, PingWhen, Setting, State,
    transport::{self, HearingIo, HeartbeatStream, WebSocket},
};

use crate::support::{config, millis, settings};

type Far = WebSocketStream<DuplexStream>;
type Near = HeartbeatStream<WebSocketStream<HearingIo<DuplexStream>>, WebSocket>;

async fn pair(config: Config, capacity: usize) -> (Near, Far) {
    let (near, far) = duplex(capacity);
    let (near, ear) = transport::hear(near);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let near = HeartbeatStream::new(near, WebSocket::new(), config).hear_bytes(&ear);
    let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    (near, far)
}

async fn verdict(near: &mut Near) -> Failure {
    let item = timeout(millis(60_000), near.next()).await;
    let error = item.expect("in time").expect("an item").expect_err("dead");
    let Error::Heartbeat(error) = error else {
        panic!("{error:?}")
    };
    assert!(near.next().await.is_none());
    error.failure()
}

async fn nothing_for(near: &mut Near, time: u64) {
    let item = timeout(millis(time), near.next()).await;
    assert!(item.is_err(), "{item:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_lives_and_each_ping_has_another_payload() {
    let (mut near, mut far) = pair(config(), 4_096).await;
    let handle = near.handle();
    let peer = spawn(async move {
        let mut payloads = Vec::new();
        while let Some(Ok(message)) = far.next().await {
            match message {
                Message::Ping(payload) => payloads.push(payload),
                other => panic!("{other:?}"),
            }
            far.flush().await.expect("it is taken");
        }
        payloads
    });
    nothing_for(&mut near, 5_000).await;
    drop(near);
    let mut payloads = peer.await.expect("no panic");
    assert!(handle.pongs() >= 10);
    assert!(payloads.iter().all(|payload| payload.len() == 8));
    let count = payloads.len();
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads.len(), count);
}

#[tokio::test(start_paused = true)]
async fn the_peers_pings_are_answered_at_once_also_those_of_125_bytes() {
    let (mut near, mut far) = pair(config(), 4_096).await;
    let reading = spawn(async move { nothing_for(&mut near, 300).await });
    for length in [0, 8, 125] {
        let began = Instant::now();
        let payload = vec![b'x'; length];
        let ping = Message::Ping(payload.clone().into());
        far.send(ping).await.expect("it is taken");
        let pong = far.next().await.expect("an item").expect("a frame");
        assert_eq!(pong, Message::Pong(payload.into()));
        assert_eq!(began.elapsed(), millis(0));
    }
    reading.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_shown_is_answered_though_nobody_reads_on() {
    let (near, mut far) = pair(config(), 4_096).await;
    let mut near = near.show_heartbeats();
    let ping = Message::Ping(b"shown".to_vec().into());
    far.send(ping.clone()).await.expect("it is taken");
    let shown = near.next().await.expect("an item").expect("a frame");
    assert_eq!(shown, ping);
    let pong = timeout(millis(100), far.next()).await.expect("in time");
    let pong = pong.expect("an item").expect("a frame");
    assert_eq!(pong, Message::Pong(b"shown".to_vec().into()));
}

#[tokio::test(start_paused = true)]
async fn a_pong_with_a_wrong_payload_is_no_pong() {
    let strict = settings()
        .evidence(Evidence::PongOnly)
        .build()
        .expect("legal");
    let (mut near, mut far) = pair(strict, 4_096).await;
    for payload in [b"".as_slice(), b"wrong", b"8 bytes!"] {
        let pong = Message::Pong(payload.to_vec().into());
        far.send(pong).await.expect("it is taken");
    }
    assert_eq!(verdict(&mut near).await, Failure::PongTimeout);
    assert_eq!(near.handle().pongs(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unsolicited_pong_is_legal_unless_pongs_are_strict() {
    for is_strict in [false, true] {
        let (near, mut far) = pair(config(), 4_096).await;
        let mut near = if is_strict { near.strict_pongs() } else { near };
        let pong = Message::Pong(b"8 bytes!".to_vec().into());
        far.send(pong).await.expect("it is taken");
        if is_strict {
            assert_eq!(verdict(&mut near).await, Failure::UnexpectedPong);
        } else {
            nothing_for(&mut near, 100).await;
            assert_eq!(near.handle().state(), State::Alive);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_pings_too_often_is_sent_off_as_one_that_violates_a_policy() {
    let policy = PingPolicy::grpc()
        .min_interval(millis(1_000))
        .expect("legal");
    let (near, mut far) = pair(config(), 4_096).await;
    let mut near = near.police_pings(policy.while_idle(true));
    for _ in 0..4 {
        let ping = Message::Ping(b"flood".to_vec().into());
        far.send(ping).await.expect("it is taken");
    }
    assert_eq!(verdict(&mut near).await, Failure::PingFlood);
    let mut last = None;
    while let Some(Ok(message)) = far.next().await {
        last = Some(message);
    }
    let Some(Message::Close(Some(frame))) = last else {
        panic!("{last:?}")
    };
    assert_eq!(frame.code, CloseCode::Policy);
    assert_eq!(frame.reason, "peer pinged too often");
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_left_with_a_close_frame_of_choice() {
    for (protocol, code) in [
        (WebSocket::new(), CloseCode::Error),
        (
            WebSocket::new().close_code(4_000).expect("permitted"),
            CloseCode::Library(4_000),
        ),
    ] {
        let (near, far) = duplex(4_096);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut near = HeartbeatStream::new(near, protocol, config());
        near.next().await.expect("an item").expect_err("dead");
        // What it answers would be lost.
        let far = tokio::io::join(far, tokio::io::sink());
        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let ping = far.next().await.expect("an item").expect("a frame");
        assert!(ping.is_ping());
        let close = far.next().await.expect("an item").expect("a frame");
        let Message::Close(Some(close)) = close else {
            panic!("{close:?}")
        };
        assert_eq!(close.code, code);
        assert_eq!(close.reason.as_str(), "peer did not answer a ping");
    }
}

#[test]
fn a_close_code_that_no_frame_may_have_is_refused() {
    for code in [0, 999, 1_005, 1_006, 1_015, 5_000] {
        let error = WebSocket::new().close_code(code).expect_err("forbidden");
        assert_eq!(error.setting(), Setting::CloseCode);
        assert!(error.to_string().contains(&code.to_string()), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_on_this_side_is_normal() {
    let (mut near, mut far) = pair(config(), 4_096).await;
    near.handle().close();
    assert_eq!(verdict(&mut near).await, Failure::Closed);
    let close = far.next().await.expect("an item").expect("a frame");
    let Message::Close(Some(close)) = close else {
        panic!("{close:?}")
    };
    assert_eq!(close.code, CloseCode::Normal);
}

#[tokio::test(start_paused = true)]
async fn the_close_handshake_completes_and_its_frames_are_the_users() {
    let (mut near, mut far) = pair(config(), 4_096).await;
    near.close().await.expect("it is taken");
    let close = far.next().await.expect("an item").expect("a frame");
    assert!(close.is_close());
    spawn(async move { far.next().await.is_none() });
    let close = near.next().await.expect("an item").expect("a frame");
    assert!(close.is_close());
    assert!(near.next().await.is_none());
    assert_eq!(near.handle().failure(), Some(Failure::Transport));
}

#[tokio::test(start_paused = true)]
async fn the_close_handshake_never_hangs_on_a_dead_peer() {
    for ping_when in [PingWhen::Quiet, PingWhen::WhileBusy] {
        let config = settings().ping_when(ping_when).build().expect("legal");
        let (mut near, _far) = pair(config, 4_096).await;
        near.close().await.expect("it is taken");
        let began = Instant::now();
        assert_eq!(verdict(&mut near).await, Failure::PongTimeout);
        assert!(began.elapsed() <= config.worst_case_detection());
    }

    let (mut near, _far) = pair(config(), 16).await;
    near.feed(Message::text("x".repeat(100)))
        .await
        .expect("it is buffered");
    let closed = timeout(millis(2_000), near.close()).await;
    closed.expect("in time").expect_err("it is stuck");
}

#[tokio::test(start_paused = true)]
async fn a_ping_between_the_fragments_of_a_message_is_answered_and_the_message_whole() {
    let (mut near, far) = pair(config(), 4_096).await;
    let mut far = far.into_inner();
    let reading = spawn(async move { near.next().await.expect("an item") });
    let parts: [&[u8]; 3] = [b"\x01\x03one", b"\x89\x01p", b"\x80\x03two"];
    for part in parts {
        tokio::io::AsyncWriteExt::write_all(&mut far, part)
            .await
            .expect("it is taken");
        sleep(millis(10)).await;
    }
    let message = reading.await.expect("no panic").expect("a message");
    assert_eq!(message, Message::text("onetwo"));
    let mut pong = [0; 7];
    tokio::io::AsyncReadExt::read_exact(&mut far, &mut pong)
        .await
        .expect("a pong");
    assert_eq!(pong[..2], [0x8a, 0x81]);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_over_a_slow_link_is_no_death() {
    let (near, mut far) = duplex(64 * 1_024);
    let (near, ear) = transport::hear(near);
    let unlimited = WebSocketConfig::default().max_frame_size(None);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, Some(unlimited)).await;
    let near = HeartbeatStream::new(near, WebSocket::new(), config());
    let mut near = near.hear_bytes(&ear);
    let length: usize = 64 << 20;
    let sending = spawn(async move {
        let head = [&[0x82, 127][..], &(length as u64).to_be_bytes()].concat();
        tokio::io::AsyncWriteExt::write_all(&mut far, &head).await?;
        let part = vec![7; 1 << 20];
        for _ in 0..64 {
            sleep(millis(500)).await;
            tokio::io::AsyncWriteExt::write_all(&mut far, &part).await?;
        }
        Ok::<_, std::io::Error>(far)
    });
    let began = Instant::now();
    let message = near.next().await.expect("an item").expect("a message");
    assert_eq!(message.len(), length);
    assert!(began.elapsed() >= millis(32_000));
    drop(sending.await.expect("no panic").expect("it is taken"));
}

#[tokio::test(start_paused = true)]
async fn split_halves_under_back_pressure_get_on_with_pings_of_both_sides() {
    let (near, far) = pair(settings().interval(millis(50)).build().expect("legal"), 64).await;
    let far = HeartbeatStream::new(far, WebSocket::new(), config());
    let handle = near.handle();
    let (mut writer, mut reader) = near.split();
    let (mut echo, requests) = far.split();
    spawn(async move {
        let mut requests = requests.map(|item| item.map_err(|error| format!("{error}")));
        while let Some(Ok(message)) = requests.next().await {
            echo.send(message).await.expect("alive");
        }
    });
    let writing = spawn(async move {
        for number in 0..100 {
            let text = Message::text(format!("{number:0100}"));
            writer.send(text).await.expect("alive");
            sleep(millis(if number % 10 == 0 { 200 } else { 0 })).await;
        }
        writer
    });
    for number in 0..100 {
        let item = timeout(millis(5_000), reader.next()).await;
        let message = item.expect("it gets on").expect("an item").expect("alive");
        assert_eq!(message, Message::text(format!("{number:0100}")));
    }
    drop(writing.await.expect("no panic"));
    assert!(handle.pongs() > 5, "{}", handle.pongs());
}
