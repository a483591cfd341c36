//! The limits themselves.

use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_heartbeat::server::{
    Connections, Limits, Reason,
    axum::{App, AppFuture, MakeApp, MakeAppFuture, Watched, WatchedListener},
};

use crate::support::{CLIENT, Client, Drip, Server, full, get, ms, post, sleep};

fn server() -> Server {
    Server::new(Limits::builder().idle_timeout(ms(300)).grace(ms(200)))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_anything_is_closed_at_the_idle_limit() {
    let mut server = server();
    let mut client = server.connect();
    server.end().await.is(Reason::Idle, false, 300);
    assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
}

#[tokio::test(start_paused = true)]
async fn keep_alive_is_closed_one_limit_after_the_last_response() {
    for http2 in [false, true] {
        let mut server = server();
        let mut client = Client::over(server.connect(), http2).await;
        for _ in 0..3 {
            sleep(250).await;
            client.ask(get("/now")).await.expect("an answer");
        }
        server.end().await.is(Reason::Idle, false, 750 + 300);
        client.closed_in_order().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_and_a_slow_body_are_no_idle_connection() {
    for http2 in [false, true] {
        for path in ["/slow/700", "/held/700"] {
            let mut server = server();
            let mut client = Client::over(server.connect(), http2).await;
            client.ask(get(path)).await.expect("an answer");
            server.end().await.is(Reason::Idle, false, 700 + 300);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_request_line_is_cut_off_when_grace_is_over() {
    let mut server = server();
    let mut io = server.connect();
    io.write_all(b"GET /now HT").await.expect("room");
    server.end().await.is(Reason::Idle, true, 300 + 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_line_of_which_half_has_come_is_answered_if_the_rest_comes() {
    let mut server = server();
    let mut io = server.connect();
    io.write_all(b"GET /now HT").await.expect("room");
    sleep(400).await;
    io.write_all(b"TP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("room");
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains("connection: close") && answer.ends_with("now"));
    server.end().await.is(Reason::Idle, false, 400);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_own_limit() {
    let limits = || Limits::builder().handshake_timeout(ms(100));
    // The preface without SETTINGS is none.
    let begun: [&[u8]; 3] = [b"", b"GET /now HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    for begun in begun {
        let mut server = Server::new(limits());
        let mut io = server.connect();
        io.write_all(begun).await.expect("room");
        server.end().await.is(Reason::Handshake, true, 100);
    }
    for http2 in [false, true] {
        let server = Server::new(limits());
        let mut client = Client::over(server.connect(), http2).await;
        client.ask(get("/slow/1000")).await.expect("an answer");
        sleep(1_000).await;
        assert!(!server.is_any_over());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stops_is_dead_and_its_handler_is_dropped() {
    for http2 in [false, true] {
        let mut server = Server::new(Limits::builder().read_timeout(ms(300)));
        let mut client = Client::over(server.connect(), http2).await;
        let body = Drip::new(ms(100), 10).then_silent();
        let asked = tokio::spawn(async move { client.ask(post("/upload/0", body)).await });
        server.end().await.is(Reason::Dead, true, 1_000 + 300);
        sleep(1).await;
        assert_eq!(server.alive.count(), 0, "http2 {http2}");
        asked.await.expect("no panic").expect_err("cut off");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_more_of_a_response_is_stalled() {
    for http2 in [false, true] {
        let mut server = Server::new(Limits::builder().write_timeout(ms(500)));
        // Over HTTP/2 flow control stops the stream, and the socket is never full.
        let io = server.connect_with(if http2 { 1 << 20 } else { 4096 });
        let mut client = Client::over(io, http2).await;
        let response = client.begin(get("/endless/0")).await.expect("a head");
        let end = server.end().await;
        assert_eq!(end.ended.reason(), Reason::Stalled, "http2 {http2}");
        assert_eq!(end.at, ms(500));
        sleep(1).await;
        assert_eq!(server.alive.count(), 0, "its body is dropped");
        drop(response);
    }
}

#[tokio::test(start_paused = true)]
async fn grace_ends_where_nobody_reads_either() {
    for http2 in [false, true] {
        let limits = Limits::builder().max_age(ms(1_000)).age_jitter(0);
        let mut server = Server::new(limits.grace(ms(200)));
        let mut client = Client::over(server.connect(), http2).await;
        // More than hyper takes for a handler that does not look.
        let body = full(&"x".repeat(900_000));
        let asked = tokio::spawn(async move { client.ask(post("/deaf/9000", body)).await });
        server.end().await.is(Reason::Age, true, 1_200);
        asked.await.expect("no panic").expect_err("cut off");
        sleep(1).await;
        assert_eq!(server.alive.count(), 0, "http2 {http2}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_is_nobodys_fault() {
    for http2 in [false, true] {
        let mut server = server();
        let mut client = Client::over(server.connect(), http2).await;
        client.ask(get("/now")).await.expect("an answer");
        sleep(100).await;
        drop(client);
        server.end().await.is(Reason::ClientClosed, false, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_know_the_address_and_the_connection() {
    for http2 in [false, true] {
        let server = server();
        let mut client = Client::over(server.connect(), http2).await;
        let answer = client.ask(get("/client")).await.expect("an answer");
        assert_eq!(answer, format!("{CLIENT}, 1 in flight"));
        let handle = server.handle().await;
        sleep(10).await;
        assert_eq!((handle.in_flight(), handle.idle_for()), (0, ms(10)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_leaves_the_limits() {
    let limits = Limits::builder().idle_timeout(ms(300)).max_age(ms(1_000));
    let mut server = Server::new(limits.write_timeout(ms(200)).grace(ms(100)));
    let mut client = server.connect();
    sleep(50).await;
    let request =
        b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(request).await.expect("room");
    server.end().await.is(Reason::Upgraded, false, 50);
    assert_eq!(server.connections.count(), 0);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    for _ in 0..3 {
        sleep(2_000).await;
        client.write_all(b"echo").await.expect("room");
        let mut echo = [0; 4];
        client.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(&echo, b"echo");
    }
    server.connections.shutdown().await;
}

/// Over a real socket, in real time.
#[tokio::test]
async fn a_plain_router_is_served_as_well() {
    let limits = Limits::builder().idle_timeout(ms(300)).build();
    let connections = Connections::new(limits.expect("legal"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let app = Router::new().route("/", axum::routing::get(|| async { "plain" }));
    let serve = connections.serve_axum(listener, app);
    let address = serve.local_addr().expect("an address");
    let served = tokio::spawn(async move { serve.await });
    let mut io = TcpStream::connect(address).await.expect("a socket");
    io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("room");
    let mut answer = String::new();
    let read = io.read_to_string(&mut answer);
    let read = tokio::time::timeout(ms(10_000), read).await;
    read.expect("it is closed").expect("an answer");
    assert!(answer.ends_with("plain"));
    served.abort();
}

#[test]
fn all_public_types_have_debug_and_may_go_to_other_threads() {
    fn is<T: std::fmt::Debug + Send + Sync + Unpin>() {}
    is::<App<()>>();
    is::<AppFuture<std::future::Ready<()>>>();
    is::<MakeApp<()>>();
    is::<MakeAppFuture<std::future::Ready<()>>>();
    is::<Watched<TcpListener>>();
    is::<WatchedListener<TcpListener>>();
}
