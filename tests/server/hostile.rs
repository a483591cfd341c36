//! Clients and handlers that do what they should not, or seldom do.

use http_body_util::BodyExt;
use hyper_util::{rt::TokioExecutor, server::conn::auto};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};
use tower_heartbeat::server::{Ended, Handle, Reason};

use crate::support::{Client, Drip, Http2, Server, full, get, limits, ms, post, sleep};

/// A connection as hyper is driven here, or elsewhere.
fn serve(server: &Server, watched: bool) -> (DuplexStream, Handle, JoinHandle<()>) {
    if !watched {
        let (client, served) = server.connect();
        let handle = served.handle.clone();
        return (
            client,
            handle,
            tokio::spawn(async move { drop(served.end().await) }),
        );
    }
    let (io, client) = server.watched(1 << 20);
    let handle = io.handle();
    let service = handle.counted(server.service());
    let task = tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        let _end = builder.serve_connection_with_upgrades(io, service).await;
    });
    (client, handle, task)
}

fn over(handle: &Handle) -> (Reason, bool) {
    let ended: Ended = handle.ended().expect("it is over");
    (ended.reason(), ended.was_forced())
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_leaves_nothing_behind() {
    for watched in [false, true] {
        for http2 in [false, true] {
            let server = Server::new(limits().idle_timeout(ms(300)));
            let (io, handle, task) = serve(&server, watched);
            let mut client = Client::over(io, http2).await;
            client
                .ask(get("/nothing/of/that"))
                .await
                .expect_err("panics");
            sleep(1).await;
            assert_eq!((handle.in_flight(), server.alive.count()), (0, 0));
            if http2 {
                client.ask(get("/now")).await.expect("its own task");
                task.await.expect("no panic");
                assert_eq!(over(&handle), (Reason::Idle, false));
            } else {
                task.await.expect_err("it panics");
                assert_eq!(over(&handle), (Reason::Closed, false));
            }
            assert_eq!(server.connections.count(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickle_does_not_hold_up_a_drain() {
    for watched in [false, true] {
        for http2 in [false, true] {
            let server = Server::new(limits().grace(ms(250)).read_timeout(ms(100)));
            let (io, handle, task) = serve(&server, watched);
            let mut client = Client::over(io, http2).await;
            let body = Drip::new(ms(10), 100_000).then_silent();
            let asked = tokio::spawn(async move { client.ask(post("/upload", body)).await });
            sleep(100).await;
            handle.drain();
            handle.drain();
            task.await.expect("it ends");
            assert_eq!(server.now(), ms(350));
            assert_eq!(over(&handle), (Reason::Shutdown, true));
            asked.await.expect("no panic").expect_err("cut off");
            sleep(1).await;
            assert_eq!((handle.in_flight(), server.alive.count()), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    for watched in [false, true] {
        let server = Server::new(limits().idle_timeout(ms(300)));
        let (mut io, handle, task) = serve(&server, watched);
        io.write_all(
            b"HEAD /slow/100 HTTP/1.1\r\nhost: a\r\n\r\nGET /slow/50 HTTP/1.1\r\nhost: a\r\n\r\nGET /now HTTP/1.1\r\nhost: a\r\n\r\n",
        )
        .await
        .expect("room");
        let mut said = String::new();
        io.read_to_string(&mut said).await.expect("the end");
        task.await.expect("no panic");
        assert_eq!(over(&handle), (Reason::Idle, false));
        assert_eq!(server.now(), ms(150 + 300));
        assert_eq!(said.matches("content-length: 4\r\n").count(), 2, "{said}");
        assert!(said.ends_with("\r\n\r\nnow"), "{said}");
        assert_eq!(handle.ended().expect("over").requests(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_told_to_continue_and_does_not_is_dead() {
    for watched in [false, true] {
        for (path, reason, at) in [
            ("upload", Reason::Dead, 300),
            ("later/1000", Reason::Dead, 1_300),
        ] {
            let server = Server::new(limits().read_timeout(ms(300)));
            let (mut io, handle, task) = serve(&server, watched);
            let head = format!(
                "POST /{path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
            );
            io.write_all(head.as_bytes()).await.expect("room");
            let mut said = String::new();
            let _cut = io.read_to_string(&mut said).await;
            task.await.expect("no panic");
            assert!(said.starts_with("HTTP/1.1 100 Continue"), "{said}");
            assert_eq!(over(&handle), (reason, true), "watched {watched}");
            assert_eq!(server.now(), ms(at));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_opened_and_reset_leave_nothing_in_flight() {
    for watched in [false, true] {
        let server = Server::new(limits().idle_timeout(ms(300)).write_timeout(ms(100)));
        let (io, handle, task) = serve(&server, watched);
        let mut client = Http2::over(io).await;
        for round in 0..500_u32 {
            let path = ["/slow/9000", "/endless", "/upload", "/held/9000"][round as usize % 4];
            let asked = client.send.send_request(get(path));
            if round % 3 == 0 {
                let _answer = tokio::time::timeout(ms(1), asked).await;
            } else {
                drop(asked);
            }
            tokio::task::yield_now().await;
        }
        let begun = server.now();
        task.await.expect("no panic");
        assert_eq!(over(&handle).0, Reason::Idle, "{:?}", handle.ended());
        assert!(server.now() - begun <= ms(310));
        assert_eq!((handle.in_flight(), server.alive.count()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn long_heads_and_trailers_end_like_others() {
    for watched in [false, true] {
        let server = Server::new(limits().idle_timeout(ms(300)).read_timeout(ms(200)));
        let (io, handle, task) = serve(&server, watched);
        let (mut send, connection) = h2::client::handshake(io).await.expect("a client");
        let driver = tokio::spawn(connection);
        for _ in 0..3 {
            // Longer than a frame, so that CONTINUATIONs follow.
            let mut request = hyper::Request::post("http://a/upload");
            for name in ["x-a", "x-b", "x-c"] {
                request = request.header(name, "y".repeat(5_000));
            }
            let request = request.body(()).expect("a request");
            let (answer, mut body) = send.send_request(request, false).expect("sent");
            body.send_data("123".into(), false).expect("sent");
            sleep(150).await;
            let name = hyper::header::HeaderName::from_static("x-t");
            let trailers = [(name, "z".repeat(4_000).parse().expect("a value"))];
            body.send_trailers(trailers.into_iter().collect())
                .expect("sent");
            let mut answer = answer.await.expect("an answer").into_body();
            let data = answer.data().await.expect("data").expect("no error");
            assert_eq!(&data[..], b"3");
            assert!(answer.data().await.is_none());
        }
        assert_eq!(handle.in_flight(), 0);
        let begun = server.now();
        task.await.expect("no panic");
        assert_eq!(server.now() - begun, ms(300));
        assert_eq!(over(&handle), (Reason::Idle, false));
        drop(send);
        driver.await.expect("no panic").expect("in order");
    }
}

/// Nothing but the call itself wakes the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_from_another_thread_is_heard_at_once() {
    for watched in [false, true] {
        for http2 in [false, true] {
            for path in ["/slow/90000", "/held/90000", "/upload"] {
                let server = Server::new(limits());
                let (io, handle, task) = serve(&server, watched);
                let mut client = Client::over(io, http2).await;
                let body = if path == "/upload" {
                    Drip::new(ms(1), 3).then_silent()
                } else {
                    full("x")
                };
                let asked = tokio::spawn(async move { client.ask(post(path, body)).await });
                while handle.in_flight() == 0 {
                    sleep(1).await;
                }
                sleep(20).await;
                let closing = handle.clone();
                std::thread::spawn(move || closing.close())
                    .join()
                    .expect("no panic");
                let end = tokio::time::timeout(ms(10_000), task).await;
                end.expect("in time").expect("no panic");
                assert_eq!(
                    over(&handle),
                    (Reason::Closed, true),
                    "{path} {http2} {watched}"
                );
                asked.await.expect("no panic").expect_err("cut off");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_are_known_as_without_limits() {
    let server = Server::new(limits());
    let (mut io, _, _task) = serve(&server, false);
    io.write_all(b"GET /now HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("room");
    let mut buffer = [0; 1024];
    sleep(1).await;
    let length = io.read(&mut buffer).await.expect("an answer");
    let said = String::from_utf8_lossy(&buffer[..length]);
    assert!(said.contains("content-length: 3"), "{said}");
}

/// hyper closes the IO then, before the client does.
#[tokio::test(start_paused = true)]
async fn a_client_that_says_goaway_has_closed_its_connection() {
    for watched in [false, true] {
        let server = Server::new(limits());
        let (mut io, handle, task) = serve(&server, watched);
        let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let go_away = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
        io.write_all(&[&opening[..], go_away].concat())
            .await
            .expect("room");
        task.await.expect("no panic");
        assert_eq!(
            over(&handle),
            (Reason::ClientClosed, false),
            "watched {watched}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_of_our_own_what_came_meanwhile_is_read_first() {
    for watched in [false, true] {
        for http2 in [false, true] {
            let limits = limits().idle_timeout(ms(300)).read_timeout(ms(250));
            let server = Server::new(limits.grace(ms(50)));
            let (io, handle, _task) = serve(&server, watched);
            let mut client = Client::over(io, http2).await;
            client.ask(get("/now")).await.expect("an answer");
            sleep(100).await;
            let body = Drip::new(ms(240), 4).boxed();
            let asked =
                tokio::spawn(async move { (client.ask(post("/upload", body)).await, client) });
            // Nothing of the connection runs meanwhile; then in the middle of the upload.
            tokio::time::advance(ms(5_000)).await;
            sleep(300).await;
            tokio::time::advance(ms(5_000)).await;
            let (answer, _client) = asked.await.expect("no panic");
            assert_eq!(answer.expect("an answer"), "4", "{watched} {http2}");
            assert!(handle.ended().is_none());
        }
    }
}
