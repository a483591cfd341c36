//! Connections whose futures somebody else drives: the limits act on their bytes alone.

use std::convert::Infallible;

use hyper::{Response, service::service_fn};
use hyper_util::{rt::TokioExecutor, server::conn::auto};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};
use tower_heartbeat::server::{Handle, Phase, Reason};

use crate::support::{Client, Http1, Http2, Server, get, limits, ms, post, sleep};

/// A connection as a server that knows nothing of limits drives it.
struct Watched {
    handle: Handle,
    driver: JoinHandle<()>,
}

impl Watched {
    /// How it ended, and when.
    async fn ended(self, server: &Server) -> (Reason, bool, u128) {
        self.driver.await.expect("no panic");
        let ended = self.handle.ended().expect("its IO is gone");
        let now = server.now().as_millis();
        (ended.reason(), ended.was_forced(), now)
    }
}

fn watch(server: &Server) -> (DuplexStream, Watched) {
    let (io, client) = server.watched(1 << 20);
    let handle = io.handle();
    let service = handle.counted(server.service());
    let driver = tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection_with_upgrades(io, service);
        let _end = connection.await;
    });
    (client, Watched { handle, driver })
}

fn server() -> Server {
    Server::new(
        limits()
            .handshake_timeout(ms(200))
            .idle_timeout(ms(300))
            .grace(ms(250))
            .read_timeout(ms(400))
            .write_timeout(ms(500)),
    )
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_off() {
    let server = server();
    let (_client, watched) = watch(&server);
    assert_eq!(watched.ended(&server).await, (Reason::Handshake, true, 200));
    assert_eq!(server.connections.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_one_leaves_one_limit_after_its_last_response() {
    for http2 in [false, true] {
        let server = server();
        let (io, watched) = watch(&server);
        let mut client = Client::over(io, http2).await;
        client.ask(get("/slow/700")).await.expect("an answer");
        client.ask(get("/held/700")).await.expect("an answer");
        let end = watched.ended(&server).await;
        assert_eq!(end, (Reason::Idle, false, 1_400 + 300), "http2 {http2}");
        client.closed_in_order().await;
    }
}

#[tokio::test(start_paused = true)]
async fn http1_is_told_with_its_last_response() {
    let server = server();
    let (io, watched) = watch(&server);
    let mut client = Http1::over(io).await;
    let handle = watched.handle.clone();
    let leave = async {
        sleep(50).await;
        handle.drain();
    };
    let (answer, ()) = tokio::join!(client.ask(get("/slow/150")), leave);
    assert_eq!(answer.expect("an answer"), ("slow".into(), true));
    let end = watched.ended(&server).await;
    assert_eq!(end, (Reason::Shutdown, false, 150));
}

#[tokio::test(start_paused = true)]
async fn http2_is_told_by_goaways_first_to_come_no_more_then_what_was_taken() {
    let server = server();
    let (mut io, watched) = watch(&server);
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice(),
        // GET http://a/slow/200 in HPACK, without Huffman.
        b"\0\0\x10\x01\x05\0\0\0\x01\x82\x86\x41\x01a\x04\x09/slow/200",
    ]
    .concat();
    io.write_all(&request).await.expect("room");
    sleep(100).await;
    watched.handle.drain();
    let mut bytes = Vec::new();
    let mut told = Vec::new();
    while let Ok(1..) = io.read_buf(&mut bytes).await {
        for last in goaways(&mut bytes) {
            told.push((last, server.now()));
            // The request is answered before it has heard of this.
            if told.len() == 1 {
                sleep(120).await;
                let pong = b"\0\0\x08\x06\x01\0\0\0\0farewell";
                io.write_all(pong).await.expect("room");
            }
        }
    }
    assert_eq!(told, [(0x7fff_ffff, ms(100)), (1, ms(220))]);
    let end = watched.ended(&server).await;
    assert_eq!(end, (Reason::Shutdown, false, 220));
}

/// It sends its SETTINGS before the client has said anything.
#[tokio::test(start_paused = true)]
async fn a_server_of_http2_only_is_understood() {
    let server = server();
    let (io, client) = server.watched(1 << 20);
    let handle = io.handle();
    let service = handle.counted(server.service());
    let driver = tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
        let _end = builder.serve_connection(io, service).await;
    });
    let mut client = Http2::over(client).await;
    // Its head is out long before its body, which flow control holds back.
    let response = client.send.send_request(get("/large/10000000")).await;
    let response = response.expect("a head");
    sleep(400).await;
    assert_eq!(handle.phase(), Phase::Serving, "a stream is open");
    drop(response);
    driver.await.expect("no panic");
    let ended = handle.ended().expect("its IO is gone");
    assert_eq!((ended.reason(), ended.was_forced()), (Reason::Idle, false));
    assert_eq!(server.now(), ms(700));
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_is_moved_with_no_failed_call() {
    let server = Server::new(limits().max_age(ms(1_000)).grace(ms(500)));
    let mut moves = 0;
    let (io, mut watched) = watch(&server);
    let mut client = Http2::over(io).await;
    while server.now() < ms(10_000) {
        tokio::task::yield_now().await;
        if client.send.ready().await.is_err() {
            let (io, next) = watch(&server);
            let old = std::mem::replace(&mut watched, next);
            let (reason, forced, _) = old.ended(&server).await;
            assert_eq!((reason, forced), (Reason::Age, false));
            client = Http2::over(io).await;
            moves += 1;
        }
        client.ask(get("/slow/33")).await.expect("no call fails");
    }
    assert!((8..=11).contains(&moves), "{moves}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_by_grace() {
    for http2 in [false, true] {
        for path in ["/slow/9000", "/held/9000"] {
            let server = server();
            let (io, watched) = watch(&server);
            let mut client = Client::over(io, http2).await;
            let asked = tokio::spawn(async move { client.ask(get(path)).await });
            sleep(100).await;
            watched.handle.drain();
            let end = watched.ended(&server).await;
            assert_eq!(end, (Reason::Shutdown, true, 350), "http2 {http2}, {path}");
            asked.await.expect("no panic").expect_err("cut off");
            sleep(1).await;
            assert_eq!(server.alive.count(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_by_grace_also_where_hyper_neither_reads_nor_writes() {
    let server = server();
    let (mut io, watched) = watch(&server);
    let head = b"POST /later/9000 HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\n";
    io.write_all(head).await.expect("room");
    io.write_all(&[b'x'; 900_000]).await.expect("room");
    sleep(100).await;
    watched.handle.drain();
    let end = watched.ended(&server).await;
    assert_eq!(end, (Reason::Shutdown, true, 350));
}

#[tokio::test(start_paused = true)]
async fn dead_and_stalled_clients_are_cut_off() {
    for http2 in [false, true] {
        let server = server();
        let (io, watched) = watch(&server);
        let mut client = Client::over(io, http2).await;
        let body = crate::support::Drip::new(ms(10), 5).then_silent();
        let asked = tokio::spawn(async move { client.ask(post("/upload", body)).await });
        let end = watched.ended(&server).await;
        assert_eq!(end, (Reason::Dead, true, 50 + 400), "http2 {http2}");
        asked.await.expect("no panic").expect_err("cut off");

        let (io, watched) = watch(&server);
        let mut client = Client::over(io, http2).await;
        let _response = client.begin(get("/endless")).await.expect("a head");
        let (reason, forced, _) = watched.ended(&server).await;
        assert_eq!((reason, forced), (Reason::Stalled, true), "http2 {http2}");
        sleep(1).await;
        assert_eq!(server.alive.count(), 0);
    }
}

/// Nobody knows then whether there is anything to be written.
#[tokio::test(start_paused = true)]
async fn a_stream_of_which_no_service_tells_is_not_stalled() {
    let server = server();
    let (io, client) = server.watched(1 << 20);
    let handle = io.handle();
    tokio::spawn(async move {
        let service = service_fn(async |_| {
            sleep(2_000).await;
            Ok::<_, Infallible>(Response::new(String::from("slow")))
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        let _end = builder.serve_connection(io, service).await;
    });
    let mut client = Http2::over(client).await;
    client.ask(get("/")).await.expect("an answer");
    assert_eq!(handle.phase(), Phase::Serving);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_them_as_well() {
    let server = server();
    let (io, watched) = watch(&server);
    let mut client = Http2::over(io).await;
    let asked = tokio::spawn(async move { client.ask(get("/slow/150")).await });
    sleep(50).await;
    server.connections.shutdown().await;
    assert_eq!(server.now(), ms(150));
    asked.await.expect("no panic").expect("an answer");
    let (reason, ..) = watched.ended(&server).await;
    assert_eq!(reason, Reason::Shutdown);
}

/// The last streams that GOAWAYs in these bytes speak of; takes whole frames out.
fn goaways(bytes: &mut Vec<u8>) -> Vec<u32> {
    let mut found = Vec::new();
    while let Some(head) = bytes.first_chunk::<9>().copied() {
        let length = 9 + usize::from(head[1]) * 256 + usize::from(head[2]);
        if bytes.len() < length {
            break;
        }
        let frame: Vec<u8> = bytes.drain(..length).collect();
        if head[3] == 7 {
            found.push(u32::from_be_bytes([
                frame[9], frame[10], frame[11], frame[12],
            ]));
        }
    }
    found
}
