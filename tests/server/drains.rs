//! Leaving in good order: by age, on demand, all at once; and upgrades.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower_heartbeat::server::{Phase, Reason};

use crate::support::{Client, Http1, Http2, Server, get, limits, ms, sleep};

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_calling_is_moved_with_no_failed_call() {
    for http2 in [false, true] {
        let server = Server::new(limits().max_age(ms(1_000)).grace(ms(500)));
        let mut connections = Vec::new();
        let (io, served) = server.connect();
        connections.push(served);
        let mut client = Client::over(io, http2).await;
        while server.now() < ms(10_000) {
            if !client.takes_calls().await {
                let (io, served) = server.connect();
                connections.push(served);
                client = Client::over(io, http2).await;
            }
            client.ask(get("/slow/33")).await.expect("no call fails");
        }
        drop(client);
        assert!(
            (9..=12).contains(&connections.len()),
            "{}",
            connections.len()
        );
        let last = connections.len() - 1;
        for (number, served) in connections.into_iter().enumerate() {
            let end = served.end().await;
            assert!(!end.ended.was_forced(), "http2 {http2}: {end:?}");
            if number < last {
                assert_eq!(end.ended.reason(), Reason::Age);
                let age = end.ended.age();
                assert!(age >= ms(900) && age <= ms(1_150), "{age:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn http1_of_age_closes_with_its_next_response_or_when_none_is_asked_for() {
    let limits = limits().max_age(ms(1_000)).age_jitter(0).grace(ms(500));
    let server = Server::new(limits);
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    let (_, is_last) = client.ask(get("/now")).await.expect("an answer");
    assert!(!is_last);
    sleep(1_200).await;
    assert_eq!(served.handle.phase(), Phase::Serving, "a request may come");
    let (_, is_last) = client.ask(get("/now")).await.expect("an answer");
    assert!(is_last);
    served.end().await.is(Reason::Age, false, 1_200);

    let server = Server::new(limits);
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    client.ask(get("/now")).await.expect("an answer");
    served.end().await.is(Reason::Age, false, 1_500);

    let server = Server::new(limits);
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    client.ask(get("/now")).await.expect("an answer");
    sleep(1_400).await;
    let late = client.ask(get("/slow/300")).await;
    let (_, is_last) = late.expect("its grace runs from when it came");
    assert!(is_last);
    served.end().await.is(Reason::Age, false, 1_700);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_of_one_age_do_not_leave_in_one_second() {
    let server = Server::new(limits().max_age(Duration::from_secs(600)));
    let mut clients = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..1_000 {
        let (client, served) = server.connect_with(256);
        clients.push(client);
        ends.push(served.end());
    }
    let mut by_second = BTreeMap::new();
    for end in join_all(ends).await {
        assert_eq!(end.ended.reason(), Reason::Age);
        assert!(end.at >= Duration::from_secs(540) && end.at <= Duration::from_secs(661));
        *by_second.entry(end.at.as_secs()).or_insert(0) += 1;
    }
    // 120 seconds, 8.3 each on average.
    let most = by_second.values().max().copied().unwrap_or_default();
    assert!(by_second.len() > 90 && most < 40, "{most} in one second");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_answered_and_told_that_it_is_the_last() {
    let server = Server::new(limits().grace(ms(500)));
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    let handle = served.handle.clone();
    let leave = async {
        sleep(100).await;
        handle.drain();
        sleep(1).await;
        assert_eq!(handle.phase(), Phase::Draining(Reason::Shutdown));
    };
    let (answer, ()) = tokio::join!(client.ask(get("/slow/300")), leave);
    assert_eq!(answer.expect("an answer"), ("slow".into(), true));
    served.end().await.is(Reason::Shutdown, false, 300);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_by_grace_whatever_is_in_flight() {
    for http2 in [false, true] {
        for path in ["/slow/100000", "/held/100000", "/endless"] {
            let server = Server::new(limits().grace(ms(500)));
            let (io, served) = server.connect();
            let mut client = Client::over(io, http2).await;
            let asked = tokio::spawn(async move {
                let response = client.begin(get(path)).await;
                sleep(1_000).await;
                match response {
                    Ok(response) => {
                        drop(response.into_body().collect().await.expect_err("cut off"))
                    }
                    Err(_) => assert_eq!(path, "/slow/100000"),
                }
            });
            sleep(100).await;
            served.handle.drain();
            served.end().await.is(Reason::Shutdown, true, 600);
            asked.await.expect("it heard of it");
            sleep(1).await;
            assert_eq!(server.alive.count(), 0, "http2 {http2}, {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_http2_client_does_not_hold_up_a_drain() {
    let server = Server::new(limits().idle_timeout(ms(1_000)).grace(ms(500)));
    let (mut client, served) = server.connect();
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("room");
    // It never answers the PING with which hyper begins to leave.
    served.end().await.is(Reason::Idle, true, 1_500);
}

#[tokio::test(start_paused = true)]
async fn close_is_at_once() {
    for http2 in [false, true] {
        let server = Server::new(limits());
        let (io, served) = server.connect();
        let mut client = Client::over(io, http2).await;
        let asked = tokio::spawn(async move { client.ask(get("/slow/1000")).await });
        sleep(100).await;
        served.handle.close();
        served.end().await.is(Reason::Closed, true, 100);
        asked.await.expect("no panic").expect_err("cut off");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_as_the_drain_begins_is_answered_or_never_begun() {
    // Around the idle limit, to the millisecond, in both protocols.
    for http2 in [false, true] {
        let (mut answered, mut refused) = (0, 0);
        for delay in 290..=310 {
            let server = Server::new(limits().idle_timeout(ms(300)).grace(ms(200)));
            let (io, served) = server.connect();
            let mut client = Client::over(io, http2).await;
            sleep(delay).await;
            let answer = client.ask(get("/slow/50")).await;
            let end = served.end().await;
            match answer {
                Ok(body) => {
                    assert_eq!(body, "slow");
                    assert_eq!(end.ended.requests(), 1);
                    answered += 1;
                }
                Err(_) => {
                    assert_eq!(end.ended.requests(), 0, "http2 {http2}, {delay} ms");
                    refused += 1;
                }
            }
            assert!(!end.ended.was_forced());
        }
        assert!(answered > 0 && refused > 0, "{answered} and {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_them_all_within_grace_and_those_that_come_later() {
    let server = Server::new(limits().grace(ms(500)));
    let (idle_io, idle) = server.connect();
    let (slow_io, slow) = server.connect();
    let (stuck_io, stuck) = server.connect();
    let mut idle_client = Http2::over(idle_io).await;
    idle_client.ask(get("/now")).await.expect("an answer");
    let mut slow_client = Http1::over(slow_io).await;
    let slow_answer = tokio::spawn(async move { slow_client.ask(get("/slow/300")).await });
    let mut stuck_client = Http2::over(stuck_io).await;
    let stuck_answer = tokio::spawn(async move { stuck_client.ask(get("/slow/9000")).await });
    sleep(100).await;
    assert_eq!(server.connections.count(), 3);

    server.connections.shutdown().await;
    assert_eq!(server.now(), ms(600));
    assert_eq!(server.connections.count(), 0);
    idle.end().await.is(Reason::Shutdown, false, 100);
    slow.end().await.is(Reason::Shutdown, false, 300);
    stuck.end().await.is(Reason::Shutdown, true, 600);
    slow_answer.await.expect("no panic").expect("an answer");
    stuck_answer.await.expect("no panic").expect_err("cut off");

    let (_late, late) = server.connect();
    late.end().await.is(Reason::Shutdown, false, 600);
    server.connections.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_goes_on() {
    let server = Server::new(limits().grace(ms(500)));
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    let asked = tokio::spawn(async move { client.ask(get("/slow/9000")).await });
    sleep(10).await;
    let waited = tokio::time::timeout(ms(90), server.connections.shutdown()).await;
    assert!(waited.is_err());
    served.end().await.is(Reason::Shutdown, true, 510);
    asked.await.expect("no panic").expect_err("cut off");
}

#[tokio::test(start_paused = true)]
async fn hyper_utils_graceful_shutdown_and_ours_end_together() {
    let server = Server::new(limits().grace(ms(500)));
    // One that hyper-util watches, beside one of ours.
    let graceful = GracefulShutdown::new();
    let (near, far) = tokio::io::duplex(1024);
    let service = hyper::service::service_fn(|_| async {
        sleep(200).await;
        Ok::<_, std::convert::Infallible>(hyper::Response::new(String::from("theirs")))
    });
    let theirs =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(near), service);
    let theirs = tokio::spawn(graceful.watch(theirs));
    let mut their_client = Http1::over(far).await;
    let their_answer = tokio::spawn(async move { their_client.ask(get("/")).await });
    let (io, ours) = server.connect();
    let mut our_client = Http1::over(io).await;
    let our_answer = tokio::spawn(async move { our_client.ask(get("/slow/300")).await });
    sleep(100).await;

    tokio::join!(graceful.shutdown(), server.connections.shutdown());
    assert_eq!(server.now(), ms(300));
    theirs.await.expect("no panic").expect("in good order");
    ours.end().await.is(Reason::Shutdown, false, 300);
    for answer in [their_answer, our_answer] {
        answer.await.expect("no panic").expect("an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn an_aborted_task_is_a_connection_that_was_closed_here() {
    let server = Server::new(limits());
    let (_client, served) = server.connect();
    sleep(1).await;
    served.abort_handle().abort();
    sleep(1).await;
    let ended = served.handle.ended().expect("it is over");
    assert_eq!(ended.reason(), Reason::Closed);
    assert_eq!(server.connections.count(), 0);
    assert_eq!(server.events(), ["Accepted", "Ended(Closed)"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_spoil_an_upgrade_that_is_on_its_way() {
    let server = Server::new(limits());
    let (mut client, served) = server.connect();
    client.write_all(UPGRADE).await.expect("room");
    sleep(50).await;
    served.handle.drain();
    let head = upgraded(&mut client).await;
    assert!(head.contains("connection: upgrade"), "{head}");
    client.write_all(b"echo").await.expect("room");
    client.read_exact(&mut [0; 4]).await.expect("an echo");
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_leaves_the_limits_and_may_have_its_own() {
    let limits = limits()
        .idle_timeout(ms(300))
        .max_age(ms(1_000))
        .write_timeout(ms(200));
    let server = Server::new(limits.grace(ms(100)));
    let (mut client, served) = server.connect();
    client.write_all(UPGRADE).await.expect("room");
    served.end().await.is(Reason::Upgraded, false, 100);
    assert_eq!(server.connections.count(), 0);
    upgraded(&mut client).await;
    for _ in 0..3 {
        sleep(2_000).await;
        client.write_all(b"echo").await.expect("room");
        let mut echo = [0; 4];
        client.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(&echo, b"echo");
    }
    // The handler's own, on bytes.
    assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
    assert_eq!(server.now(), ms(100 + 3 * 2_000 + 3_000));
}

const UPGRADE: &[u8] =
    b"GET /upgrade/100 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

/// The head with which the connection becomes another protocol's.
async fn upgraded(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    String::from_utf8(head).expect("text")
}
