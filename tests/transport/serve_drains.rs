//! A server that is told to stop.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower_heartbeat::{
    Failure,
    transport::{HeartbeatStream, Lines, Serve},
};

use crate::{
    serve::{End, ended, failure, line, lines_of, server, slow_echo, start, tell},
    support::{Codec, config, lines, millis, settings},
};

type Stop = oneshot::Sender<()>;

fn serving(limit: u32) -> (JoinHandle<End>, Codec, Stop) {
    let (near, far) = server(config());
    let (stop, stopped) = oneshot::channel();
    let serve = Serve::new(near, slow_echo())
        .drain_on(async { drop(stopped.await) })
        .max_concurrent_requests(limit);
    (start(serve.expect("legal")), far, stop)
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_answered_and_nothing_else() {
    for limit in [2, 100] {
        let (serving, mut far, stop) = serving(limit);
        tell(&mut far, ["1000 a", "500 b"]).await;
        sleep(millis(100)).await;
        let began = Instant::now();
        stop.send(()).expect("it waits");
        tell(&mut far, ["0 c"]).await;
        sleep(millis(300)).await;
        tell(&mut far, ["0 d", "ping"]).await;
        assert_eq!(line(&mut far).await, "pong");
        assert_eq!(began.elapsed(), millis(300));
        assert_eq!(lines_of::<2>(&mut far).await, ["a", "b"]);
        assert!(far.next().await.is_none());
        assert_eq!(began.elapsed(), millis(900));
        ended(serving).await.expect("it was told to");
    }
}

#[tokio::test(start_paused = true)]
async fn one_with_nothing_in_flight_closes_at_once() {
    let (serving, mut far, stop) = serving(1);
    sleep(millis(100)).await;
    let began = Instant::now();
    drop(stop);
    ended(serving).await.expect("it was told to");
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(far.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_was_told_before_it_began_takes_nothing() {
    let (serving, mut far, stop) = serving(100);
    drop(stop);
    tell(&mut far, ["0 a"]).await;
    ended(serving).await.expect("it was told to");
    assert!(far.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn however_much_the_peer_still_sends_its_pings_are_answered() {
    let (serving, mut far, stop) = serving(1);
    tell(&mut far, ["8300 a"]).await;
    sleep(millis(100)).await;
    drop(stop);
    for _ in 0..200 {
        tell(&mut far, ["0 more"]).await;
    }
    let began = Instant::now();
    tell(&mut far, ["ping"]).await;
    assert_eq!(line(&mut far).await, "pong");
    assert_eq!(began.elapsed(), Duration::ZERO);
    for _ in 0..20 {
        sleep(millis(400)).await;
        tell(&mut far, ["ping"]).await;
        assert_eq!(line(&mut far).await, "pong");
    }
    assert_eq!(line(&mut far).await, "a");
    ended(serving).await.expect("it was told to");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_meanwhile_is_found() {
    let (serving, mut far, stop) = serving(100);
    tell(&mut far, ["600000 a"]).await;
    sleep(millis(100)).await;
    drop(stop);
    let began = Instant::now();
    let error = ended(serving).await.expect_err("it is silent");
    assert_eq!(failure(&error), Failure::PongTimeout);
    assert!(began.elapsed() <= config().worst_case_detection());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_its_side_meanwhile_gets_its_answers() {
    let (near, mut far) = duplex(4_096);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config()).only_answer();
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = Serve::new(near, slow_echo()).drain_on(async { drop(stopped.await) });
    let serving = start(serve);
    far.write_all(b"1000 a\n").await.expect("it is taken");
    sleep(millis(100)).await;
    drop(stop);
    sleep(millis(100)).await;
    far.shutdown().await.expect("it closes");
    let mut read = String::new();
    far.read_to_string(&mut read).await.expect("text");
    assert_eq!(read, "a\n");
    ended(serving).await.expect("it was told to");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_cuts_it_short() {
    let (near, mut far) = server(settings().max_missed(100).build().expect("legal"));
    let near = near.until(sleep(millis(2_000)));
    let began = Instant::now();
    let serve = Serve::new(near, slow_echo()).drain_on(sleep(millis(1_000)));
    let serving = start(serve);
    tell(&mut far, ["600000 a"]).await;
    let error = ended(serving).await.expect_err("cancelled");
    assert_eq!(failure(&error), Failure::Closed);
    assert_eq!(began.elapsed(), millis(2_000));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_service_is_in_flight() {
    let (near, mut far) = server(config());
    let (mock, mut service) = tower_test::mock::pair::<String, String>();
    service.allow(0);
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = Serve::new(near, mock).drain_on(async { drop(stopped.await) });
    let serving = start(serve);
    tell(&mut far, ["a", "b"]).await;
    sleep(millis(10)).await;
    drop(stop);
    sleep(millis(10)).await;
    service.allow(2);
    let (request, respond) = service.next_request().await.expect("the first");
    assert_eq!(request, "a");
    respond.send_response("answer".into());
    assert_eq!(line(&mut far).await, "answer");
    assert!(far.next().await.is_none());
    ended(serving).await.expect("it was told to");
    assert!(service.next_request().await.is_none());
}
