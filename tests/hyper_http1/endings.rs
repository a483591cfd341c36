//! Connections that end in good order, or on this side.

use tokio::{
    io::{AsyncReadExt, duplex},
    runtime::Handle as Runtime,
    time::sleep,
};
use tower::ServiceExt;
use tower_heartbeat::{Config, Failure, Stage, State};

use super::{
    client::{Peer, connect, connected, send, serve, spawn},
    support::{
        client::{all, data, ended, get},
        eventually, found,
        line::Watched,
        millis, secs, soon, told, within_a_second,
    },
};

#[tokio::test(start_paused = true)]
async fn connection_close_is_a_graceful_end() {
    let (mut client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    let call = spawn(&client, get("/last"));
    peer.request().await;
    peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 8\r\n\r\nlast")
        .await;
    let mut body = call
        .await
        .expect("no panic")
        .expect("an answer")
        .into_body();
    assert_eq!(
        data(&mut body).await.expect("a frame").expect("data"),
        "last"
    );
    let held = spawn(&client, get("/too-late"));
    sleep(secs(5)).await;
    peer.say("word").await;
    assert_eq!(all(body).await.expect("the rest"), "word");
    assert_eq!(ended(&handle).await, Failure::Transport);
    assert!(std::error::Error::source(&handle.error().expect("it ended")).is_none());
    let error = held.await.expect("no panic").expect_err("turned away");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    let error = send(&mut client, get("/too-late"))
        .await
        .expect_err("turned away");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    assert_eq!(peer.rest().await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_with_the_connection_is_complete() {
    let (client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    let call = spawn(&client, get("/old"));
    peer.request().await;
    peer.say("HTTP/1.0 200 OK\r\n\r\nall there is").await;
    drop(peer);
    let body = call
        .await
        .expect("no panic")
        .expect("an answer")
        .into_body();
    assert_eq!(all(body).await.expect("no error"), "all there is");
    assert_eq!(ended(&handle).await, Failure::Transport);
    assert!(std::error::Error::source(&handle.error().expect("it ended")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_read_yet_outlives_its_connection() {
    let (mut client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    let call = spawn(&client, get("/last"));
    peer.request().await;
    peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlast")
        .await;
    let response = call.await.expect("no panic").expect("an answer");
    sleep(secs(5)).await;
    assert_eq!(handle.failure(), None);
    assert_eq!(all(response.into_body()).await.expect("a body"), "last");
    assert_eq!(ended(&handle).await, Failure::Transport);
    assert!(client.ready().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pong_with_connection_close_is_a_graceful_end() {
    let (mut client, mut peer) = Peer::connected(within_a_second()).await;
    let handle = client.handle();
    assert!(peer.head().await.starts_with("HEAD"));
    peer.say("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(ended(&handle).await, Failure::Transport);
    assert_eq!(handle.pongs(), 1);
    let error = send(&mut client, get("/hello"))
        .await
        .expect_err("turned away");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_between_exchanges_is_no_death() {
    let (mut client, server) = connected(within_a_second()).await;
    let handle = client.handle();
    let response = send(&mut client, get("/hello")).await.expect("an answer");
    all(response.into_body()).await.expect("a body");
    server.kill();
    assert_eq!(ended(&handle).await, Failure::Transport);
    assert!(std::error::Error::source(&handle.error().expect("it ended")).is_none());
    let error = send(&mut client, get("/hello"))
        .await
        .expect_err("turned away");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shuts_down_answers_what_it_has_taken() {
    let (client, mut server) = connected(within_a_second()).await;
    let handle = client.handle();
    let call = spawn(&client, get("/slow?5"));
    eventually(secs(1), "the call is there", || server.seen.requests() == 1).await;
    server.leave();
    let response = call.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert_eq!(ended(&handle).await, Failure::Transport);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closes_and_says_goodbye() {
    let config = Config::builder()
        .detect_within(secs(1))
        .idle_timeout(secs(3))
        .build()
        .expect("legal");
    let (mut client, peer) = Peer::connected(config).await;
    let handle = client.handle();
    let Peer { mut io, .. } = peer;
    let answering = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let mut buffer = [0; 1024];
        while io.read(&mut buffer).await.expect("no error") > 0 {
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            io.write_all(answer).await.expect("it is open");
        }
    });
    assert_eq!(ended(&handle).await, Failure::IdleTimeout);
    soon(secs(1), "the peer sees the end", answering)
        .await
        .expect("no panic");
    let error = send(&mut client, get("/hello")).await.expect_err("closed");
    assert_eq!(told(&error), Some((Failure::IdleTimeout, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn closing_fails_the_call_that_is_out_and_the_ones_that_wait() {
    let (client, _server) = connected(within_a_second()).await;
    let handle = client.handle();
    let out = spawn(&client, get("/never"));
    let waiting = spawn(&client, get("/hello"));
    sleep(secs(1)).await;
    handle.close();
    let error = out.await.expect("no panic").expect_err("closed");
    assert_eq!(
        told(&error),
        Some((Failure::Closed, Stage::AwaitingResponse))
    );
    let error = waiting.await.expect("no panic").expect_err("closed");
    assert_eq!(told(&error), Some((Failure::Closed, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn the_last_service_closes_the_connection_and_leaves_no_task() {
    let metrics = Runtime::current().metrics();
    let before = metrics.num_alive_tasks();
    let (near, far) = duplex(64 * 1024);
    let (near, closed) = Watched::new(near);
    let mut client = connect(near, within_a_second()).await;
    let server = serve(far);
    let handle = client.handle();
    send(&mut client, get("/hello")).await.expect("an answer");
    drop(client.clone());
    sleep(secs(5)).await;
    assert_eq!(handle.state(), State::Alive);
    drop(client);
    soon(secs(1), "the server sees it", server.ended()).await;
    assert_eq!(ended(&handle).await, Failure::Closed);
    assert!(closed.is_set());
    eventually(secs(1), "no task is left", || {
        metrics.num_alive_tasks() <= before
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_body_is_read_to_its_end_and_closes_the_connection() {
    let (mut client, server) = connected(within_a_second()).await;
    let response = send(&mut client, get("/ticks?20"))
        .await
        .expect("an answer");
    drop(client);
    let body = all(response.into_body()).await.expect("a body");
    assert_eq!(body.len(), 20 * "frame".len());
    soon(secs(1), "the server sees it", server.ended()).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_half_read_closes_the_connection() {
    let (mut client, server) = connected(within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").expect("data");
    drop(body);
    soon(secs(1), "the server sees it", server.ended()).await;
    let error = send(&mut client, get("/hello")).await.expect_err("closed");
    assert_eq!(told(&error), Some((Failure::Closed, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_drives_any_more_is_typed() {
    use tower::{Layer, Service};
    use tower_heartbeat::{
        HeartbeatLayer, Share,
        hyper::http1::{drive, handshake},
        ping,
    };
    let (near, far) = duplex(1024);
    let server = serve(far);
    let builder = hyper::client::conn::http1::Builder::new();
    let io = hyper_util::rt::TokioIo::new(near);
    let (send_request, connection) = handshake(&builder, io).await.expect("it connects");
    let layer = HeartbeatLayer::new(within_a_second(), ping::none());
    let mut client = layer.layer(Share::new(send_request));
    let driving = tokio::spawn(drive(connection, client.handle()));
    let call = client.ready().await.expect("ready").call(get("/never"));
    let call = tokio::spawn(call);
    let mut waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.ready().await.map(|_| ()) });
    eventually(secs(1), "the call is there", || server.seen.requests() == 1).await;
    driving.abort();
    let error = soon(secs(1), "an end", call)
        .await
        .expect("no panic")
        .expect_err("gone");
    let error: tower_heartbeat::BoxError = error.into();
    assert_eq!(
        found(&*error),
        Some((Failure::Transport, Stage::AwaitingResponse))
    );
    let error = soon(secs(1), "an end", waiting)
        .await
        .expect("no panic")
        .expect_err("gone");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    sleep(millis(10)).await;
    assert_eq!(ended(&client.handle()).await, Failure::Transport);
}
