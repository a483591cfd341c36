//! tower's contract, and what bounds a connection.

use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Service, ServiceExt};

use crate::support::{
    at_most, by_id, call, connect, connect_over, in_order, line, settle, soon, tell,
};

#[tokio::test(start_paused = true)]
async fn nobody_is_ready_while_as_many_are_in_flight_as_may_be() {
    let (mut mux, _, mut far) = connect(&in_order().max_in_flight(at_most(2)));
    let first = call(&mut mux, "first").await;
    let _second = call(&mut mux, "second").await;
    let mut ready = task::spawn(mux.ready());
    assert_pending!(ready.poll());
    assert_eq!(line(&mut far).await, "first");
    tell(&mut far, "answer").await;
    assert_eq!(soon("an answer", first).await.expect("alive"), "answer");
    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_ready_while_the_queue_is_full_and_the_transport_takes_nothing() {
    let builder = in_order().max_queued(at_most(3));
    let (mut mux, _, mut far) = connect_over(&builder, 16);
    let mut calls = Vec::new();
    // Framed takes 8 KiB before it says that it is full.
    let long = "x".repeat(60);
    let blocked = loop {
        let mut ready = task::spawn(mux.clone().ready_oneshot());
        settle().await;
        if ready.poll().is_pending() {
            break ready;
        }
        drop(ready);
        calls.push(call(&mut mux, &long).await);
        settle().await;
        assert!(calls.len() < 250, "nothing holds it back");
    };
    drop(blocked);
    let sent = calls.len();
    let mut ready = task::spawn(mux.ready());
    assert_pending!(ready.poll());
    assert_eq!(line(&mut far).await, long);
    for _ in 1..sent {
        line(&mut far).await;
    }
    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_was_told_ready_keeps_its_place_until_it_is_dropped() {
    let (mut mux, _, _far) = connect(&by_id().max_in_flight(at_most(1)));
    let mut other = mux.clone();
    mux.ready().await.expect("open");
    let mut waiting = task::spawn(other.ready());
    assert_pending!(waiting.poll());
    for _ in 0..3 {
        // As often as one likes.
        mux.ready().await.expect("open");
    }
    assert_pending!(waiting.poll());
    let called = mux.call("0 first".into());
    assert_pending!(waiting.poll());
    drop(called);
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());
    drop(waiting);
    // Its place went with the readiness of `other`.
    assert_pending!(task::spawn(mux.ready()).poll());
    drop(other);
    assert_ready_ok!(task::spawn(mux.ready()).poll());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`poll_ready` was not called")]
async fn a_clone_is_not_ready() {
    let (mut mux, _, _far) = connect(&in_order());
    mux.ready().await.expect("open");
    drop(mux.clone().call("hello".into()));
}
