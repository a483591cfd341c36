//! Health checks on tonic's server.

use std::{convert::Infallible, io, time::Duration};

use futures_util::stream::unfold;
use http::{HeaderMap, Method, Request, Response, Version, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::{io::duplex, sync::mpsc, time::timeout};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint, Server},
};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest,
        health_check_response::ServingStatus::{NotServing, Serving},
        health_client::HealthClient,
    },
    server::health_reporter,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_heartbeat::{
    Config, HeartbeatLayer, http::CompleteOnBody, pong::PongLayer, tonic::health,
};

/// tonic's server with the layer, and a channel to it.
async fn channel<S>(service: S) -> Channel
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let (sockets, accepted) = mpsc::unbounded_channel();
    let incoming = unfold(accepted, |mut accepted| async move {
        Some((Ok::<_, io::Error>(accepted.recv().await?), accepted))
    });
    let server = Server::builder().layer(PongLayer::grpc_health());
    tokio::spawn(server.serve_with_incoming(service, incoming));
    let connector = service_fn(move |_| {
        let (near, far) = duplex(64 * 1_024);
        let sent = sockets.send(far);
        async move { sent.map(|()| TokioIo::new(near)).map_err(io::Error::other) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let connected = endpoint.connect_with_connector(connector).await;
    connected.expect("a connection")
}

#[tokio::test(start_paused = true)]
async fn a_check_is_answered_serving_and_a_watch_passed_on() {
    let (reporter, inner) = health_reporter();
    reporter
        .set_service_status("", ServingStatus::NotServing)
        .await;
    let mut client = HealthClient::new(channel(inner).await);
    for service in ["", "any.Service"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = client.check(request).await.expect("an answer");
        assert_eq!(answer.into_inner().status(), Serving);
    }
    let watch = client.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("a stream").into_inner();
    let first = watch.message().await.expect("no error").expect("a message");
    assert_eq!(first.status(), NotServing);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_lives_on_the_answers_of_a_server_whose_service_is_never_ready() {
    #[derive(Clone)]
    struct NeverReady;

    impl Service<Request<Body>> for NeverReady {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Pending
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("it was not ready")
        }
    }

    let config = Config::detect_within(Duration::from_secs(2)).expect("legal");
    let heartbeat = HeartbeatLayer::new(config, health().expect_serving());
    let mut client = ServiceBuilder::new()
        .layer(heartbeat.completion(CompleteOnBody::default()))
        .service(channel(NeverReady).await);
    let handle = client.handle();
    let request = Request::post("http://localhost/test.Slow/Wait");
    let request = request.body(Body::empty()).expect("a request");
    let call = client.ready().await.expect("alive").call(request);
    timeout(Duration::from_secs(60), call)
        .await
        .expect_err("it waits for the service");
    assert!(handle.pongs() >= 20);
    assert_eq!(handle.failure(), None);
}

#[tokio::test]
async fn only_what_is_grpc_over_http2_with_protobuf_is_a_ping() {
    let inner = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(
            Response::builder()
                .status(404)
                .body(Body::empty())
                .expect("a response"),
        )
    });
    let service = ServiceBuilder::new()
        .layer(PongLayer::grpc_health())
        .service(inner);
    let ask = |method: Method, path: &str, version: Version, kind: &str| {
        let request = Request::builder().method(method).uri(path).version(version);
        let request = request.header(CONTENT_TYPE, kind).body(Body::empty());
        service.clone().oneshot(request.expect("a request"))
    };
    let check = "/grpc.health.v1.Health/Check";
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "Application/gRPC; a=b",
    ] {
        let answer = ask(Method::POST, check, Version::HTTP_2, kind)
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{kind}");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
        let body = answer.into_body().collect().await.expect("a body");
        let status = body
            .trailers()
            .and_then(|trailers: &HeaderMap| trailers.get("grpc-status"));
        assert_eq!(status.expect("a status"), "0");
        assert_eq!(body.to_bytes()[..], [0, 0, 0, 0, 2, 8, 1]);
    }
    for (method, path, version, kind) in [
        (Method::GET, check, Version::HTTP_2, "application/grpc"),
        (Method::POST, check, Version::HTTP_11, "application/grpc"),
        (Method::POST, check, Version::HTTP_2, "application/grpc-web"),
        (
            Method::POST,
            check,
            Version::HTTP_2,
            "application/grpc+json",
        ),
        (Method::POST, check, Version::HTTP_2, "application/json"),
        (
            Method::POST,
            "/grpc.health.v1.Health/Watch",
            Version::HTTP_2,
            "application/grpc",
        ),
    ] {
        let told = format!("{method} {path} {version:?} {kind}");
        let answer = ask(method, path, version, kind).await.expect("an answer");
        assert_eq!(answer.status(), 404, "{told}");
    }
}
