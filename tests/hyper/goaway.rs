//! The peer says that it leaves: with an error, or in good order.

use std::error::Error as StdError;

use tokio::{io::duplex, time::sleep};
use tower::{Service, ServiceExt};
use tower_heartbeat::{
    BoxError, Config, Failure, HeartbeatError, Stage, State, hyper::http2::GoAway,
};

use super::support::{
    client::{Client, all, connect, data, ended, get, send, spawn},
    eventually,
    frames::{ENHANCE_YOUR_CALM, Frames},
    line::{Line, Watched},
    millis, secs,
    server::Server,
    soon, told, within_a_second,
};

/// Settings under which the heartbeat itself has nothing to say for a day.
fn patient() -> Config {
    Config::detect_within(secs(24 * 60 * 60)).expect("a legal bound")
}

fn assert_too_many_pings(error: &HeartbeatError) {
    assert_eq!(error.failure(), Failure::TooManyPings);
    let source = error.source().expect("a cause");
    let go_away = source.downcast_ref::<GoAway>().expect("the GOAWAY");
    assert_eq!(go_away.code(), ENHANCE_YOUR_CALM);
    let hyper = go_away.source().expect("hyper's error");
    assert!(hyper.is::<hyper::Error>(), "{hyper:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_it_is_the_cause_of_all_that_fails() {
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        let body = server.request().await;
        server.head(body, 0).await;
        server.data(body, 0, b"frame").await;
        let call = server.request().await;
        server
            .go_away(call, ENHANCE_YOUR_CALM, b"too_many_pings")
            .await;
    });
    let mut client = connect(near, patient()).await;
    let response = send(&mut client, get("/body")).await.expect("an answer");
    let mut body = response.into_body();
    assert_eq!(
        data(&mut body).await.expect("a frame").expect("data"),
        "frame"
    );

    let error = send(&mut client, get("/call")).await.expect_err("it left");
    let error = error.heartbeat().expect("the heartbeat's");
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    assert_too_many_pings(error);

    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("it left");
    let error = error.heartbeat().expect("the heartbeat's");
    assert_eq!(error.stage(), Stage::Streaming);
    assert_too_many_pings(error);
    assert!(data(&mut body).await.is_none());

    let error = client.ready().await.expect_err("it left");
    let error = error.heartbeat().expect("the heartbeat's");
    assert_eq!(error.stage(), Stage::NotSent);
    assert_too_many_pings(error);

    assert_too_many_pings(&client.handle().error().expect("it ended"));
    server.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_it_fails_the_calls_that_it_refuses() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        server.request().await;
        server
            .go_away(0, ENHANCE_YOUR_CALM, b"too_many_pings")
            .await;
        // It doesn't close: the client has to.
        server.rest().await;
    });
    let mut client = connect(near, patient()).await;
    let call = send(&mut client, get("/hello"));
    let error = soon(secs(1), "a refused call", call)
        .await
        .expect_err("it left");
    let error: BoxError = error.into();
    assert_too_many_pings(HeartbeatError::find(&*error).expect("the heartbeat's"));
}

#[tokio::test(start_paused = true)]
async fn an_error_in_it_ends_an_idle_connection() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        sleep(secs(1)).await;
        server
            .go_away(0, ENHANCE_YOUR_CALM, b"too_many_pings")
            .await;
        server.rest().await;
    });
    let mut client = connect(near, patient()).await;
    let handle = client.handle();
    assert_eq!(ended(&handle).await, Failure::TooManyPings);
    assert_too_many_pings(&handle.error().expect("it ended"));
    let error = client.ready().await.expect_err("it left");
    assert_too_many_pings(error.heartbeat().expect("the heartbeat's"));
}

#[tokio::test(start_paused = true)]
async fn only_that_text_with_that_code_is_about_pings() {
    for (code, text) in [
        (ENHANCE_YOUR_CALM, "too_many_settings"),
        (2, "too_many_pings"),
    ] {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(async move {
            let mut server = Frames::accept(far).await;
            sleep(secs(1)).await;
            server.go_away(0, code, text.as_bytes()).await;
            server.rest().await;
        });
        let client = connect(near, patient()).await;
        assert_eq!(ended(&client.handle()).await, Failure::Transport);
    }
}

async fn connected() -> (Line, Client, Server) {
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let client = connect(near, within_a_second()).await;
    (line, client, server)
}

#[tokio::test(start_paused = true)]
async fn calls_and_bodies_in_flight_outlive_a_graceful_one() {
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    let (line, mut client, mut server) = connected().await;
    let handle = client.handle();
    let body = send(&mut client, get("/ticks?20"))
        .await
        .expect("an answer")
        .into_body();
    let call = spawn(&client, get("/slow?10"));
    sleep(secs(1)).await;
    server.leave();
    sleep(secs(1)).await;

    let response = call.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert_eq!(all(body).await.expect("a body").len(), 20 * "frame".len());
    assert_eq!(ended(&handle).await, Failure::Transport);
    server.ended().await;
    drop(line);
    eventually(secs(1), "no task is left", || {
        tasks.num_alive_tasks() == before
    })
    .await;
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn new_calls_are_turned_away_once_a_ping_has_met_a_graceful_one() {
    let (_line, mut client, mut server) = connected().await;
    let slow = spawn(&client, get("/slow?10"));
    sleep(millis(10)).await;
    server.leave();
    sleep(secs(2)).await;

    for _ in 0..2 {
        let error = client.ready().await.expect_err("it leaves");
        assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
        let error = client.call(get("/hello")).await.expect_err("it leaves");
        assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    }
    assert!(!client.is_alive());
    assert_eq!(client.handle().state(), State::Closing);
    slow.await.expect("no panic").expect("an answer");
    assert_eq!(ended(&client.handle()).await, Failure::Transport);
    assert_eq!(server.seen.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_with_a_graceful_one() {
    let (near, far) = duplex(64 * 1024);
    let mut server = Server::start(far);
    let (near, closed) = Watched::new(near);
    let mut client = connect(near, patient()).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    server.leave();
    let handle = client.handle();
    assert_eq!(ended(&handle).await, Failure::Transport);
    server.ended().await;
    let error = client.ready().await.expect_err("it left");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    let error = client.call(get("/hello")).await.expect_err("it left");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
    eventually(secs(1), "the IO is closed", || closed.is_set()).await;
}

#[tokio::test(start_paused = true)]
async fn pings_stop_and_do_no_harm_while_the_peer_leaves() {
    let (_line, client, mut server) = connected().await;
    let call = spawn(&client, get("/slow?30"));
    sleep(secs(2)).await;
    let (pings, pongs) = (client.handle().pings(), client.handle().pongs());
    assert!(pongs > 0);
    server.leave();
    let response = call.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert_eq!(ended(&client.handle()).await, Failure::Transport);
    // The one that met the GOAWAY was the last, and got no answer.
    assert_eq!(client.handle().pings(), pings + 1);
    assert_eq!(client.handle().pongs(), pongs);
}
