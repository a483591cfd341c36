//! Channels that are made one for each heartbeat, and their end.

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{FutureExt, stream};
use http::{Uri, uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    net::TcpListener,
    sync::oneshot,
    task::yield_now,
    time::timeout,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tower::{Layer, Service, service_fn};
use tower_heartbeat::{
    Config, Failure, Heartbeat, HeartbeatLayer, Stage,
    http::CompleteOnBody,
    hyper::http2::ConnectError,
    tonic::{ConnectChannel, HealthSource, StatusLayer, StatusService, health},
};

use super::{
    channel::plain,
    sockets::{Open, connect, layer, stack},
    support::{Site, UPLOAD, dead_at, secs, seen},
};

type Connection = Heartbeat<Channel, CompleteOnBody>;

#[tokio::test(start_paused = true)]
async fn each_channel_has_a_connection_of_its_own() {
    let (site, _reporter) = Site::healthy();
    let open = Open::default();
    let mut connect = connect(&site, &open, layer());
    let first = made(&mut connect).await;
    let second = made(&mut connect.clone()).await;
    first.handle().ping_now().await.expect("a pong");
    second.handle().ping_now().await.expect("a pong");
    assert_eq!((site.connections(), open.count()), (2, 2));

    first.handle().close();
    settle().await;
    assert_eq!(open.count(), 1);
    second.handle().ping_now().await.expect("a pong");
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_died_closes_its_connection_under_a_body_that_is_held() {
    let (site, _reporter) = Site::healthy();
    let open = Open::default();
    let service = made(&mut connect(&site, &open, layer())).await;
    let mut client = client(&service);
    let watching = client.watch(HealthCheckRequest::default()).await;
    let mut watching = watching.expect("an answer").into_inner();
    assert!(watching.message().await.expect("an item").is_some());
    assert_eq!(open.count(), 1);

    site.freeze();
    let stream = watching.message().await.expect_err("it is frozen");
    assert_eq!(seen(&stream), dead_at(Stage::Streaming), "{stream:?}");
    drop(client);
    settle().await;
    assert_eq!(open.count(), 0);
    assert_eq!(service.handle().failure(), Some(Failure::PongTimeout));
    drop(watching);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_died_closes_its_connection_under_an_upload_that_is_stuck() {
    let (site, _reporter) = Site::healthy();
    let open = Open::default();
    let service = made(&mut connect(&site, &open, layer())).await;
    let mut grpc = tonic::client::Grpc::new(StatusLayer::new().layer(service));
    grpc.ready().await.expect("it is alive");
    site.freeze();
    let large = HealthCheckRequest {
        service: "x".repeat(50_000),
    };
    let uploads = stream::repeat(large);
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static(UPLOAD);
    let call = grpc.client_streaming(Request::new(uploads), path, codec);
    let status = call.await.expect_err("it is frozen");
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
    drop(grpc);
    settle().await;
    assert_eq!(open.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_idle_for_too_long_closes_its_connection_though_it_is_held() {
    let (site, _reporter) = Site::healthy();
    let open = Open::default();
    let config = Config::builder().idle_timeout(secs(5)).build();
    let layer = HeartbeatLayer::new(config.expect("legal"), health());
    let service = made(&mut connect(&site, &open, layer)).await;
    assert_eq!(service.handle().closed().await, Failure::IdleTimeout);
    settle().await;
    assert_eq!(open.count(), 0);
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_last_user_is_gone_closes_its_connection() {
    let (site, _reporter) = Site::healthy();
    let open = Open::default();
    let service = made(&mut connect(&site, &open, layer())).await;
    assert_eq!(open.count(), 1);
    drop(service);
    settle().await;
    assert_eq!(open.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_the_making_is_dropped_with_its_future() {
    let open = Open::default();
    let sockets = open.clone();
    let connector = service_fn(move |_: Uri| {
        // The handshake doesn't fit.
        let (near, far) = duplex(1);
        let socket = sockets.socket(near);
        async move {
            tokio::spawn(async move {
                let _far = far;
                pending::<()>().await;
            });
            Ok::<_, io::Error>(TokioIo::new(socket))
        }
    });
    let mut connect = ConnectChannel::new(layer()).connector(connector);
    let mut making = connect.call(plain());
    assert!((&mut making).now_or_never().is_none());
    settle().await;
    assert_eq!(open.count(), 1);
    drop(making);
    settle().await;
    assert_eq!(open.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_reconnects_below_a_heartbeat_that_lives() {
    let (site, _reporter) = Site::healthy();
    let open = Open::default();
    let service = made(&mut connect(&site, &open, layer())).await;
    let mut client = client(&service);
    client
        .check(HealthCheckRequest::default())
        .await
        .expect("an answer");
    open.hang_up();
    settle().await;
    client
        .check(HealthCheckRequest::default())
        .await
        .expect("an answer");
    assert_eq!((site.connections(), open.count()), (2, 1));
    assert_eq!(service.handle().failure(), None);

    // The newer connection ends with the heartbeat as well.
    service.handle().close();
    settle().await;
    assert_eq!(open.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_runs_where_the_driver_does() {
    let (site, _reporter) = Site::healthy();
    let spawned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&spawned);
    let layer = layer().executor(move |task| {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(task);
    });
    let service = made(&mut connect(&site, &Open::default(), layer)).await;
    service.handle().ping_now().await.expect("a pong");
    let spawned = spawned.load(Ordering::Relaxed);
    assert!(spawned >= 3, "driver, connection, queue: {spawned}");
}

#[tokio::test(start_paused = true)]
async fn a_stack_recovers_after_a_freeze_and_leaves_no_connection_behind() {
    let (site, _reporter) = Site::healthy();
    let open = Open::default();
    let mut client = stack(connect(&site, &open, layer()), plain());
    let check = HealthCheckRequest::default;
    client.check(check()).await.expect("an answer");
    let watching = client.watch(check()).await.expect("an answer");
    for _ in 0..3 {
        site.freeze();
        let status = client.check(check()).await.expect_err("it is frozen");
        assert_eq!(
            seen(&status),
            dead_at(Stage::AwaitingResponse),
            "{status:?}"
        );
        site.thaw();
        client.check(check()).await.expect("an answer");
        assert_eq!(open.count(), 1);
    }
    assert_eq!(site.connections(), 4);
    drop(watching);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_does_not_come_about_is_unavailable() {
    let connector = service_fn(|_: Uri| async {
        Err::<TokioIo<DuplexStream>, _>(io::Error::other("no route"))
    });
    let mut connect = ConnectChannel::new(layer()).connector(connector);
    let error = connect.call(plain()).await.expect_err("nobody is there");
    let ConnectError::Connector(error) = error else {
        panic!("{error:?}");
    };
    assert!(error.is::<tonic::transport::Error>());

    let mut client = stack(connect, plain());
    let status = client.check(HealthCheckRequest::default()).await;
    let status = status.expect_err("nobody is there");
    assert_eq!(seen(&status), (Code::Unavailable, None), "{status:?}");
}

/// Over a real socket, with tonic's own connector.
#[tokio::test]
async fn a_real_socket_is_closed_though_the_channel_is_held() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (closed, is_closed) = oneshot::channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a client");
        let mut connection = h2::server::handshake(socket).await.expect("HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let answer = Status::new(Code::Ok, "").into_http::<()>();
            respond.send_response(answer, true).expect("open");
        }
        closed.send(()).expect("the test waits");
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    let mut connect = ConnectChannel::new(layer());
    let service = connect.call(endpoint).await.expect("a connection");
    let handle = service.handle();
    handle.ping_now().await.expect("a pong");
    handle.close();
    let closed = timeout(secs(30), is_closed).await;
    closed.expect("in time").expect("the server saw it");
    drop(service);
}

#[test]
fn it_is_debug_send_and_sync() {
    fn all<T: std::fmt::Debug + Clone + Send + Sync>() {}
    all::<ConnectChannel<HealthSource>>();
}

async fn made(connect: &mut ConnectChannel<HealthSource>) -> Connection {
    connect.call(plain()).await.expect("a connection")
}

fn client(service: &Connection) -> HealthClient<StatusService<Connection>> {
    HealthClient::new(StatusLayer::new().layer(service.clone()))
}

/// Everything that was woken runs, in no time.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}
