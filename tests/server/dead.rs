//! Clients that vanish in the middle of a request or of a response.

use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tower_heartbeat::server::Reason;

use crate::support::{Client, Drip, Http2, Server, full, get, limits, ms, post, sleep};

fn server() -> Server {
    let limits = limits().read_timeout(ms(300)).write_timeout(ms(500));
    Server::new(limits.grace(ms(200)))
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stops_is_dead_at_the_limit_and_its_handler_is_dropped() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect();
        let mut client = Client::over(io, http2).await;
        // Ten bytes, one every 100 ms; then nothing, and no end.
        let body = Drip::new(ms(100), 10).then_silent();
        let asked = tokio::spawn(async move { client.ask(post("/upload", body)).await });
        served.end().await.is(Reason::Dead, true, 1_000 + 300);
        sleep(1).await;
        assert_eq!(server.alive.count(), 0, "http2 {http2}");
        asked.await.expect("no panic").expect_err("cut off");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_not_quiet() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect();
        let mut client = Client::over(io, http2).await;
        let body = Drip::new(ms(290), 10).boxed();
        let answer = client.ask(post("/upload", body)).await;
        assert_eq!(answer.expect("an answer"), "10", "http2 {http2}");
        assert!(!served.is_over());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_look_is_not_the_clients_fault() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect();
        let mut client = Client::over(io, http2).await;
        let body = Drip::new(ms(1), 5).boxed();
        let answer = client.ask(post("/later/2000", body)).await;
        assert_eq!(answer.expect("an answer"), "later", "http2 {http2}");
        assert!(!served.is_over());
    }
}

/// What lies unread holds back the rest by flow control, and that the client cannot help.
#[tokio::test(start_paused = true)]
async fn an_upload_behind_one_that_nobody_takes_is_not_quiet() {
    let server = server();
    let (io, served) = server.connect();
    let mut client = Http2::over(io).await;
    let large = full(&"x".repeat(4 << 20));
    let later = client.send.send_request(post("/later/2000", large));
    let later = tokio::spawn(later);
    sleep(10).await;
    let behind = client.ask(post("/upload", full("behind"))).await;
    assert_eq!(behind.expect("an answer"), "6");
    later.await.expect("no panic").expect("an answer");
    assert!(!served.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_with_its_whole_request_is_not_limited() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect();
        let mut client = Client::over(io, http2).await;
        client.ask(get("/slow/5000")).await.expect("an answer");
        client.ask(get("/held/5000")).await.expect("an answer");
        assert!(!served.is_over(), "http2 {http2}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_more_of_an_endless_response_is_stalled() {
    for http2 in [false, true] {
        let server = server();
        // Over HTTP/2 flow control stops the stream, and the socket is never full.
        let (io, served) = server.connect_with(if http2 { 1 << 20 } else { 4096 });
        let mut client = Client::over(io, http2).await;
        let response = client.begin(get("/endless")).await.expect("a head");
        let begun = server.now();
        let end = served.end().await;
        assert_eq!(end.ended.reason(), Reason::Stalled, "http2 {http2}");
        assert!(end.ended.was_forced());
        assert_eq!(end.at - begun, ms(500));
        sleep(1).await;
        assert_eq!(server.alive.count(), 0, "its body is dropped");
        drop(response);
    }
}

/// Its pongs and pings are written at once; of the response nothing goes.
#[tokio::test(start_paused = true)]
async fn a_client_that_pings_and_takes_nothing_is_stalled() {
    let server = server();
    let (io, served) = server.connect();
    let (send, mut connection) = h2::client::handshake(io).await.expect("a client");
    let mut pings = connection.ping_pong().expect("once");
    let driver = tokio::spawn(connection);
    let mut send = send.ready().await.expect("ready");
    let request = hyper::Request::get("http://localhost/endless").body(());
    let (response, _) = send
        .send_request(request.expect("a request"), true)
        .expect("sent");
    let pinger = tokio::spawn(async move {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            sleep(50).await;
        }
    });
    let response = response.await.expect("a head");
    served.end().await.is(Reason::Stalled, true, 500);
    drop(response);
    pinger.abort();
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn what_a_client_calls_off_is_not_held_against_it() {
    let server = server();
    let (io, served) = server.connect();
    let mut client = Client::over(io, true).await;
    let response = client.begin(get("/endless")).await.expect("a head");
    sleep(100).await;
    drop(response);
    let upload = Drip::new(ms(10), 5).then_silent();
    let asked = tokio::time::timeout(ms(100), client.ask(post("/upload", upload)));
    asked.await.expect_err("it waits for the rest");
    sleep(5_000).await;
    assert_eq!(server.alive.count(), 0);
    client.ask(get("/now")).await.expect("it is still there");
    assert!(!served.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not_stalled() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect_with(1024);
        let mut client = Client::over(io, http2).await;
        let response = client.begin(get("/endless")).await.expect("a head");
        let mut body = response.into_body();
        for _ in 0..40 {
            body.frame().await.expect("more").expect("no error");
            sleep(200).await;
        }
        assert!(!served.is_over(), "http2 {http2}");
        drop(body);
        drop(client);
        sleep(600).await;
        assert_eq!(server.alive.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_response_of_which_hyper_has_all_is_stalled_likewise() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect_with(if http2 { 1 << 20 } else { 4096 });
        let mut client = Client::over(io, http2).await;
        let response = client.begin(get("/large/10000000")).await.expect("a head");
        let end = served.end().await;
        assert_eq!(end.ended.reason(), Reason::Stalled, "http2 {http2}");
        drop(response);
    }
}

#[tokio::test(start_paused = true)]
async fn such_a_response_may_be_read_slowly() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect_with(if http2 { 1 << 24 } else { 4096 });
        let mut client = Client::over(io, http2).await;
        let response = client.begin(get("/large/10000000")).await.expect("a head");
        let mut body = response.into_body();
        for _ in 0..5 {
            let mut taken = 0;
            while taken < 1_500_000 {
                let frame = body.frame().await.expect("more").expect("no error");
                taken += frame.data_ref().map_or(0, |data| data.len());
            }
            sleep(200).await;
        }
        assert!(!served.is_over(), "http2 {http2}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_is_nobodys_fault() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect();
        let mut client = Client::over(io, http2).await;
        client.ask(get("/now")).await.expect("an answer");
        drop(client);
        let end = served.end().await;
        assert_eq!(end.ended.reason(), Reason::ClientClosed, "http2 {http2}");
        assert!(!end.ended.was_forced());
    }
    // In the middle of a head, of a request, and of a response.
    let sent: [&[u8]; 3] = [
        b"GET /now HT",
        b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx",
        b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for sent in sent {
        let server = server();
        let (mut client, served) = server.connect_with(4096);
        client.write_all(sent).await.expect("room");
        sleep(10).await;
        drop(client);
        let end = served.end().await;
        assert_eq!(end.ended.reason(), Reason::ClientClosed, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_http_is_an_error_that_says_so() {
    let server = server();
    let (mut client, served) = server.connect();
    client
        .write_all(b"\x16\x03\x01 TLS?\r\n\r\n")
        .await
        .expect("room");
    let end = served.end().await;
    assert_eq!(end.ended.reason(), Reason::Error);
    let error = end.ended.error().expect("hyper's");
    assert!(error.to_string().contains("parse"), "{error}");
}

/// hyper's own keep-alive, and PINGs at the IO, find clients that vanish while nothing is in flight.
#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_pings_is_dead() {
    use hyper_util::{
        rt::{TokioExecutor, TokioIo, TokioTimer},
        server::conn::auto,
    };
    use tower_heartbeat::{Config, h2_io::PingIo};

    for at_the_io in [false, true] {
        let server = server();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        if !at_the_io {
            builder
                .http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(Some(ms(1_000)))
                .keep_alive_timeout(ms(500));
        }
        let config = Config::builder()
            .interval(ms(1_000))
            .pong_timeout(ms(500))
            .max_missed(1);
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let service = hyper::service::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new()))
        });
        let config = config.build().expect("legal");
        let served = if at_the_io {
            let io = PingIo::server(TokioIo::new(near), config);
            tokio::spawn(
                server
                    .connections
                    .serve_connection_with(&builder, io, service),
            )
            .await
        } else {
            far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .expect("room");
            let io = TokioIo::new(near);
            tokio::spawn(
                server
                    .connections
                    .serve_connection_with(&builder, io, service),
            )
            .await
        };
        let ended = served.expect("no panic");
        assert_eq!(ended.reason(), Reason::Dead, "{ended:?}");
    }
}
