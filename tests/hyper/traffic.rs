//! Traffic passes, and counts as a sign of life.

use std::{convert::Infallible, future::poll_fn, pin::Pin};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes},
    server::conn::http2,
};
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::duplex,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt, service_fn};
use tower_heartbeat::{
    BoxError, Config, Evidence, Failure, HeartbeatLayer, Stage, State, http::CompleteOnBody, ping,
};

use super::support::{
    client::{
        Client, ResponseBody, all, connect, data, ended, fed, full, get, request, send, spawn,
    },
    eventually,
    frames::{END_HEADERS, END_STREAM, Frames, HEADERS, PING},
    line::Line,
    millis, secs,
    server::Server,
    told, within_a_second,
};

async fn connected() -> (Line, Client, Server) {
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let client = connect(near, within_a_second()).await;
    (line, client, server)
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered() {
    let (_line, mut client, _server) = connected().await;
    for _ in 0..3 {
        let response = send(&mut client, get("/hello")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(all(response.into_body()).await.expect("a body"), "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_streams_there_and_back() {
    let (_line, mut client, _server) = connected().await;
    let (feeder, body) = fed();
    let response = send(&mut client, request("/echo", body.boxed_unsync())).await;
    let mut echo = response.expect("an answer").into_body();
    for word in ["one", "two", "three"] {
        feeder
            .send(Ok(Bytes::from(word)))
            .await
            .expect("it is taken");
        assert_eq!(data(&mut echo).await.expect("a frame").expect("data"), word);
    }
    drop(feeder);
    assert!(all(echo).await.expect("an end").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_of_a_megabyte_arrives_whole_on_a_narrow_line() {
    let (near, far) = duplex(100);
    let _server = Server::start(far);
    let mut client = connect(near, within_a_second()).await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let response = send(&mut client, request("/echo", full(sent.clone()))).await;
    let echo = all(response.expect("an answer").into_body()).await;
    assert!(echo.expect("a body") == sent, "it is not what was sent");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_until_its_body_ends() {
    let (_line, mut client, _server) = connected().await;
    let handle = client.handle();
    let response = send(&mut client, get("/ticks?2")).await.expect("an answer");
    assert_eq!(handle.in_flight(), 1);
    all(response.into_body()).await.expect("a body");
    assert_eq!(handle.in_flight(), 0);

    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").expect("data");
    assert_eq!(handle.in_flight(), 1);
    drop(body);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_has_no_body_is_over_with_its_head() {
    let (_line, mut client, _server) = connected().await;
    let response = send(&mut client, get("/health")).await.expect("an answer");
    assert!(response.body().is_end_stream());
    assert_eq!(client.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_ping_is_made_while_a_body_streams() {
    let (_line, mut client, server) = connected().await;
    let handle = client.handle();
    let response = send(&mut client, get("/ticks?30"))
        .await
        .expect("an answer");
    let body = all(response.into_body()).await.expect("a body");
    assert_eq!(body.len(), 30 * "frame".len());
    assert_eq!((handle.pings(), server.seen.pings()), (0, 0));

    sleep(secs(5)).await;
    assert!(
        handle.pongs() >= 5,
        "quiet again, it is pinged: {}",
        handle.pongs()
    );
    assert_eq!(handle.pongs(), handle.pings());
    assert_eq!(handle.pings(), server.seen.pings() as u64);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_belong_to_no_body_count_too() {
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        for n in 0..30_u64 {
            sleep(millis(300)).await;
            server.send(PING, 0, 0, &n.to_be_bytes()).await;
        }
        server
    });
    let client = connect(near, within_a_second()).await;
    let _server = server.await.expect("no panic");
    let handle = client.handle();
    assert_eq!((handle.state(), handle.pings()), (State::Alive, 0));
    // And that was all that kept it alive.
    assert_eq!(ended(&handle).await, Failure::PongTimeout);
}

#[tokio::test(start_paused = true)]
async fn bytes_rescue_a_ping_that_is_never_answered() {
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        let ping = server.request().await;
        for n in 0..30_u64 {
            sleep(millis(300)).await;
            server.send(PING, 0, 0, &n.to_be_bytes()).await;
        }
        server.head(ping, END_STREAM).await;
        server
    });
    let client = connect(near, within_a_second()).await;
    let _server = server.await.expect("no panic");
    let handle = client.handle();
    eventually(secs(1), "the pong", || handle.pongs() == 1).await;
    assert_eq!((handle.state(), handle.pings()), (State::Alive, 1));
}

#[tokio::test(start_paused = true)]
async fn with_pongs_as_the_only_evidence_bytes_do_not_rescue() {
    let (near, far) = duplex(64 * 1024);
    let chatter = tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        loop {
            sleep(millis(50)).await;
            server.send(PING, 0, 0, &[0; 8]).await;
        }
    });
    let config = Config::builder()
        .detect_within(secs(1))
        .evidence(Evidence::PongOnly)
        .build()
        .expect("legal settings");
    let client = connect(near, config).await;
    let begin = Instant::now();
    assert_eq!(ended(&client.handle()).await, Failure::PongTimeout);
    assert!(begin.elapsed() <= secs(1), "{:?}", begin.elapsed());
    chatter.abort();
}

#[tokio::test(start_paused = true)]
async fn frames_of_a_body_count_on_any_service_of_http() {
    let (feeder, body) = fed();
    let mut once = Some(body);
    let connection = service_fn(move |_: Request<Full<Bytes>>| {
        let body = once.take().expect("one call");
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let mute = ping::out_of_band(ping::from_fn(std::future::pending::<Result<(), BoxError>>));
    let layer = HeartbeatLayer::new(within_a_second(), mute).completion(CompleteOnBody::default());
    let mut service = tower::Layer::layer(&layer, connection);
    let handle = service.handle();
    let call = service
        .ready()
        .await
        .expect("alive")
        .call(Request::default());
    let mut body = call.await.expect("an answer").into_body();

    for _ in 0..30 {
        sleep(millis(300)).await;
        feeder
            .send(Ok(Bytes::from_static(b"frame")))
            .await
            .expect("it is taken");
        data(&mut body).await.expect("a frame").expect("data");
    }
    assert_eq!((handle.state(), handle.pings()), (State::Alive, 0));

    let begin = Instant::now();
    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("it is quiet");
    assert!(begin.elapsed() <= millis(1_003), "{:?}", begin.elapsed());
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::Streaming)));
    let late = Ok(Bytes::from_static(b"too late"));
    feeder.send(late).await.expect("it is taken");
    assert!(data(&mut body).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn heads_of_answers_count_on_any_service_of_http() {
    let connection = service_fn(|_: Request<Full<Bytes>>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    });
    let mute = ping::out_of_band(ping::from_fn(std::future::pending::<Result<(), BoxError>>));
    let layer = HeartbeatLayer::new(within_a_second(), mute).completion(CompleteOnBody::default());
    let mut service = tower::Layer::layer(&layer, connection);
    for _ in 0..30 {
        sleep(millis(300)).await;
        let ready = service.ready().await.expect("alive");
        ready.call(Request::default()).await.expect("an answer");
    }
    let handle = service.handle();
    assert_eq!((handle.state(), handle.pings()), (State::Alive, 0));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_reads_slowly_is_no_dead_peer() {
    let (_line, mut client, _server) = connected().await;
    let handle = client.handle();
    let wanted = 400_000;
    let response = send(&mut client, get(&format!("/bytes?{wanted}"))).await;
    let mut body = response.expect("an answer").into_body();
    let mut taken = 0;
    while let Some(data) = data(&mut body).await {
        taken += data.expect("the connection lives").len();
        sleep(secs(10)).await;
    }
    assert_eq!(taken, wanted);
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.pongs() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_polls_is_no_dead_peer() {
    let (_line, mut client, _server) = connected().await;
    let response = send(&mut client, get("/bytes?400000"))
        .await
        .expect("an answer");
    sleep(secs(60)).await;
    let body = all(response.into_body())
        .await
        .expect("the connection lives");
    assert_eq!(body.len(), 400_000);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_the_handler_does_not_take_is_no_dead_peer() {
    let (_line, client, server) = connected().await;
    let call = spawn(&client, request("/slow?60", full(vec![0; 10_000_000])));
    let response = call.await.expect("no panic").expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert!(server.seen.pings() > 60);
}

#[tokio::test(start_paused = true)]
async fn a_handler_slower_than_the_bound_is_waited_for() {
    let (_line, mut client, _server) = connected().await;
    let begin = Instant::now();
    let response = send(&mut client, get("/slow?10")).await.expect("an answer");
    assert!(begin.elapsed() >= secs(10));
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert!(client.handle().pongs() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_keeps_its_size_hint_and_its_end() {
    fn unpin<T: Unpin + Send>(_: &T) {}

    let (_line, mut client, _server) = connected().await;
    let response = send(&mut client, get("/bytes?12"))
        .await
        .expect("an answer");
    let mut body: ResponseBody = response.into_body();
    unpin(&body);
    assert_eq!(body.size_hint().exact(), Some(12));
    assert!(!body.is_end_stream());
    let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    frame.expect("a frame").expect("data");
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(body.is_end_stream());
    assert_eq!(client.handle().in_flight(), 0, "a known end is the end");
    assert!(data(&mut body).await.is_none());
    assert!(body.is_end_stream());

    let response = send(&mut client, get("/ticks?1")).await.expect("an answer");
    assert_eq!(response.body().size_hint().exact(), None);
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_and_end_the_call() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        let stream = server.request().await;
        server.head(stream, 0).await;
        server.data(stream, 0, b"frame").await;
        // `grpc-status: 0`, as a literal that HPACK doesn't index.
        let trailers = [b"\x00\x0bgrpc-status".as_slice(), b"\x010"].concat();
        let flags = END_HEADERS | END_STREAM;
        server.send(HEADERS, flags, stream, &trailers).await;
        server.rest().await;
    });
    let mut client = connect(near, within_a_second()).await;
    let response = send(&mut client, get("/")).await.expect("an answer");
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "frame");
    assert_eq!(client.handle().in_flight(), 0);
}

fn one_stream_at_a_time() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(1);
    builder
}

#[tokio::test(start_paused = true)]
async fn where_one_stream_is_allowed_a_silent_handler_makes_the_queued_ping_a_miss() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::with(far, &one_stream_at_a_time());
    let mut client = connect(near, within_a_second()).await;
    // Only once the peer's SETTINGS are in does h2 queue.
    send(&mut client, get("/hello")).await.expect("an answer");
    let error = send(&mut client, get("/slow?10"))
        .await
        .expect_err("too slow");
    assert_eq!(
        told(&error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
    assert_eq!(server.seen.pings(), 0, "the ping never left");
}

#[tokio::test(start_paused = true)]
async fn where_one_stream_is_allowed_frames_excuse_the_queued_ping() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::with(far, &one_stream_at_a_time());
    let mut client = connect(near, within_a_second()).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    let (feeder, body) = fed();
    let response = send(&mut client, request("/echo", body.boxed_unsync())).await;
    let mut echo = response.expect("an answer").into_body();
    let handle = client.handle();
    for _ in 0..10 {
        // Longer than an interval: the ping is due, and stays in h2's queue.
        sleep(millis(600)).await;
        feeder
            .send(Ok(Bytes::from_static(b"frame")))
            .await
            .expect("it is taken");
        data(&mut echo).await.expect("a frame").expect("data");
    }
    assert_eq!((handle.pings(), handle.pongs()), (1, 0));
    drop(feeder);
    assert!(all(echo).await.expect("an end").is_empty());
    eventually(secs(1), "the pong", || handle.pongs() == 1).await;
    assert_eq!(server.seen.pings(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_that_queue_behind_a_limit_of_streams_are_all_answered() {
    let (near, far) = duplex(64 * 1024);
    let _server = Server::with(far, &one_stream_at_a_time());
    let config = Config::detect_within(secs(20)).expect("a legal bound");
    let client = connect(near, config).await;
    let calls: Vec<_> = (0..5).map(|_| spawn(&client, get("/slow?1"))).collect();
    for call in calls {
        let response = call.await.expect("no panic").expect("an answer");
        assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    }
}
