//! Leaving in good order.

use http_body_util::BodyExt;
use tower_heartbeat::server::{Limits, Phase, Reason};

use crate::{
    clients::far_away,
    support::{Client, Http1, Http2, Server, get, ms, sleep},
};

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_calling_is_moved_with_no_failed_call() {
    for http2 in [false, true] {
        let limits = Limits::builder().max_age(ms(1_000)).grace(ms(500));
        let mut server = Server::new(limits);
        let mut count = 1;
        let mut client = Client::over(server.connect(), http2).await;
        while server.now() < ms(10_000) {
            if !client.takes_calls().await {
                count += 1;
                client = Client::over(server.connect(), http2).await;
            }
            client.ask(get("/slow/33")).await.expect("no call fails");
        }
        drop(client);
        assert!((9..=12).contains(&count), "{count}");
        for _ in 1..count {
            let end = server.end().await;
            assert_eq!(end.ended.reason(), Reason::Age, "http2 {http2}");
            assert!(!end.ended.was_forced(), "http2 {http2}: {end:?}");
            let age = end.ended.age();
            assert!(age >= ms(900) && age <= ms(1_150), "{age:?}");
        }
    }
}

/// The GOAWAY takes its time to come there, and so do the requests that are on their way by then.
#[tokio::test(start_paused = true)]
async fn requests_that_cross_the_goaway_are_answered() {
    for delay in [1, 7, 20] {
        let mut server = Server::new(Limits::builder().grace(ms(500)));
        let client = Http2::over(far_away(server.connect(), delay)).await;
        let mut calls = Vec::new();
        let leaving = tokio::spawn({
            let handle = server.handle().await;
            async move {
                sleep(100).await;
                handle.drain();
            }
        });
        let mut send = client.send;
        while send.ready().await.is_ok() {
            calls.push(tokio::spawn(send.send_request(get("/slow/5"))));
            sleep(1).await;
        }
        let (mut answered, mut kept) = (0, 0);
        for call in calls {
            match call.await.expect("no panic") {
                Ok(response) => {
                    response.into_body().collect().await.expect("a body");
                    answered += 1;
                }
                // hyper took it as the GOAWAY came in, and never sent it.
                Err(error) if error.is_canceled() => kept += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(answered >= 100 + delay && kept <= 1, "{answered}, {kept}");
        leaving.await.expect("no panic");
        let end = server.end().await;
        assert_eq!(
            (end.ended.reason(), end.ended.was_forced()),
            (Reason::Shutdown, false)
        );
        assert_eq!(end.ended.requests(), answered);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_as_the_drain_begins_is_answered_or_never_begun() {
    // Around the idle limit, to the millisecond, in both protocols.
    for http2 in [false, true] {
        let (mut answered, mut refused) = (0, 0);
        for delay in 285..=310 {
            let limits = Limits::builder().idle_timeout(ms(300)).grace(ms(200));
            let mut server = Server::new(limits);
            let io = far_away(server.connect(), 5);
            let mut client = Client::over(io, http2).await;
            sleep(delay).await;
            let answer = client.ask(get("/slow/50")).await;
            let end = server.end().await;
            match answer {
                Ok(body) => {
                    assert_eq!((body, end.ended.requests()), ("slow".into(), 1));
                    answered += 1;
                }
                Err(_) => {
                    assert_eq!(end.ended.requests(), 0, "http2 {http2}, {delay} ms");
                    refused += 1;
                }
            }
            assert!(
                !end.ended.was_forced(),
                "http2 {http2}, {delay} ms: {end:?}"
            );
        }
        assert!(answered > 0 && refused > 0, "{answered} and {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_answered_and_told_that_it_is_the_last() {
    let mut server = Server::new(Limits::builder().grace(ms(500)));
    let mut client = Http1::over(server.connect()).await;
    let handle = server.handle().await;
    let leave = async {
        sleep(100).await;
        handle.drain();
        sleep(1).await;
        assert_eq!(handle.phase(), Phase::Draining(Reason::Shutdown));
    };
    let (answer, ()) = tokio::join!(client.ask(get("/slow/300")), leave);
    assert_eq!(answer.expect("an answer"), ("slow".into(), true));
    server.end().await.is(Reason::Shutdown, false, 300);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_by_grace_whatever_is_in_flight() {
    for http2 in [false, true] {
        for path in ["/slow/100000", "/held/100000", "/endless/0"] {
            let mut server = Server::new(Limits::builder().grace(ms(500)));
            let mut client = Client::over(server.connect(), http2).await;
            let handle = server.handle().await;
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
            handle.drain();
            server.end().await.is(Reason::Shutdown, true, 600);
            asked.await.expect("it heard of it");
            sleep(1).await;
            assert_eq!(server.alive.count(), 0, "http2 {http2}, {path}");
        }
    }
}

/// Into a socket that is always full the GOAWAY gets between two frames, and nowhere else.
#[tokio::test(start_paused = true)]
async fn a_goaway_stands_between_the_frames_of_a_response() {
    for room in [1, 7, 64, 1_000, 16_393, 100_000] {
        let mut server = Server::new(Limits::builder().grace(ms(5_000)));
        let io = far_away(server.connect_with(room.max(64)), 1);
        let client = Http2::over(io).await;
        let handle = server.handle().await;
        let mut send = client.send;
        let response = send.send_request(get("/large/3000000")).await;
        handle.drain();
        let body = response.expect("a head").into_body().collect().await;
        let body = body.expect("a body").to_bytes();
        assert!(body.len() == 3_000_000 && body.iter().all(|byte| *byte == b'x'));
        let end = server.end().await;
        assert_eq!(
            (end.ended.reason(), end.ended.was_forced()),
            (Reason::Shutdown, false),
            "{room}"
        );
        drop(send);
        client
            .connection
            .await
            .expect("no panic")
            .expect("in good order");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_them_all_within_grace() {
    let mut server = Server::new(Limits::builder().grace(ms(500)));
    let mut idle = Http2::over(server.connect()).await;
    idle.ask(get("/now")).await.expect("an answer");
    let mut slow = Http1::over(server.connect()).await;
    let slow = tokio::spawn(async move { slow.ask(get("/slow/300")).await });
    let mut stuck = Http2::over(server.connect()).await;
    let stuck = tokio::spawn(async move { stuck.ask(get("/slow/9000")).await });
    sleep(100).await;
    assert_eq!(server.connections.count(), 3);

    server.connections.shutdown().await;
    assert_eq!(server.now(), ms(600));
    assert_eq!(server.connections.count(), 0);
    server.end().await.is(Reason::Shutdown, false, 100);
    server.end().await.is(Reason::Shutdown, false, 300);
    server.end().await.is(Reason::Shutdown, true, 600);
    slow.await.expect("no panic").expect("an answer");
    stuck.await.expect("no panic").expect_err("cut off");
}

/// Both say GOAWAY then, each in its own way.
#[tokio::test(start_paused = true)]
async fn axums_own_shutdown_and_ours_go_together() {
    for http2 in [false, true] {
        for pause in [0, 1, 20, 100] {
            for theirs_first in [false, true] {
                let mut server = Server::new(Limits::builder().grace(ms(1_000)));
                let io = far_away(server.connect(), 3);
                let mut client = Client::over(io, http2).await;
                let asked = tokio::spawn(async move {
                    let answer = client.ask(get("/slow/300")).await;
                    (answer, client)
                });
                sleep(100).await;
                let ours = async {
                    sleep(if theirs_first { pause } else { 0 }).await;
                    server.connections.shutdown().await;
                };
                let theirs = async {
                    sleep(if theirs_first { 0 } else { pause }).await;
                    server.stop();
                };
                tokio::join!(ours, theirs);
                let (answer, client) = asked.await.expect("no panic");
                assert_eq!(answer.expect("an answer"), "slow", "http2 {http2}, {pause}");
                let end = server.end().await;
                assert_eq!(end.ended.reason(), Reason::Shutdown);
                assert!(!end.ended.was_forced() && end.at < ms(350), "{end:?}");
                client.closed_in_order().await;
            }
        }
    }
}
