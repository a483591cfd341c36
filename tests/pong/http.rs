//! A path as a ping, on hyper's server.

use std::{convert::Infallible, future::pending, net::SocketAddr, time::Duration};

use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};
use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer, service_fn};
use tower_heartbeat::{
    ConfigError, Setting,
    pong::{PathPongs, PongLayer},
};

/// Serves on loopback: with one permit, which a request for `/hang` keeps for ever, and says so.
async fn serve(layer: PongLayer<PathPongs>) -> (SocketAddr, UnboundedReceiver<()>) {
    let (hangs, hanging) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn(move |request: Request<Incoming>| {
            let hangs = hangs.clone();
            async move {
                if request.uri().path() == "/hang" {
                    hangs.send(()).expect("somebody waits for it");
                    pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("from the service")))
            }
        }));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let serving = builder.serve_connection(TokioIo::new(socket), service);
                drop(serving.await);
            });
        }
    });
    (address, hanging)
}

/// For what has to come, and for what must not.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

async fn ask(
    address: SocketAddr,
    version: Version,
    method: Method,
    uri: String,
    within: Duration,
) -> Option<(StatusCode, Bytes)> {
    let socket = TcpStream::connect(address).await.expect("it listens");
    let socket = TokioIo::new(socket);
    let request = request(method, uri);
    let exchange = async {
        let response = if version == Version::HTTP_2 {
            let (mut client, connection) = http2::handshake(TokioExecutor::new(), socket)
                .await
                .expect("a handshake");
            tokio::spawn(connection);
            client.send_request(request).await
        } else {
            let (mut client, connection) = http1::handshake(socket).await.expect("a handshake");
            tokio::spawn(connection);
            client.send_request(request).await
        };
        let (head, body) = response.expect("a response").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (head.status, body)
    };
    timeout(within, exchange).await.ok()
}

fn request(method: Method, uri: String) -> Request<Empty<Bytes>> {
    let request = Request::builder().method(method).uri(uri);
    let request = request.header("host", "localhost");
    request.body(Empty::new()).expect("a request")
}

#[tokio::test]
async fn on_hypers_server_a_path_is_answered_while_the_service_has_no_permit_left() {
    let (address, mut hanging) = serve(PongLayer::path("/health").expect("a path")).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let ask = |method, path: &str, within| {
            ask(
                address,
                version,
                method,
                format!("http://localhost{path}"),
                within,
            )
        };
        let served = ask(Method::GET, "/other", LONG).await.expect("an answer");
        assert_eq!(served, (StatusCode::OK, "from the service".into()));

        // Its connection stays, and with it the permit.
        let socket = TcpStream::connect(address).await.expect("it listens");
        let (mut client, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .expect("a handshake");
        let connection = tokio::spawn(connection);
        let hangs = tokio::spawn(client.send_request(request(Method::GET, "/hang".into())));
        hanging.recv().await.expect("it has begun");

        for (method, path) in [
            (Method::GET, "/health"),
            (Method::HEAD, "/health"),
            (Method::GET, "/health?from=balancer"),
        ] {
            let pong = ask(method, path, LONG).await.expect("a pong");
            assert_eq!(pong, (StatusCode::OK, Bytes::new()));
        }
        for (method, path) in [
            (Method::POST, "/health"),
            (Method::OPTIONS, "/health"),
            (Method::GET, "/health/"),
            (Method::GET, "/healthy"),
        ] {
            let answer = ask(method, path, SHORT).await;
            assert_eq!(answer, None, "it waits for the permit");
        }
        hangs.abort();
        connection.abort();
        let served = ask(Method::POST, "/health", LONG).await.expect("an answer");
        assert_eq!(served.1, "from the service");
    }
}

#[tokio::test]
async fn a_pong_may_say_that_it_has_no_content() {
    let layer = PongLayer::path("/health").expect("a path").no_content();
    let (address, _) = serve(layer).await;
    let pong = ask(
        address,
        Version::HTTP_11,
        Method::GET,
        "/health".into(),
        LONG,
    )
    .await;
    assert_eq!(pong, Some((StatusCode::NO_CONTENT, Bytes::new())));
}

#[test]
fn what_is_no_path_is_no_setting() {
    for path in [
        "",
        "health",
        "/a b",
        "/a?b",
        "/a#b",
        "*",
        "http://localhost/",
    ] {
        let refused = PongLayer::path(path).expect_err("no path");
        assert_eq!(refused.setting(), Setting::PongPath, "{path}");
        assert!(matches!(refused, ConfigError::NotAPath { .. }));
    }
}
