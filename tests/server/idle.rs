//! Idle is: no request and no body in flight.

use tower_heartbeat::server::{Phase, Reason};

use crate::support::{Client, Drip, Http1, Http2, Server, get, limits, ms, post, sleep};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

fn server() -> Server {
    Server::new(limits().idle_timeout(ms(300)).grace(ms(200)))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_anything_is_closed_at_the_idle_limit() {
    let server = server();
    let (_client, served) = server.connect();
    let end = served.end().await;
    end.is(Reason::Idle, false, 300);
    assert!(end.ended.error().is_none());
    assert_eq!(
        server.events(),
        ["Accepted", "Draining(Idle)", "Ended(Idle)"]
    );
}

#[tokio::test(start_paused = true)]
async fn keep_alive_http1_is_closed_one_limit_after_its_last_response() {
    let server = server();
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    for _ in 0..3 {
        sleep(250).await;
        client.ask(get("/now")).await.expect("an answer");
    }
    served.end().await.is(Reason::Idle, false, 750 + 300);
    client
        .connection
        .await
        .expect("no panic")
        .expect("in good order");
    assert_eq!(
        server.events(),
        ["Accepted", "Opened", "Draining(Idle)", "Ended(Idle)"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_no_idle_connection() {
    let server = server();
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    let (body, _) = client.ask(get("/slow/700")).await.expect("an answer");
    assert_eq!(body, "slow");
    served.end().await.is(Reason::Idle, false, 700 + 300);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_its_time_keeps_the_connection_in_use() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect();
        let mut client = Client::over(io, http2).await;
        client.ask(get("/held/700")).await.expect("a body");
        served.end().await.is(Reason::Idle, false, 700 + 300);
    }
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_is_told_and_leaves_in_good_order() {
    let server = server();
    let (io, served) = server.connect();
    let mut client = Http2::over(io).await;
    sleep(200).await;
    client.ask(get("/slow/400")).await.expect("an answer");
    served.end().await.is(Reason::Idle, false, 200 + 400 + 300);
    client
        .connection
        .await
        .expect("no panic")
        .expect("a clean GOAWAY");
}

#[tokio::test(start_paused = true)]
async fn an_http2_stream_outlives_the_limit_and_its_connection_closes_one_limit_later() {
    let server = server();
    let (io, served) = server.connect();
    let mut client = Http2::over(io).await;
    client.ask(get("/held/2000")).await.expect("a body");
    served.end().await.is(Reason::Idle, false, 2_000 + 300);
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_client_are_no_use() {
    let server = server();
    let (io, served) = server.connect();
    let (_send, mut connection) = h2_client(io).await;
    let mut pings = connection.ping_pong().expect("once");
    let driver = tokio::spawn(connection);
    let pinger = tokio::spawn(async move {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            sleep(20).await;
        }
    });
    served.end().await.is(Reason::Idle, false, 300);
    pinger.abort();
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_no_request_of_either_protocol() {
    let server = server();
    for http2 in [false, true] {
        let (mut io, served) = server.connect();
        let begun = server.now();
        let sent: &[u8] = if http2 {
            // The preface, SETTINGS, and HEADERS without END_HEADERS.
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82"
        } else {
            b"GET /now HT"
        };
        io.write_all(sent).await.expect("room");
        let end = served.end().await;
        assert_eq!(end.ended.reason(), Reason::Idle, "http2 {http2}");
        assert!(
            end.at - begun >= ms(300) && end.at - begun <= ms(500),
            "{end:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_request_line_is_cut_off_when_grace_is_over() {
    let server = server();
    let (mut io, served) = server.connect();
    tokio::io::AsyncWriteExt::write_all(&mut io, b"GET /now HT")
        .await
        .expect("room");
    served.end().await.is(Reason::Idle, true, 300 + 200);
}

#[tokio::test(start_paused = true)]
async fn a_large_response_is_in_flight_until_its_last_byte() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect_with(1024);
        // The client's side of the socket drips: 1 KiB every 50 ms.
        let (near, far) = tokio::io::duplex(1 << 20);
        let drip = tokio::spawn(drip(io, near));
        let mut client = Client::over(far, http2).await;
        let answer = client.ask(get("/large/30000")).await;
        assert_eq!(answer.expect("the whole").len(), 30_000, "http2 {http2}");
        let whole_at = server.now();
        assert!(whole_at > ms(1_000), "slower than any limit: {whole_at:?}");
        let end = served.end().await;
        assert_eq!(end.ended.reason(), Reason::Idle, "http2 {http2}");
        drip.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_outlives_its_response_is_in_flight() {
    let limits = limits().idle_timeout(ms(300)).write_timeout(ms(500));
    for http2 in [false, true] {
        let server = Server::new(limits);
        let (mut io, served) = server.connect();
        if http2 {
            let mut client = Client::over(io, true).await;
            let upload = Drip::new(ms(100), 10).boxed();
            let answer = client.ask(post("/detach", upload)).await;
            assert_eq!(answer.expect("at once"), "detached");
            assert_eq!(server.now(), ms(0));
            served.end().await.is(Reason::Idle, false, 1_000 + 300);
        } else {
            let head = b"POST /detach HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
            io.write_all(head).await.expect("room");
            for _ in 0..10 {
                sleep(100).await;
                io.write_all(b"x").await.expect("room");
            }
            served.end().await.is(Reason::Idle, false, 1_000 + 300);
        }
        assert_eq!(server.alive.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_handle_tells_what_is_in_flight() {
    let server = server();
    let (io, served) = server.connect();
    let handle = served.handle.clone();
    sleep(100).await;
    assert_eq!((handle.in_flight(), handle.idle_for()), (0, ms(100)));
    let mut client = Http2::over(io).await;
    let ask = client.ask(get("/held/100"));
    let look = async {
        sleep(50).await;
        assert_eq!((handle.in_flight(), handle.idle_for()), (1, ms(0)));
        assert_eq!(handle.phase(), Phase::Serving);
        assert_eq!(handle.age(), ms(150));
    };
    let (answer, ()) = tokio::join!(ask, look);
    answer.expect("an answer");
    sleep(10).await;
    assert_eq!((handle.in_flight(), handle.idle_for()), (0, ms(10)));
    let end = served.end().await;
    assert_eq!(handle.phase(), Phase::Ended(Reason::Idle));
    assert_eq!(end.ended.requests(), 1);
    assert_eq!(handle.age(), end.at);
}

#[tokio::test(start_paused = true)]
async fn a_busy_guard_keeps_the_connection_in_use() {
    let server = server();
    let (_io, served) = server.connect();
    let busy = served.handle.busy();
    sleep(1_000).await;
    assert_eq!(served.handle.phase(), Phase::Serving);
    drop(busy);
    served.end().await.is(Reason::Idle, false, 1_300);
}

/// A service of tower's goes as well.
#[tokio::test(start_paused = true)]
async fn a_tower_service_is_served() {
    use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    use tower_heartbeat::server::{Handle, RequestBody};

    let server = server();
    let (near, far) = tokio::io::duplex(1024);
    let service = tower::service_fn(|request: hyper::Request<RequestBody>| async move {
        let handle = request.extensions().get::<Handle>().expect("it is there");
        assert_eq!(handle.in_flight(), 1);
        Ok::<_, std::convert::Infallible>(hyper::Response::new(String::from("tower")))
    });
    let connection = server
        .connections
        .serve_connection(TokioIo::new(near), TowerToHyperService::new(service));
    let served = tokio::spawn(connection);
    let mut client = Http1::over(far).await;
    let (body, _) = client.ask(get("/")).await.expect("an answer");
    assert_eq!(body, "tower");
    let ended = served.await.expect("no panic");
    assert_eq!(ended.reason(), Reason::Idle);
}

async fn h2_client(
    io: tokio::io::DuplexStream,
) -> (
    h2::client::SendRequest<hyper::body::Bytes>,
    h2::client::Connection<tokio::io::DuplexStream>,
) {
    h2::client::handshake(io).await.expect("a client")
}

async fn drip(slow: tokio::io::DuplexStream, fast: tokio::io::DuplexStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (mut from, mut to) = tokio::io::split(slow);
    let (mut asked, mut answer) = tokio::io::split(fast);
    let up = async { tokio::io::copy(&mut asked, &mut to).await };
    let down = async {
        let mut buffer = [0; 1024];
        loop {
            sleep(50).await;
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok::<_, std::io::Error>(());
            }
            answer.write_all(&buffer[..read]).await?;
        }
    };
    let _ends = tokio::join!(up, down);
}
