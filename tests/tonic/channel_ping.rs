//! An ordinary channel of tonic's, with PINGs below it and attribution above.

use std::{
    io,
    sync::{Arc, Mutex},
};

use futures_util::stream;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tower::{Layer, ServiceBuilder, service_fn};
use tower_heartbeat::{
    Config, Failure, Handle, Stage, State,
    h2_io::{Attribution, GoAway, PingLayer},
    tonic::{StatusLayer, StatusService},
};

use super::{
    channel::plain,
    support::{Site, UPLOAD, dead_at, secs, seen, within_a_second},
};

type Stack = StatusService<Attribution<Channel>>;

struct Pinged {
    stack: Stack,
    handles: Arc<Mutex<Vec<Handle>>>,
}

impl Pinged {
    fn new(site: &Site, endpoint: &Endpoint, config: Config) -> Pinged {
        let handles = Arc::<Mutex<Vec<Handle>>>::default();
        let made = Arc::clone(&handles);
        let pings = PingLayer::new(config)
            .on_connect(move |handle| made.lock().expect("no panic").push(handle.clone()));
        let site = site.clone();
        let connector = pings.layer(service_fn(move |_| {
            let site = site.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(site.connect())) }
        }));
        let stack = ServiceBuilder::new()
            .layer(StatusLayer::new())
            .layer(pings.attribution())
            .service(endpoint.connect_with_connector_lazy(connector));
        Pinged { stack, handles }
    }

    fn client(&self) -> HealthClient<Stack> {
        HealthClient::new(self.stack.clone())
    }

    fn handle(&self, connection: usize) -> Handle {
        self.handles.lock().expect("no panic")[connection].clone()
    }
}

fn check() -> HealthCheckRequest {
    HealthCheckRequest::default()
}

#[tokio::test(start_paused = true)]
async fn a_call_and_a_stream_are_typed_and_the_next_call_recovers() {
    let (site, _reporter) = Site::healthy();
    let pinged = Pinged::new(&site, &plain(), within_a_second());
    let mut client = pinged.client();
    let watching = client.watch(check()).await.expect("an answer");
    let mut watching = watching.into_inner();
    assert!(watching.message().await.expect("an item").is_some());
    sleep(secs(10)).await;

    site.freeze();
    let began = Instant::now();
    let call = client.check(check()).await.expect_err("it is frozen");
    let bound = within_a_second().worst_case_detection();
    assert!(began.elapsed() <= bound, "{:?}", began.elapsed());
    assert_eq!(seen(&call), dead_at(Stage::AwaitingResponse), "{call:?}");
    let stream = watching.message().await.expect_err("it is frozen");
    assert_eq!(seen(&stream), dead_at(Stage::Streaming), "{stream:?}");
    assert_eq!(pinged.handle(0).failure(), Some(Failure::PongTimeout));

    site.thaw();
    client.check(check()).await.expect("a new connection");
    assert_eq!(site.connections(), 2);
    assert_eq!(pinged.handle(1).state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_typed() {
    let (site, _reporter) = Site::healthy();
    let pinged = Pinged::new(&site, &plain(), within_a_second());
    let mut grpc = tonic::client::Grpc::new(pinged.stack.clone());
    grpc.ready().await.expect("it is alive");
    let uploads = stream::unfold((), |()| async {
        sleep(secs(1) / 10).await;
        Some((check(), ()))
    });
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static(UPLOAD);
    let call = grpc.client_streaming(Request::new(uploads), path, codec);
    let mut call = std::pin::pin!(call);
    let early = timeout(secs(20), call.as_mut()).await;
    assert!(early.is_err(), "an upload is no reason to end: {early:?}");
    site.freeze();
    let status = call.await.expect_err("it is frozen");
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_died_idle_costs_no_call() {
    let (site, _reporter) = Site::healthy();
    let pinged = Pinged::new(&site, &plain(), within_a_second());
    let mut client = pinged.client();
    client.check(check()).await.expect("an answer");
    site.freeze();
    assert_eq!(pinged.handle(0).closed().await, Failure::PongTimeout);
    site.thaw();
    client.check(check()).await.expect("a new connection");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_on_a_new_connection_is_not_the_old_ones() {
    let (site, _reporter) = Site::healthy();
    let pinged = Pinged::new(&site, &plain(), within_a_second());
    let mut client = pinged.client();
    client.check(check()).await.expect("an answer");
    site.freeze();
    assert_eq!(pinged.handle(0).closed().await, Failure::PongTimeout);
    // The new one is frozen as well, from its first byte.
    let status = client.check(check()).await.expect_err("it is frozen");
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
    assert_eq!(pinged.handle(1).failure(), Some(Failure::PongTimeout));
    site.thaw();
    let status = client.check(HealthCheckRequest {
        service: "nobody".into(),
    });
    let status = status.await.expect_err("it is not there");
    assert_eq!(seen(&status), (Code::NotFound, None));
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_that_is_the_only_one_allowed_is_pinged_beside_it() {
    let (site, _reporter) = Site::slow(secs(10), 1);
    let pinged = Pinged::new(&site, &plain(), within_a_second());
    let (mut one, mut two) = (pinged.client(), pinged.client());
    // Before the first answer the client doesn't know the limit.
    one.check(check()).await.expect("it is slow");
    let (first, second) = tokio::join!(one.check(check()), two.check(check()));
    first.expect("it is slow");
    second.expect("it waited");
    let handle = pinged.handle(0);
    assert!(handle.pings() >= 30, "{}", handle.pings());
    assert_eq!(handle.state(), State::Alive);
    assert_eq!(site.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_right_after_accepting_is_not_taken_for_the_frozen_one_before_it() {
    let (site, _reporter) = Site::healthy();
    let own = site.clone();
    let pings = PingLayer::new(within_a_second());
    let mut attempts = 0;
    let connector = pings.layer(service_fn(move |_| {
        attempts += 1;
        let (near, _closed) = tokio::io::duplex(4096);
        let closes = (2..5).contains(&attempts);
        let near = if closes { near } else { own.connect() };
        async move { Ok::<_, io::Error>(TokioIo::new(near)) }
    }));
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .layer(pings.attribution())
        .service(plain().connect_with_connector_lazy(connector));
    let mut client = HealthClient::new(stack);
    client.check(check()).await.expect("an answer");
    site.freeze();
    let status = client.check(check()).await.expect_err("it is frozen");
    assert_eq!(
        seen(&status),
        dead_at(Stage::AwaitingResponse),
        "{status:?}"
    );
    site.thaw();
    for _ in 2..5 {
        let status = client.check(check()).await.expect_err("it closes");
        assert_eq!(seen(&status).1, None, "{status:?}");
    }
    client.check(check()).await.expect("an answer");
}

/// What a gRPC server says when it is pinged too often, and what others say with the same code.
#[tokio::test(start_paused = true)]
async fn a_peer_that_complains_about_pings_gets_half_of_them_on_the_next_connection() {
    for (code, text, complains) in [
        (11, "too_many_pings", true),
        (11, "too_many_settings", false),
        (2, "too_many_pings", false),
    ] {
        let handles = Arc::<Mutex<Vec<Handle>>>::default();
        let made = Arc::clone(&handles);
        let pings = PingLayer::new(within_a_second())
            .on_connect(move |handle| made.lock().expect("no panic").push(handle.clone()));
        let connector = pings.layer(service_fn(move |_| async move {
            let (near, far) = tokio::io::duplex(4096);
            tokio::spawn(annoyed(far, code, text));
            Ok::<_, io::Error>(TokioIo::new(near))
        }));
        let stack = ServiceBuilder::new()
            .layer(StatusLayer::new())
            .layer(pings.attribution())
            .service(plain().connect_with_connector_lazy(connector));
        let mut client = HealthClient::new(stack);
        let first = client.check(check()).await.expect_err("it is annoyed");
        let second = client.check(check()).await.expect_err("it is annoyed");
        let handles = handles.lock().expect("no panic").clone();
        let interval = within_a_second().interval();
        let ends = handles
            .iter()
            .map(|handle| handle.failure().expect("it ended"));
        let intervals = handles.iter().map(|handle| handle.config().interval());
        if complains {
            let expected = Some((Failure::TooManyPings, Stage::AwaitingResponse));
            assert_eq!(seen(&first), (Code::Unavailable, expected), "{first:?}");
            assert_eq!(seen(&second), (Code::Unavailable, expected), "{second:?}");
            assert_eq!(ends.collect::<Vec<_>>(), [Failure::TooManyPings; 2]);
            assert!(intervals.eq([interval, interval * 2]));
            let error = handles[0].error().expect("it ended");
            let source = std::error::Error::source(&error).expect("the peer's word");
            let word = source.downcast_ref::<GoAway>().expect("as it came");
            assert_eq!(word.code(), 11);
            assert_eq!(word.debug_data(), text.as_bytes());
        } else {
            assert_eq!(seen(&first).1, None, "{first:?}");
            assert_eq!(ends.collect::<Vec<_>>(), [Failure::Transport; 2]);
            assert!(intervals.eq([interval; 2]));
        }
    }
}

/// Says so after the second PING, and closes.
async fn annoyed(mut io: tokio::io::DuplexStream, code: u32, text: &str) {
    io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .expect("settings");
    let mut preface = [0; 24];
    io.read_exact(&mut preface).await.expect("a preface");
    let mut pings = 0;
    while pings < 2 {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("it fits")];
        io.read_exact(&mut payload).await.expect("a payload");
        if head[3] == 6 {
            pings += 1;
            let ack = [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &*payload].concat();
            io.write_all(&ack).await.expect("an answer");
        }
    }
    let length = u8::try_from(8 + text.len()).expect("it is short");
    let mut frame = vec![0, 0, length, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    frame.extend(code.to_be_bytes());
    frame.extend(text.as_bytes());
    io.write_all(&frame).await.expect("a goodbye");
}
