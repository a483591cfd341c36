//! What the layer promises, whatever the protocol.

use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, limit::ConcurrencyLimit, service_fn};
use tower_heartbeat::{
    BoxError, ShareLayer,
    pong::{Pong, PongLayer},
};
use tower_test::mock::{Handle, Mock, pair};

type Request = &'static str;

fn pongs(request: &Request) -> Option<&'static str> {
    (*request == "PING").then_some("PONG")
}

type Pongs = fn(&Request) -> Option<Request>;

type Far = task::Spawn<Handle<Request, Request>>;

fn mock() -> (Pong<Mock<Request, Request>, Pongs>, Far) {
    let (inner, mut handle) = pair();
    handle.allow(0);
    (
        PongLayer::<Pongs>::new(pongs).layer(inner),
        task::spawn(handle),
    )
}

fn assert_always_ready<S: Service<Request>>(service: &mut S) {
    let is_ready = task::spawn(()).enter(|cx, _| service.poll_ready(cx).is_ready());
    assert!(is_ready, "a ping may come at any time");
}

#[test]
fn pings_are_answered_while_the_service_is_not_ready_and_never_reach_it() {
    let (mut service, mut handle) = mock();
    for _ in 0..3 {
        assert_always_ready(&mut service);
        let pong = assert_ready_ok!(task::spawn(service.call("PING")).poll());
        assert_eq!(pong, "PONG");
    }
    handle.allow(10);
    assert_pending!(handle.poll_request());
}

#[test]
fn a_request_waits_in_its_own_future_until_the_service_is_ready() {
    let (mut service, mut handle) = mock();
    assert_always_ready(&mut service);
    let mut first = task::spawn(service.call("first"));
    assert_always_ready(&mut service);
    let mut second = task::spawn(service.call("second"));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    handle.allow(1);
    assert!(first.is_woken());
    assert_pending!(first.poll());
    let (request, answer) = assert_ready!(handle.poll_request()).expect("a request");
    assert_eq!(request, "first");
    answer.send_response("answer");
    assert_eq!(assert_ready_ok!(first.poll()), "answer");
    assert_pending!(second.poll());
    assert_pending!(handle.poll_request());
}

#[test]
fn a_service_that_is_dead_fails_its_calls_and_not_the_pings() {
    let (mut service, mut handle) = mock();
    handle.send_error("it is gone");
    let mut call = task::spawn(service.call("request"));
    let error = assert_ready_err!(call.poll());
    assert_eq!(error.to_string(), "it is gone");
    drop(handle);
    assert_always_ready(&mut service);
    assert_ready_ok!(task::spawn(service.call("PING")).poll());
    assert_ready_err!(task::spawn(service.call("request")).poll());
}

#[test]
fn a_permit_is_taken_by_requests_only_and_comes_back_with_one_that_is_dropped() {
    let hangs = service_fn(|_: Request| std::future::pending::<Result<Request, BoxError>>());
    let limit = ConcurrencyLimit::new(hangs, 1);
    let mut service = PongLayer::new(pongs).layer(limit.clone());
    let mut waiting = PongLayer::new(pongs).layer(limit);
    for _ in 0..10 {
        assert_always_ready(&mut waiting);
        assert_ready_ok!(task::spawn(waiting.call("PING")).poll());
    }
    let mut first = task::spawn(service.call("takes the permit"));
    assert_pending!(first.poll());
    let mut second = task::spawn(waiting.call("waits"));
    let mut third = task::spawn(waiting.call("waits as well"));
    assert_pending!(second.poll());
    assert_pending!(third.poll());
    drop(second);
    drop(first);
    assert!(third.is_woken());
}

#[test]
fn a_call_that_nobody_polls_calls_nothing() {
    let (mut service, mut handle) = mock();
    handle.allow(1);
    drop(service.call("never polled"));
    assert_pending!(handle.poll_request());
}

#[test]
#[should_panic(expected = "polled after completion")]
fn a_call_that_is_polled_on_after_its_error_panics() {
    let (mut service, mut handle) = mock();
    handle.send_error("it is gone");
    let mut call = task::spawn(service.call("request"));
    assert_ready_err!(call.poll());
    let _again = call.poll();
}

#[test]
fn what_is_not_clone_is_shared() {
    struct Once(u32);

    impl Service<Request> for Once {
        type Response = Request;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Request, BoxError>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request) -> Self::Future {
            self.0 += 1;
            std::future::ready(Ok(request))
        }
    }

    let mut service = PongLayer::new(pongs).layer(ShareLayer::new().layer(Once(0)));
    assert_eq!(assert_ready_ok!(task::spawn(service.call("a")).poll()), "a");
    assert_eq!(
        assert_ready_ok!(task::spawn(service.call("PING")).poll()),
        "PONG"
    );
}
