//! Pings take their turn between exchanges.

use http_body_util::BodyExt;
use hyper::{Method, Request, header::HOST};
use tokio::{
    io::duplex,
    time::{Instant, sleep},
};
use tower::Service;
use tower::ServiceExt;
use tower_heartbeat::{
    Config, ConfigError, Failure, HeartbeatLayer, PingWhen, Setting, http::options,
    hyper::http1::Connect,
};

use super::{
    client::{Peer, connect, connected, head_pings, layer, send, serve, spawn},
    support::{
        client::{OneIo, RequestBody, all, data, empty, ended, fed, full, get, request},
        millis, secs, within_a_second,
    },
};

#[tokio::test(start_paused = true)]
async fn pings_leave_the_connection_usable() {
    let (mut client, server) = connected(within_a_second()).await;
    let handle = client.handle();
    for round in 1..10 {
        let response = send(&mut client, get("/hello")).await.expect("an answer");
        assert_eq!(all(response.into_body()).await.expect("a body"), "hello");
        sleep(secs(3)).await;
        assert!(handle.pongs() > 3 * round, "round {round}");
    }
    assert!(handle.is_alive());
    assert_eq!(server.seen.pings() as u64, handle.pings());
    assert_eq!(server.seen.requests(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_in_origin_form_with_a_host() {
    let (_client, mut peer) = Peer::connected(within_a_second()).await;
    assert_eq!(
        peer.head().await,
        "HEAD /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_origin_form_unless_it_names_its_host() {
    let (mut client, mut peer) = Peer::connected(within_a_second()).await;
    let cases = [
        (
            "http://user@example.com:8080/a?b",
            None,
            "GET /a?b HTTP/1.1\r\nhost: example.com:8080\r\n\r\n",
        ),
        (
            "http://example.com",
            None,
            "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n",
        ),
        (
            "/a?b",
            Some("there"),
            "GET /a?b HTTP/1.1\r\nhost: there\r\n\r\n",
        ),
        (
            "http://example.com/a",
            Some("proxy"),
            "GET http://example.com/a HTTP/1.1\r\nhost: proxy\r\n\r\n",
        ),
    ];
    for (uri, host, expected) in cases {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let call = client
            .ready()
            .await
            .expect("ready")
            .call(request.body(empty()).expect("legal"));
        let answer = async {
            assert_eq!(peer.request().await, expected);
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        };
        let (response, ()) = tokio::join!(call, answer);
        response.expect("an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn no_ping_is_sent_while_a_response_is_awaited_or_read() {
    let (client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    let call = spawn(&client, get("/slow"));
    peer.request().await;
    let before = handle.pings();
    assert!(peer.is_silent_for(secs(30)).await, "before the head");
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbo")
        .await;
    let mut body = call.await.expect("no panic").expect("a head").into_body();
    assert_eq!(data(&mut body).await.expect("a frame").expect("data"), "bo");
    assert!(peer.is_silent_for(secs(30)).await, "within the body");
    assert_eq!(handle.pings(), before);
    peer.say("dy").await;
    assert_eq!(all(body).await.expect("the rest"), "dy");
    assert!(peer.head().await.starts_with("HEAD"));
    assert!(handle.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_while_a_ping_is_out_waits_and_succeeds() {
    let (client, mut peer) = Peer::connected(within_a_second()).await;
    // Told ready before the ping goes out, as in a pool.
    let mut ready = client.clone();
    ready.ready().await.expect("ready");
    assert!(peer.head().await.starts_with("HEAD"));
    let early = tokio::spawn(ready.call(get("/early")));
    let late = spawn(&client, get("/late"));
    assert!(peer.is_silent_for(millis(100)).await);
    peer.say("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(peer.request().await.starts_with("GET /early"));
    assert!(peer.is_silent_for(secs(1)).await);
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly")
        .await;
    let response = early.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "early");
    assert!(peer.request().await.starts_with("GET /late"));
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")
        .await;
    let response = late.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "late");
}

#[tokio::test(start_paused = true)]
async fn a_handler_slower_than_the_bound_is_waited_for() {
    let (mut client, server) = connected(within_a_second()).await;
    let begin = Instant::now();
    let response = send(&mut client, get("/slow?3")).await.expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert!(begin.elapsed() >= secs(3));
    assert_eq!(server.seen.requests(), 1);
    // And for ten times as long.
    let response = send(&mut client, get("/slow?30")).await.expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_streams_keeps_the_connection_busy_and_counts_as_life() {
    let config = Config::builder()
        .detect_within(secs(1))
        .quiet_timeout(secs(1))
        .build()
        .expect("legal");
    let (mut client, server) = connected(config).await;
    let handle = client.handle();
    let response = send(&mut client, get("/ticks?20"))
        .await
        .expect("an answer");
    let before = handle.pings();
    assert_eq!(handle.in_flight(), 1);
    let body = all(response.into_body()).await.expect("a body");
    assert_eq!(body.len(), 20 * "frame".len());
    assert_eq!(handle.pings(), before);
    assert_eq!(handle.in_flight(), 0);
    sleep(secs(2)).await;
    assert!(server.seen.pings() as u64 > before);
    assert!(handle.is_alive());
}

#[tokio::test(start_paused = true)]
async fn calls_of_many_clones_take_turns() {
    let (client, server) = connected(within_a_second()).await;
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let text = format!("request {n}");
                let response = send(&mut client, request("/echo", full(text.clone()))).await;
                let body = all(response.expect("an answer").into_body()).await;
                assert_eq!(body.expect("a body"), text);
            })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic");
    }
    assert_eq!(server.seen.requests(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_short_answer_to_a_ping_with_a_body_is_drained() {
    let (near, mut far) = duplex(1024);
    let ping = options::<RequestBody>("http://localhost/health".parse().expect("legal"));
    let connect = Connect::new(
        OneIo::new(near),
        HeartbeatLayer::new(within_a_second(), ping),
    );
    let client = connect
        .expect("legal")
        .oneshot(())
        .await
        .expect("it connects");
    let handle = client.handle();
    let answering = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut buffer = [0; 1024];
        for _ in 0..5 {
            assert_ne!(far.read(&mut buffer).await.expect("open"), 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nalive";
            far.write_all(answer).await.expect("open");
        }
    };
    answering.await;
    sleep(millis(10)).await;
    assert_eq!(handle.pongs(), 5);
    assert!(handle.is_alive());
}

#[tokio::test(start_paused = true)]
async fn every_setting_of_ping_when_pings_between_exchanges_or_is_refused() {
    let config = |ping_when| {
        let config = Config::builder()
            .detect_within(secs(1))
            .ping_when(ping_when);
        config.build().expect("legal")
    };
    for ping_when in [PingWhen::Quiet, PingWhen::Always, PingWhen::NotBusy] {
        let (near, far) = duplex(64 * 1024);
        let mut client = connect(near, config(ping_when)).await;
        let server = serve(far);
        assert_eq!(client.handle().config().ping_when(), PingWhen::NotBusy);
        let response = send(&mut client, get("/slow?5")).await.expect("an answer");
        drop(all(response.into_body()).await.expect("a body"));
        let before = server.seen.pings();
        sleep(secs(3)).await;
        assert!(server.seen.pings() > before, "{ping_when:?}");
    }
    let (near, _far) = duplex(1024);
    let layer = layer(config(PingWhen::WhileBusy));
    let made: Result<Connect<_, _, RequestBody>, _> = Connect::new(OneIo::new(near), layer);
    let error = made.expect_err("no time for pings");
    assert_eq!(error.setting(), Setting::PingWhen);
    assert!(matches!(error, ConfigError::NeedsConcurrency { .. }));
    assert_eq!(
        error.to_string(),
        "`ping_when` asks for pings beside requests, but the transport carries one exchange at a time"
    );
}

#[tokio::test(start_paused = true)]
async fn the_executor_and_the_hook_of_the_layer_are_kept() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let (spawned, connected) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (spawns, connects) = (Arc::clone(&spawned), Arc::clone(&connected));
    let layer = HeartbeatLayer::new(within_a_second(), head_pings())
        .executor(move |task| {
            spawns.fetch_add(1, Ordering::Relaxed);
            drop(tokio::spawn(task));
        })
        .on_connect(move |_| {
            connects.fetch_add(1, Ordering::Relaxed);
        });
    let (near, far) = duplex(1024);
    let connect = Connect::new(OneIo::new(near), layer).expect("legal");
    let mut client = connect.oneshot(()).await.expect("it connects");
    let _server = serve(far);
    send(&mut client, get("/hello")).await.expect("an answer");
    // The driver of the layer, and the connection.
    assert_eq!(spawned.load(Ordering::Relaxed), 2);
    assert_eq!(connected.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_keeps_the_connection_busy_until_its_response_is_complete() {
    let (near, far) = duplex(64 * 1024);
    let server = serve(far);
    let mut client = connect(near, within_a_second()).await;
    let handle = client.handle();
    let (feeder, body) = fed();
    let mut upload = request("/echo", body.boxed_unsync());
    *upload.method_mut() = Method::POST;
    let response = send(&mut client, upload);
    let feeding = async {
        for _ in 0..20 {
            sleep(millis(500)).await;
            feeder.send(Ok("more".into())).await.expect("it is wanted");
        }
        drop(feeder);
    };
    let reading = async {
        let response = response.await.expect("an answer");
        all(response.into_body()).await.expect("a body")
    };
    let (body, ()) = tokio::join!(reading, feeding);
    assert_eq!(body.len(), 20 * "more".len());
    assert!(handle.is_alive());
    assert_eq!(server.seen.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_outlasts_its_response_is_taken_for_one_that_is_stuck() {
    let (client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    let (feeder, body) = fed();
    let mut upload = request("/early", body.boxed_unsync());
    *upload.method_mut() = Method::POST;
    let call = spawn(&client, upload);
    peer.request().await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await;
    call.await.expect("no panic").expect("an answer");
    let feeding = tokio::spawn(async move {
        while feeder.send(Ok("more".into())).await.is_ok() {
            sleep(millis(100)).await;
        }
    });
    assert_eq!(ended(&handle).await, Failure::PingBlocked);
    feeding.await.expect("no panic");
}
