//! What the layer makes of errors, whoever they are from.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::poll_fn};
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{
    Failure, HeartbeatError, Stage,
    tonic::{
        HealthError, HealthPing, HealthPong, HealthSource, StatusBody, StatusFuture, StatusLayer,
        StatusService,
    },
};

use super::support::{dead_at, seen};

async fn status_of(error: impl Into<BoxError>) -> Status {
    let mut error = Some(error.into());
    let failing = service_fn(move |_: Request<Body>| {
        let error = error.take().expect("one call");
        async { Err::<Response<Body>, _>(error) }
    });
    let mut service = StatusLayer::new().layer(failing);
    let call = service.call(Request::new(Body::empty())).await;
    call.expect_err("it fails")
}

fn dead() -> HeartbeatError {
    HeartbeatError::new(Failure::PongTimeout, Stage::AwaitingResponse)
}

#[tokio::test]
async fn errors_of_others_are_what_tonic_makes_of_them() {
    let status = status_of(Status::not_found("no such file")).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "no such file")
    );
    let status = status_of(io::Error::other("lost")).await;
    assert_eq!((status.code(), status.message()), (Code::Unknown, "lost"));
    assert!(
        std::error::Error::source(&status)
            .expect("a cause")
            .is::<io::Error>()
    );
}

#[tokio::test]
async fn an_end_is_found_below_boxes_and_through_two_layers() {
    let status = status_of(io::Error::other(dead())).await;
    assert_eq!(seen(&status), dead_at(Stage::AwaitingResponse));
    let status = status_of(status).await;
    assert_eq!(seen(&status), dead_at(Stage::AwaitingResponse));
    // What tonic shows is what the layer made.
    let status = Status::from_error(Box::new(status));
    assert_eq!(seen(&status), dead_at(Stage::AwaitingResponse));
}

/// Never ready.
#[derive(Clone)]
struct Refusing {
    asked: usize,
}

impl Service<Request<Body>> for Refusing {
    type Response = Response<Body>;
    type Error = HeartbeatError;
    type Future = std::future::Pending<Result<Response<Body>, HeartbeatError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HeartbeatError>> {
        self.asked += 1;
        Poll::Ready(Err(dead()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        panic!("it is not ready");
    }
}

#[tokio::test]
async fn readiness_that_fails_is_the_error_of_the_call() {
    let mut service = StatusLayer::new().layer(Refusing { asked: 0 });
    for asked in 1..=2 {
        for _ in 0..3 {
            poll_fn(|cx| service.poll_ready(cx))
                .await
                .expect("ready to fail");
            assert_eq!(
                service.get_ref().asked,
                asked,
                "it stays ready until the call"
            );
        }
        let call = service.call(Request::new(Body::empty())).now_or_never();
        let status = call.expect("at once").expect_err("refused");
        assert_eq!(seen(&status), dead_at(Stage::AwaitingResponse));
    }
    poll_fn(|cx| service.poll_ready(cx))
        .await
        .expect("ready to fail");
    let clone = service.clone().oneshot(Request::new(Body::empty()));
    let status = clone.await.expect_err("asked for itself");
    assert_eq!(seen(&status), dead_at(Stage::AwaitingResponse));
}

struct Counted;

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = HeartbeatError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HeartbeatError>>> {
        Poll::Ready(Some(Err(dead())))
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(7)
    }
}

#[tokio::test]
async fn a_body_keeps_its_size_and_fails_with_a_status() {
    let answering =
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Counted)) });
    let service = StatusLayer::new().layer(answering);
    let response = service.oneshot(Request::new(Body::empty())).await;
    let mut body = response.expect("an answer").into_body();
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(7));
    let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    let status = frame.expect("a frame").expect_err("it failed");
    assert_eq!(seen(&status), dead_at(Stage::AwaitingResponse));
}

#[test]
fn public_types_are_debug_send_sync_and_unpin() {
    fn all<T: std::fmt::Debug + Send + Sync + Unpin>() {}
    all::<StatusLayer>();
    all::<StatusService<()>>();
    all::<StatusFuture<std::future::Pending<()>>>();
    all::<StatusBody<http_body_util::Full<Bytes>>>();
    all::<HealthSource>();
    all::<HealthPing<()>>();
    all::<HealthError>();
    all::<HealthPong<std::future::Pending<()>, ()>>();
}
