//! Protocols whose answers carry the id of their request.

use std::sync::{Arc, Mutex};

use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::ServiceExt;
use tower_heartbeat::{
    mux::{self, Mux, MuxError, ResponseFuture},
    transport::{Ids, Lines},
};

use crate::support::{Codec, FirstWord, at_most, by_id, call, connect, line, settle, soon, tell};

#[tokio::test(start_paused = true)]
async fn answers_find_their_requests_in_any_order_and_carry_the_id_that_those_had() {
    let (mut mux, _, mut far) = connect(&by_id());
    let mut calls = Vec::new();
    for number in 0..100 {
        // All with the same id.
        calls.push(call(&mut mux, &format!("5 request {number}")).await);
    }
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.push(line(&mut far).await);
    }
    assert_eq!(sent[..2], ["1 request 0", "2 request 1"]);
    sent.reverse();
    for line in sent {
        tell(&mut far, &line.replace("request", "answer")).await;
        settle().await;
    }
    for (number, call) in calls.into_iter().enumerate() {
        let answer = soon("an answer", call).await.expect("alive");
        assert_eq!(answer, format!("5 answer {number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_left_gives_its_place_back_at_once_and_its_answer_is_dropped() {
    let (mut mux, _, mut far) = connect(&by_id().max_in_flight(at_most(1)));
    let first = call(&mut mux, "0 first").await;
    assert_eq!(line(&mut far).await, "1 first");
    let mut other = mux.clone();
    let mut ready = task::spawn(call(&mut other, "0 second"));
    assert_pending!(ready.poll());
    drop(first);
    let second = soon("a place", ready).await;
    assert_eq!(line(&mut far).await, "2 second");
    tell(&mut far, "1 late").await;
    tell(&mut far, "77 to nobody").await;
    tell(&mut far, "2 answer").await;
    assert_eq!(soon("an answer", second).await.expect("alive"), "0 answer");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_carry_an_id_fails_and_the_connection_goes_on() {
    let (mut mux, _, mut far) = connect(&by_id());
    let error = call(&mut mux, "no id").await;
    let error = soon("an error", error).await;
    assert!(matches!(error, Err(MuxError::NoId)), "{error:?}");
    let asked = call(&mut mux, "0 hello").await;
    let sent = line(&mut far).await;
    assert!(sent.ends_with(" hello"), "{sent}");
    tell(&mut far, &sent).await;
    assert_eq!(soon("an answer", asked).await.expect("alive"), "0 hello");
}

#[tokio::test(start_paused = true)]
async fn ids_of_few_bits_come_again_but_never_two_at_once() {
    let ids = FirstWord { modulus: 4 };
    let (mut mux, _, mut far) = connect(&mux::by_id(Lines::new(), ids));
    let slow = call(&mut mux, "0 slow").await;
    assert_eq!(line(&mut far).await, "1 slow");
    for _ in 0..20 {
        let quick = call(&mut mux, "0 quick").await;
        let sent = line(&mut far).await;
        assert!(!sent.starts_with("1 "), "{sent}");
        tell(&mut far, &sent).await;
        assert_eq!(soon("an answer", quick).await.expect("alive"), "0 quick");
    }
    let held = [
        call(&mut mux, "0 a").await,
        call(&mut mux, "0 b").await,
        call(&mut mux, "0 c").await,
    ];
    let error = call(&mut mux, "0 none is left").await;
    let error = soon("an error", error).await;
    assert!(matches!(error, Err(MuxError::NoId)), "{error:?}");
    tell(&mut far, "1 slow").await;
    assert_eq!(soon("an answer", slow).await.expect("alive"), "0 slow");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn an_id_of_few_bits_whose_answer_is_late_is_not_given_again() {
    let ids = FirstWord { modulus: 256 };
    let (mut mux, _, mut far) = connect(&mux::by_id(Lines::new(), ids));
    drop(sent(&mut mux, &mut far, "0 left").await);
    for round in 0..10 {
        let mut calls = Vec::new();
        for _ in 0..100 {
            calls.push(sent(&mut mux, &mut far, "0 hello").await);
        }
        for (call, line) in calls {
            assert!(!line.starts_with("1 "), "round {round}");
            tell(&mut far, &line).await;
            assert_eq!(soon("an answer", call).await.expect("alive"), "0 hello");
        }
    }
    // Those that are given up and never answered are no more than the field holds.
    for _ in 0..255 {
        drop(sent(&mut mux, &mut far, "0 left").await);
    }
    let error = soon("an error", call(&mut mux, "0 none is left").await).await;
    assert!(matches!(error, Err(MuxError::NoId)), "{error:?}");
    tell(&mut far, "1 late").await;
    settle().await;
    let (call, line) = sent(&mut mux, &mut far, "0 hello").await;
    assert_eq!(line, "1 hello");
    tell(&mut far, &line).await;
    assert_eq!(soon("an answer", call).await.expect("alive"), "0 hello");
}

/// A request that the peer has, as it came there.
async fn sent(
    mux: &mut Mux<String>,
    far: &mut Codec,
    request: &str,
) -> (ResponseFuture<String>, String) {
    let called = call(mux, request).await;
    (called, line(far).await)
}

#[tokio::test(start_paused = true)]
async fn a_number_that_a_field_takes_for_none_is_left_out() {
    #[derive(Clone)]
    struct NoZero(FirstWord);
    impl Ids<String> for NoZero {
        fn id(&self, line: &String) -> Option<u64> {
            self.0.id(line).filter(|id| *id != 0)
        }
        fn set_id(&self, line: &mut String, id: u64) {
            self.0.set_id(line, id);
        }
    }

    let ids = NoZero(FirstWord { modulus: 4 });
    let (mut mux, _, mut far) = connect(&mux::by_id(Lines::new(), ids));
    let mut held = Vec::new();
    for id in ["1", "2", "3"] {
        let (call, line) = sent(&mut mux, &mut far, "2 held").await;
        assert_eq!(line, format!("{id} held"));
        held.push(call);
    }
    for _ in 0..10 {
        tell(&mut far, "3 answer").await;
        let answer = soon("an answer", held.pop().expect("three")).await;
        assert_eq!(answer.expect("alive"), "2 answer");
        let (call, line) = sent(&mut mux, &mut far, "2 held").await;
        assert_eq!(line, "3 held");
        held.push(call);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_gives_its_place_back_also_if_its_future_is_kept() {
    let (mut mux, _, mut far) = connect(&by_id().max_in_flight(at_most(1)));
    let (mut call, line) = sent(&mut mux, &mut far, "0 hello").await;
    tell(&mut far, &line).await;
    let answer = soon("an answer", &mut call).await;
    assert_eq!(answer.expect("alive"), "0 hello");
    assert_ready_ok!(task::spawn(mux.ready()).poll());
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn messages_without_an_id_go_to_the_hook() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&told);
    let builder = by_id().on_unsolicited(move |line| hook.lock().expect("no panic").push(line));
    let (mut mux, _, mut far) = connect(&builder);
    let asked = call(&mut mux, "0 subscribe").await;
    assert_eq!(line(&mut far).await, "1 subscribe");
    tell(&mut far, "news!").await;
    tell(&mut far, "77 to nobody").await;
    tell(&mut far, "1 subscribed").await;
    assert_eq!(
        soon("an answer", asked).await.expect("alive"),
        "0 subscribed"
    );
    assert_eq!(*told.lock().expect("no panic"), ["news!"]);
}
