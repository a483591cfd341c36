//! The last user goes.

use futures_util::StreamExt;
use tokio::{
    io::duplex,
    runtime::Handle,
    time::{Instant, sleep},
};
use tower_heartbeat::{mux, transport::Lines};

use crate::support::{
    WithPushes, call, connect, connect_over, in_order, line, lines, millis, settings, settle, soon,
    tell, watch,
};

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_closes_the_transport_in_good_order_and_nothing_is_left() {
    let (mux, running, mut far) = connect(&mux::in_order(WithPushes(Lines::new())));
    let clone = mux.clone();
    drop(mux);
    settle().await;
    assert_eq!(tasks(), 1);
    drop(clone);
    assert_eq!(
        line(&mut far).await,
        "bye: connection was closed on this side"
    );
    assert!(soon("the end", far.next()).await.is_none());
    running.await.expect("no panic");
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_awaited_keeps_the_connection() {
    let (mut mux, running, mut far) = connect(&in_order());
    let asked = call(&mut mux, "hello").await;
    drop(mux);
    sleep(millis(10_000)).await;
    assert_eq!(line(&mut far).await, "hello");
    tell(&mut far, "answer").await;
    assert_eq!(soon("an answer", asked).await.expect("alive"), "answer");
    assert!(soon("the end", far.next()).await.is_none());
    running.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_caller_left_before_it_was_sent_is_never_sent() {
    let (near, far) = duplex(4_096);
    let (mut mux, connection) = in_order().pair(lines(near));
    drop(call(&mut mux, "given up").await);
    let asked = call(&mut mux, "asked").await;
    let running = tokio::spawn(connection);
    let mut far = lines(far);
    assert_eq!(line(&mut far).await, "asked");
    tell(&mut far, "answer").await;
    assert_eq!(soon("an answer", asked).await.expect("alive"), "answer");
    drop(mux);
    running.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_holds_up_the_last_user_for_half_a_second_at_most() {
    // The transport is stuck, with a request before it and some in it.
    let (mut mux, running, _far) = connect_over(&in_order(), 8);
    let mut calls = Vec::new();
    for _ in 0..180 {
        calls.push(call(&mut mux, &"x".repeat(60)).await);
        settle().await;
    }
    let begin = Instant::now();
    drop((mux, calls));
    soon("an end", running).await.expect("no panic");
    assert_eq!(begin.elapsed().as_millis() / 10, 50);
}

#[tokio::test(start_paused = true)]
async fn with_the_last_watched_service_the_driver_ends_as_well() {
    let before = tasks();
    let (service, handle, mut far) = watch(&in_order(), settings().build().expect("legal"));
    sleep(millis(450)).await;
    assert_eq!(line(&mut far).await, "ping");
    assert_eq!(tasks(), before + 2);
    drop(service);
    settle().await;
    assert!(soon("the end", far.next()).await.is_none());
    assert!(!handle.is_alive());
    settle().await;
    assert_eq!(tasks(), before);
}
