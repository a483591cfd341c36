//! Protocols that answer in the order of the requests.

use std::sync::{Arc, Mutex};

use tokio_test::{assert_pending, task};
use tower_heartbeat::{mux, transport::Lines};

use crate::support::{WithPushes, at_most, call, connect, in_order, line, settle, soon, tell};

#[tokio::test(start_paused = true)]
async fn answers_go_to_their_requests_however_many_are_under_way() {
    let (mut mux, _, mut far) = connect(&in_order());
    let mut calls = Vec::new();
    for number in 0..200 {
        calls.push(call(&mut mux, &format!("request {number}")).await);
    }
    for number in 0..200 {
        assert_eq!(line(&mut far).await, format!("request {number}"));
    }
    for number in 0..200 {
        tell(&mut far, &format!("answer {number}")).await;
        settle().await;
    }
    for (number, call) in calls.into_iter().enumerate() {
        let answer = soon("an answer", call).await.expect("alive");
        assert_eq!(answer, format!("answer {number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_left_keeps_its_turn_and_its_place() {
    let (mut mux, _, mut far) = connect(&in_order().max_in_flight(at_most(2)));
    let first = call(&mut mux, "first").await;
    let second = call(&mut mux, "second").await;
    assert_eq!(line(&mut far).await, "first");
    drop(first);
    settle().await;
    let mut third = mux.clone();
    let mut ready = task::spawn(call(&mut third, "third"));
    assert_pending!(ready.poll());

    tell(&mut far, "to the first").await;
    let third = soon("a place", ready).await;
    assert_eq!(line(&mut far).await, "second");
    assert_eq!(line(&mut far).await, "third");
    tell(&mut far, "to the second").await;
    tell(&mut far, "to the third").await;
    assert_eq!(
        soon("an answer", second).await.expect("alive"),
        "to the second"
    );
    assert_eq!(
        soon("an answer", third).await.expect("alive"),
        "to the third"
    );
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_peers_own_go_to_the_hook_and_answer_nothing() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&told);
    let builder = mux::in_order(WithPushes(Lines::new())).on_unsolicited(move |line: String| {
        hook.lock().expect("no panic").push(line.clone());
        assert!(line != "!panic", "a hook that panics");
    });
    let (mut mux, _, mut far) = connect(&builder);
    tell(&mut far, "hello").await;
    settle().await;
    let asked = call(&mut mux, "request").await;
    assert_eq!(line(&mut far).await, "request");
    tell(&mut far, "!news").await;
    tell(&mut far, "!panic").await;
    tell(&mut far, "answer").await;
    assert_eq!(soon("an answer", asked).await.expect("alive"), "answer");
    let told = told.lock().expect("no panic");
    assert_eq!(*told, ["hello", "!news", "!panic"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_hook_they_are_dropped() {
    let (mut mux, _, mut far) = connect(&mux::in_order(WithPushes(Lines::new())));
    tell(&mut far, "hello").await;
    settle().await;
    let asked = call(&mut mux, "request").await;
    assert_eq!(line(&mut far).await, "request");
    tell(&mut far, "!news").await;
    tell(&mut far, "answer").await;
    assert_eq!(soon("an answer", asked).await.expect("alive"), "answer");
}
