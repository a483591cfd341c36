//! PINGs at the IO wait behind no request: they go on beside whatever is slow.

use std::io;

use hyper::{client::conn::http2 as client, server::conn::http2 as server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::duplex,
    time::{Instant, sleep},
};
use tonic::{
    transport::{Channel, Endpoint, Server as GrpcServer},
    {Code, client::Grpc},
};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_heartbeat::{
    Config, Handle, PingWhen, State,
    h2_io::{Attribution, PingIo, PingLayer},
    tonic::{StatusLayer, StatusService},
};

use super::{
    grpc::{self, ITEMS, MANY},
    site::{Site, seen},
    support::{
        client::{RequestBody, all, data, get},
        secs,
        server::Server,
        within_a_second,
    },
};

type SendRequest = client::SendRequest<RequestBody>;

/// Pinged also beside traffic.
fn always() -> Config {
    Config::builder()
        .detect_within(secs(1))
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings")
}

/// A connection to a server that takes so many requests at a time, and knows that it does.
async fn connected(streams: u32, config: Config) -> (SendRequest, Handle, Server) {
    let (near, far) = duplex(64 * 1024);
    let mut builder = server::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(streams);
    let server = Server::with(far, &builder);
    let io = PingIo::client(near, config);
    let handle = io.handle();
    let connected = client::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
    let (mut send, connection) = connected.expect("a handshake");
    tokio::spawn(connection);
    let hello = send.send_request(get("/hello")).await.expect("an answer");
    all(hello.into_body()).await.expect("a body");
    (send, handle, server)
}

#[track_caller]
fn assert_lives(handle: &Handle, pings: u64) {
    assert_eq!((handle.state(), handle.failure()), (State::Alive, None));
    assert!(handle.pongs() >= pings, "{}", handle.pongs());
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_ten_seconds_survives_a_bound_of_one() {
    let (mut send, handle, _server) = connected(100, within_a_second()).await;
    let begin = Instant::now();
    let answer = send.send_request(get("/slow?10")).await;
    let body = all(answer.expect("an answer").into_body()).await;
    assert_eq!(body.expect("a body"), "at last");
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_lives(&handle, 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_reader_pauses_for_ten_seconds_survives() {
    for config in [within_a_second(), always()] {
        let (mut send, handle, _server) = connected(100, config).await;
        // More than the windows of the stream and the connection take.
        let answer = send.send_request(get("/bytes?8000000")).await;
        let mut body = answer.expect("an answer").into_body();
        let first = data(&mut body).await.expect("data").expect("no error");
        sleep(secs(10)).await;
        let rest = all(body).await.expect("the rest");
        assert_eq!(first.len() + rest.len(), 8_000_000);
        assert_lives(&handle, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_requests_at_a_limit_of_one_survive_and_are_pinged_beside() {
    let (send, handle, server) = connected(1, within_a_second()).await;
    let begin = Instant::now();
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let mut send = send.clone();
            tokio::spawn(async move {
                let answer = send.send_request(get("/slow?10")).await?;
                all(answer.into_body()).await
            })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("it was its turn");
    }
    assert_eq!(begin.elapsed().as_secs(), 30, "one after the other");
    assert_eq!(server.seen.requests(), 4);
    assert_lives(&handle, 30);
}

/// An ordinary channel of tonic's with PINGs below, and its connection.
async fn channel(site: &Site, config: Config) -> (Pinged, Handle) {
    let (tell, mut made) = tokio::sync::mpsc::unbounded_channel();
    let pings = PingLayer::new(config).on_connect(move |handle: &Handle| {
        tell.send(handle.clone()).expect("somebody listens");
    });
    let site = site.clone();
    let connector = pings.layer(service_fn(move |_| {
        let site = site.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(site.connect())) }
    }));
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await;
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .layer(pings.attribution())
        .service(channel.expect("a connection"));
    (stack, made.recv().await.expect("it is connected"))
}

type Pinged = StatusService<Attribution<Channel>>;

#[tokio::test(start_paused = true)]
async fn a_grpc_handler_of_ten_seconds_survives_a_bound_of_one() {
    let site = grpc::slow(GrpcServer::builder());
    let (channel, handle) = channel(&site, within_a_second()).await;
    let begin = Instant::now();
    let status = grpc::wait(channel).await;
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert!(grpc::at_last(&status), "{status:?}");
    assert_lives(&handle, 10);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stream_whose_reader_pauses_for_ten_seconds_survives() {
    for config in [within_a_second(), always()] {
        let site = grpc::slow(GrpcServer::builder());
        let (channel, handle) = channel(&site, config).await;
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.expect("it is alive");
        let path = http::uri::PathAndQuery::from_static(MANY);
        let stream = grpc.server_streaming(grpc::request(), path, grpc::codec());
        let mut stream = stream.await.expect("an answer").into_inner();
        assert!(stream.message().await.expect("an item").is_some());
        sleep(secs(10)).await;
        let mut left = ITEMS - 1;
        while stream.message().await.expect("no error").is_some() {
            left -= 1;
        }
        assert_eq!(left, 0);
        assert_lives(&handle, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_grpc_calls_at_a_limit_of_one_survive_and_a_freeze_under_one_is_found_in_time() {
    let site = grpc::slow(GrpcServer::builder().max_concurrent_streams(1));
    let (channel, handle) = channel(&site, within_a_second()).await;
    let begin = Instant::now();
    // Before the first answer the client doesn't know the limit.
    grpc::wait(channel.clone()).await;
    let (one, two) = tokio::join!(grpc::wait(channel.clone()), grpc::wait(channel.clone()));
    for status in [one, two] {
        assert!(grpc::at_last(&status), "{status:?}");
    }
    assert_eq!(begin.elapsed().as_secs(), 30);
    assert_lives(&handle, 30);

    let (one, two) = (grpc::wait(channel.clone()), grpc::wait(channel.clone()));
    let freeze = async {
        sleep(secs(3)).await;
        site.freeze();
        Instant::now()
    };
    let (one, two, frozen) = tokio::join!(one, two, freeze);
    let bound = within_a_second().worst_case_detection();
    assert!(frozen.elapsed() <= bound + super::support::millis(3));
    for status in [one, two] {
        let (code, end) = seen(&status);
        assert_eq!(code, Code::Unavailable, "{status:?}");
        let (failure, _) = end.expect("typed");
        assert_eq!(failure, tower_heartbeat::Failure::PongTimeout);
    }
}
