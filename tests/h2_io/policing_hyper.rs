//! hyper's server over an IO that counts pings.

use std::{convert::Infallible, future::pending, time::Duration};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    spawn,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_heartbeat::{
    Config, Failure, Handle, HeartbeatError, PingPolicy, PingWhen, Stage, h2_io::PingIo,
};

use crate::{
    policing::{ping, policy, without_pings},
    server::{get, shake_hands},
    support::{
        Side,
        frames::{ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, SETTINGS, frame, opening},
        parser,
        peer::millis,
    },
};

/// A client's end of a line to a server whose handler answers `/`, and nothing else ever.
fn serve(policy: PingPolicy) -> (DuplexStream, Handle, JoinHandle<hyper::Result<()>>) {
    let (near, far) = duplex(64 * 1024);
    let io = PingIo::server(near, without_pings()).police_pings(policy);
    let handle = io.handle();
    let service = service_fn(|request: Request<Incoming>| async move {
        if request.uri().path() != "/" {
            pending::<()>().await;
        }
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"here"))))
    });
    let end = spawn(
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service),
    );
    (far, handle, end)
}

/// `GET` of `/`, or of a path of which the server never says anything, on a stream.
fn request(stream: u32, is_answered: bool) -> Vec<u8> {
    // RFC 7541's static table: GET, http, and `/` or `/index.html`.
    let path = if is_answered { 0x84 } else { 0x85 };
    let block = [0x82, 0x86, path, 0x41, 1, b'a'];
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_floods_it_with_pings_is_sent_off_with_too_many_pings() {
    let (mut far, handle, end) = serve(policy());
    let begin = [
        opening(Side::Client),
        frame(SETTINGS, ACK, 0, &[]),
        request(1, false),
    ];
    far.write_all(&begin.concat()).await.expect("it is taken");
    let mut pings = 0;
    while handle.failure().is_none() && pings < 10 {
        far.write_all(&ping()).await.expect("it is taken");
        pings += 1;
        sleep(millis(20)).await;
    }
    assert_eq!((handle.failure(), pings), (Some(Failure::PingFlood), 4));

    let mut got = Vec::new();
    far.read_to_end(&mut got).await.expect("the end");
    let (frames, rest) = parser::frames(Side::Server, &got);
    assert!(rest.is_empty());
    let last = frames.last().expect("frames");
    assert_eq!(last.kind(), GOAWAY);
    assert_eq!(last.payload(), b"\0\0\0\x01\0\0\0\x0btoo_many_pings");
    let pongs = frames.iter().filter(|frame| frame.kind() == PING);
    assert_eq!(pongs.count(), 3);
    let error = end.await.expect("no panic").expect_err("it was sent off");
    let text = format!("{error:?}");
    assert!(text.contains("peer pinged too often"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn answers_forgive_pings_that_came_too_early() {
    let (mut far, handle, _end) = serve(policy());
    let begin = [opening(Side::Client), frame(SETTINGS, ACK, 0, &[])];
    far.write_all(&begin.concat()).await.expect("it is taken");
    for round in 0..20 {
        far.write_all(&ping().repeat(2)).await.expect("it lives");
        far.write_all(&request(2 * round + 1, true))
            .await
            .expect("it lives");
        sleep(millis(20)).await;
    }
    assert_eq!(handle.failure(), None);
    far.write_all(&ping().repeat(4)).await.expect("it lives");
    assert_eq!(handle.closed().await, Failure::PingFlood);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_as_permitted_is_served() {
    let (mut far, handle, _end) = serve(policy());
    let begin = [opening(Side::Client), frame(SETTINGS, ACK, 0, &[])];
    far.write_all(&begin.concat()).await.expect("it is taken");
    for _ in 0..60 {
        far.write_all(&ping()).await.expect("it is taken");
        sleep(millis(1_000)).await;
    }
    assert_eq!(handle.failure(), None);
}

/// Both ends of this crate's: what one does, the other understands.
#[tokio::test(start_paused = true)]
async fn its_own_clients_are_told_that_they_ping_too_often_unless_they_keep_the_interval() {
    for (interval, is_sent_off) in [(200, true), (1_100, false)] {
        let (far, handle, _end) = serve(policy());
        let config = Config::builder()
            .interval(millis(interval))
            .jitter(0)
            .ping_when(PingWhen::Always)
            .build()
            .expect("legal");
        let io = PingIo::client(far, config);
        let client = io.handle();
        let mut send = shake_hands(TokioIo::new(io)).await;
        let call = spawn(async move {
            let answer = send.send_request(get("never")).await;
            answer.map(drop)
        });
        let end = timeout(Duration::from_secs(30), client.closed()).await;
        if is_sent_off {
            assert_eq!(end, Ok(Failure::TooManyPings));
            assert_eq!(handle.failure(), Some(Failure::PingFlood));
            assert_eq!(client.pings(), 4);
            call.await.expect("no panic").expect_err("it has ended");
        } else {
            assert!(end.is_err(), "{end:?}");
            assert_eq!(handle.failure(), None);
            assert!(client.pongs() > 20);
        }
    }
}

#[test]
fn its_error_has_words() {
    let error = HeartbeatError::new(Failure::PingFlood, Stage::NotSent);
    assert_eq!(error.to_string(), "peer pinged too often");
}
