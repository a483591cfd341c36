//! Other ways in which a connection, or a stream of it, comes to its end.

use std::error::Error as StdError;

use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tower::ServiceExt;
use tower_heartbeat::{
    Config, Error, Failure, HeartbeatError, Stage, State, hyper::http2::SendError,
};

use super::support::{
    client::{
        Client, all, connect, connect_without_pings, data, ended, fed, get, request, send, spawn,
    },
    eventually,
    frames::{Frames, GOAWAY, NO_ERROR, RST_STREAM},
    line::{Line, Watched},
    millis, secs,
    server::Server,
    soon, told, within_a_second,
};

/// Settings under which the heartbeat itself has nothing to say for a day.
fn patient() -> Config {
    Config::detect_within(secs(24 * 60 * 60)).expect("a legal bound")
}

async fn connected(config: Config) -> (Line, Client, Server) {
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let client = connect(near, config).await;
    (line, client, server)
}

/// What is in flight when the transport ends: a call, and a body in the middle.
async fn everything_says_transport(mut client: Client, server: Server) -> HeartbeatError {
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").expect("data");
    let call = spawn(&client, get("/never"));
    let there = || server.seen.requests() == 2;
    eventually(secs(10), "the call is there", there).await;
    server.kill();

    let error = soon(secs(5), "the end", call).await;
    let error = error.expect("no panic").expect_err("it ended");
    let told_call = told(&error);
    assert_eq!(
        told_call,
        Some((Failure::Transport, Stage::AwaitingResponse)),
        "{error:?}"
    );
    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("it ended");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::Streaming)),
        "{error:?}"
    );
    assert!(data(&mut body).await.is_none());
    let error = client.ready().await.expect_err("it ended");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::NotSent)),
        "{error:?}"
    );
    client.handle().error().expect("it ended")
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_in_the_middle_is_a_transport_error() {
    let (line, client, server) = connected(patient()).await;
    let error = everything_says_transport(client, server).await;
    assert!(error.source().expect("a cause").is::<hyper::Error>());
    drop(line);
}

#[tokio::test]
async fn a_socket_that_is_closed_in_the_middle_is_a_transport_error() {
    let (near, far) = sockets().await;
    let server = Server::start(far);
    let client = connect(near, patient()).await;
    let error = everything_says_transport(client, server).await;
    assert!(error.source().expect("a cause").is::<hyper::Error>());
}

#[tokio::test]
async fn a_socket_that_is_reset_in_the_middle_is_a_transport_error() {
    let (near, far) = sockets().await;
    far.set_zero_linger().expect("a socket");
    let server = Server::start(far);
    let client = connect(near, patient()).await;
    let error = everything_says_transport(client, server).await;
    assert!(error.source().expect("a cause").is::<hyper::Error>());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_server_closes_ends_at_once() {
    let (_line, mut client, server) = connected(patient()).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    server.kill();
    let handle = client.handle();
    assert_eq!(ended(&handle).await, Failure::Transport);
    let error = client.ready().await.expect_err("it ended");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("a connection"), far.expect("a connection").0)
}

#[tokio::test(start_paused = true)]
async fn a_body_cut_short_after_a_graceful_goaway_is_a_transport_error() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        let stream = server.request().await;
        server.head(stream, 0).await;
        server.data(stream, 0, b"frame").await;
        server.go_away(stream, NO_ERROR, b"").await;
    });
    let mut client = connect(near, patient()).await;
    let response = send(&mut client, get("/")).await.expect("an answer");
    let mut body = response.into_body();
    assert_eq!(
        data(&mut body).await.expect("a frame").expect("data"),
        "frame"
    );
    let error = data(&mut body).await.expect("an error").expect_err("cut");
    assert_eq!(
        told(&error),
        Some((Failure::Transport, Stage::Streaming)),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reset_stream_is_hypers_error_and_the_connection_lives() {
    let (_line, mut client, _server) = connected(within_a_second()).await;
    for _ in 0..3 {
        let response = send(&mut client, get("/reset")).await.expect("an answer");
        let mut body = response.into_body();
        data(&mut body).await.expect("a frame").expect("data");
        let error = data(&mut body).await.expect("an error").expect_err("reset");
        let Error::Inner(error) = error else {
            panic!("{error:?}")
        };
        let h2 = error.source().expect("h2's").downcast_ref::<h2::Error>();
        assert!(h2.expect("h2's").is_reset());
        assert_eq!(client.handle().in_flight(), 0, "an errored body is over");
        assert!(data(&mut body).await.is_none());
    }
    let response = send(&mut client, get("/hello")).await.expect("an answer");
    assert_eq!(all(response.into_body()).await.expect("a body"), "hello");
    assert_eq!(client.handle().state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn a_call_reset_before_its_head_is_hypers_error_at_once() {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = Frames::accept(far).await;
        let stream = server.request().await;
        // INTERNAL_ERROR
        server
            .send(RST_STREAM, 0, stream, &2_u32.to_be_bytes())
            .await;
        let stream = server.request().await;
        server
            .head(stream, super::support::frames::END_STREAM)
            .await;
        server.rest().await;
    });
    let mut client = connect(near, patient()).await;
    let begin = Instant::now();
    let error = send(&mut client, get("/")).await.expect_err("reset");
    let Error::Inner(SendError::Failed(error)) = error else {
        panic!("{error:?}")
    };
    let h2 = error.source().expect("h2's").downcast_ref::<h2::Error>();
    assert_eq!(h2.expect("h2's").reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert!(begin.elapsed() < secs(1));
    send(&mut client, get("/")).await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_fails_is_its_own_calls_error() {
    let (_line, mut client, _server) = connected(within_a_second()).await;
    let (feeder, body) = fed();
    let call = spawn(&client, request("/never", body.boxed_unsync()));
    sleep(millis(10)).await;
    feeder
        .send(Err("out of paper".into()))
        .await
        .expect("it is taken");
    let error = soon(secs(1), "an error", call).await;
    let error = error.expect("no panic").expect_err("its body failed");
    assert!(matches!(error, Error::Inner(_)), "{error:?}");
    send(&mut client, get("/hello")).await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn a_closed_handle_fails_what_is_in_flight_and_the_server_sees_it() {
    let (_line, mut client, server) = connected(within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    data(&mut body).await.expect("a frame").expect("data");
    let call = spawn(&client, get("/never"));
    sleep(millis(10)).await;
    let handle = client.handle();
    handle.close();
    let error = call.await.expect("no panic").expect_err("closed");
    assert_eq!(
        told(&error),
        Some((Failure::Closed, Stage::AwaitingResponse))
    );
    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("closed");
    assert_eq!(told(&error), Some((Failure::Closed, Stage::Streaming)));
    let error = client.ready().await.expect_err("closed");
    assert_eq!(told(&error), Some((Failure::Closed, Stage::NotSent)));
    assert_eq!(handle.state(), State::Closed);
    // The service and the body are still there.
    soon(secs(1), "the server sees it", server.ended()).await;
    drop((client, body));
}

#[tokio::test(start_paused = true)]
async fn a_closed_handle_closes_the_line_to_a_frozen_peer_too() {
    let (line, near, far) = Line::new();
    let _server = Server::start(far);
    let (near, closed) = Watched::new(near);
    let mut client = connect(near, within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    line.freeze();
    client.handle().close();
    eventually(secs(1), "the IO is closed", || closed.is_set()).await;
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_at_once_is_closed() {
    let (_line, mut client, server) = connected(within_a_second()).await;
    client.handle().close();
    let error = client.ready().await.expect_err("closed");
    assert_eq!(told(&error), Some((Failure::Closed, Stage::NotSent)));
    soon(secs(1), "the server sees it", server.ended()).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_limit_counts_from_the_end_of_the_body() {
    let config = Config::builder()
        .detect_within(secs(1))
        .idle_timeout(secs(5))
        .build()
        .expect("legal settings");
    let (_line, mut client, server) = connected(config).await;
    let handle = client.handle();
    let response = send(&mut client, get("/ticks?100"))
        .await
        .expect("an answer");
    let body = all(response.into_body()).await.expect("a body, 30 s long");
    assert_eq!(body.len(), 100 * "frame".len());

    let begin = Instant::now();
    assert_eq!(ended(&handle).await, Failure::IdleTimeout);
    let idle = begin.elapsed();
    assert!(
        idle >= secs(5) && idle <= secs(5) + 2 * config.tick(),
        "{idle:?}"
    );
    assert!(handle.pings() > 0, "pings are no use");
    let error = client.ready().await.expect_err("closed");
    assert_eq!(told(&error), Some((Failure::IdleTimeout, Stage::NotSent)));
    soon(secs(1), "the server sees it", server.ended()).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_says_goodbye() {
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(async move { Frames::accept(far).await.rest().await });
    let config = Config::builder()
        .idle_timeout(secs(5))
        .build()
        .expect("legal settings");
    let client = connect(near, config).await;
    assert_eq!(ended(&client.handle()).await, Failure::IdleTimeout);
    let frames = soon(secs(1), "the server sees it", server).await;
    let last = frames.expect("no panic").pop().expect("a frame");
    assert_eq!((last.kind, &last.payload[4..8]), (GOAWAY, &[0; 4][..]));
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_waits_for_a_frozen_peer_no_longer_than_a_second() {
    let (near, _far) = duplex(16);
    let (near, closed) = Watched::new(near);
    let config = Config::builder()
        .idle_timeout(secs(5))
        .build()
        .expect("legal settings");
    let connecting = connect_without_pings(near, config, http2::Builder::new(TokioExecutor::new()));
    // The preface of 24 bytes doesn't fit: the handshake waits for the peer to read.
    let far = _far;
    let reader = tokio::spawn(async move {
        let mut far = far;
        far.read_exact(&mut [0; 24]).await.expect("a preface");
        far
    });
    let client = connecting.await;
    let far = reader.await.expect("no panic");
    assert_eq!(ended(&client.handle()).await, Failure::IdleTimeout);
    eventually(secs(1), "the IO is closed", || closed.is_set()).await;
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn without_pings_a_connection_is_driven_all_the_same() {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let builder = http2::Builder::new(TokioExecutor::new());
    let mut client = connect_without_pings(near, Config::default(), builder).await;
    send(&mut client, get("/slow?100"))
        .await
        .expect("an answer");
    assert_eq!(
        client
            .handle()
            .ping_now()
            .await
            .expect_err("none")
            .failure(),
        Failure::Unsupported
    );
    server.kill();
    assert_eq!(ended(&client.handle()).await, Failure::Transport);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_nonsense_is_a_transport_error() {
    let (near, mut far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut preface = [0; 24];
        far.read_exact(&mut preface).await.expect("a preface");
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(10_000)
        .collect();
        far.write_all(&noise).await.expect("it is taken");
        // It stays: the client has to go.
        let mut rest = Vec::new();
        let _ = far.read_to_end(&mut rest).await;
    });
    let mut client = connect(near, patient()).await;
    let call = send(&mut client, get("/hello"));
    let error = soon(secs(1), "the end", call).await.expect_err("nonsense");
    let error = error.heartbeat().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(error.failure(), Failure::Transport);
    assert!(error.source().expect("a cause").is::<hyper::Error>());
    let error = client.ready().await.expect_err("it ended");
    assert_eq!(told(&error), Some((Failure::Transport, Stage::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_http_1_is_a_transport_error() {
    let (near, mut far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
        far.write_all(answer).await.expect("it is taken");
        let mut rest = Vec::new();
        let _ = far.read_to_end(&mut rest).await;
    });
    let mut client = connect(near, patient()).await;
    let call = send(&mut client, get("/hello"));
    let error = soon(secs(1), "the end", call).await.expect_err("HTTP/1");
    assert_eq!(
        error.heartbeat().map(HeartbeatError::failure),
        Some(Failure::Transport),
        "{error:?}"
    );
}
