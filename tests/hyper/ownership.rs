//! Services, calls and bodies keep a connection; nothing else does.

use http_body_util::BodyExt;
use hyper::body::Bytes;
use tokio::{
    io::{AsyncReadExt, duplex},
    net::{TcpListener, TcpStream},
    runtime::{Handle as Runtime, RuntimeMetrics},
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{Config, Failure, Stage};

use super::support::{
    client::{Client, all, connect, data, ended, fed, get, request, send, spawn},
    eventually,
    line::{Line, Watched},
    millis, secs,
    server::Server,
    soon, told, within_a_second,
};

/// Counts the tasks from before a test to after it.
struct Tasks {
    metrics: RuntimeMetrics,
    before: usize,
}

impl Tasks {
    fn count() -> Tasks {
        let metrics = Runtime::current().metrics();
        let before = metrics.num_alive_tasks();
        Tasks { metrics, before }
    }

    async fn are_gone(&self) {
        let gone = || self.metrics.num_alive_tasks() <= self.before;
        eventually(secs(1), "no task is left", gone).await;
    }
}

async fn connected() -> (Client, Server) {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    let mut client = connect(near, within_a_second()).await;
    send(&mut client, get("/hello")).await.expect("an answer");
    (client, server)
}

#[tokio::test(start_paused = true)]
async fn the_last_service_closes_the_connection() {
    let tasks = Tasks::count();
    let (client, server) = connected().await;
    let handle = client.handle();
    let clone = client.clone();
    drop(client);
    sleep(secs(5)).await;
    assert_eq!(handle.failure(), None);
    drop(clone);
    soon(secs(1), "the server sees it", server.ended()).await;
    assert_eq!(ended(&handle).await, Failure::Closed);
    tasks.are_gone().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_call_closes_the_connection() {
    let tasks = Tasks::count();
    let (client, server) = connected().await;
    let handle = client.handle();
    let call = spawn(&client, get("/slow?10"));
    drop(client);
    let response = call.await.expect("no panic").expect("an answer");
    assert!(handle.pongs() > 0, "it is watched without a service");
    drop(response);
    soon(secs(1), "the server sees it", server.ended()).await;
    tasks.are_gone().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_body_closes_the_connection() {
    let tasks = Tasks::count();
    let (mut client, server) = connected().await;
    let response = send(&mut client, get("/ticks?40"))
        .await
        .expect("an answer");
    drop(client);
    let body = all(response.into_body()).await.expect("a body");
    assert_eq!(body.len(), 40 * "frame".len());
    soon(secs(1), "the server sees it", server.ended()).await;
    tasks.are_gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_and_a_dropped_body_close_the_connection() {
    let tasks = Tasks::count();
    let (mut client, server) = connected().await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let call = spawn(&client, get("/never"));
    drop(client);
    sleep(secs(5)).await;
    call.abort();
    sleep(secs(5)).await;
    drop(response);
    soon(secs(1), "the server sees it", server.ended()).await;
    // Its handler waits for ever.
    eventually(secs(1), "one task is left at most", || {
        tasks.metrics.num_alive_tasks() <= tasks.before + 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_alone_is_still_watched() {
    let (line, near, far) = Line::new();
    let _server = Server::start(far);
    let mut client = connect(near, within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let mut body = response.into_body();
    drop(client);
    data(&mut body).await.expect("a frame").expect("data");
    sleep(secs(5)).await;
    line.freeze();
    let begin = Instant::now();
    let error = data(&mut body)
        .await
        .expect("an error")
        .expect_err("frozen");
    assert_eq!(told(&error), Some((Failure::PongTimeout, Stage::Streaming)));
    assert!(begin.elapsed() <= millis(1_003), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_death_leaves_no_task_behind() {
    let tasks = Tasks::count();
    let (line, near, far) = Line::new();
    let server = Server::start(far);
    let (near, closed) = Watched::new(near);
    let mut client = connect(near, within_a_second()).await;
    let response = send(&mut client, get("/stalled")).await.expect("an answer");
    let (_feeder, body) = fed();
    let call = spawn(&client, request("/never", body.boxed_unsync()));
    line.freeze();
    call.await.expect("no panic").expect_err("frozen");
    eventually(millis(10), "the IO is closed", || closed.is_set()).await;
    server.kill();
    server.ended().await;
    drop(line);
    sleep(millis(100)).await;
    // The client and the body are still there.
    let left = tasks.metrics.num_alive_tasks() - tasks.before;
    assert!(left <= 2, "{left} tasks are left, beside the handlers");
    drop((client, response));
}

/// A socket and its peer, which never reads by itself.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("a connection"), far.expect("a connection").0)
}

/// Reads what is left in the socket; fails if its end isn't there yet.
async fn assert_ended(mut far: TcpStream) -> usize {
    let mut count = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match timeout(millis(300), far.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return count,
            Ok(Ok(read)) => count += read,
            Err(_) => panic!("the socket is still open after {count} bytes"),
        }
    }
}

#[tokio::test]
async fn a_ping_in_flight_to_a_frozen_server_keeps_nothing_open() {
    let tasks = Tasks::count();
    let (near, far) = sockets().await;
    let config = Config::builder()
        .interval(millis(50))
        .pong_timeout(secs(60))
        .build()
        .expect("legal settings");
    let client = connect(near, config).await;
    let handle = client.handle();
    eventually(secs(5), "a ping is out", || handle.pings() == 1).await;
    drop(client);
    sleep(secs(1)).await;
    assert_ended(far).await;
    assert_eq!(handle.failure(), Some(Failure::Closed));
    tasks.are_gone().await;
}

#[tokio::test]
async fn full_buffers_to_a_frozen_server_keep_nothing_open() {
    let tasks = Tasks::count();
    let (near, far) = sockets().await;
    let config = Config::detect_within(secs(600)).expect("a legal bound");
    let client = connect(near, config).await;
    // Windows that a real server would have granted; h2 alone would stop at 64 KiB.
    far.try_write(&windows()).expect("room for two frames");
    sleep(millis(50)).await;
    let (feeder, body) = fed();
    let call = spawn(&client, request("/", body.boxed_unsync()));
    let mut fed = 0;
    let chunk = Bytes::from(vec![0; 1 << 20]);
    while let Ok(taken) = timeout(secs(1), feeder.send(Ok(chunk.clone()))).await {
        taken.expect("the body is there");
        fed += chunk.len();
    }
    assert!(fed > 4 << 20, "only {fed} bytes went in");
    drop(client);
    call.abort();
    soon(secs(1), "the request's body is dropped", feeder.closed()).await;
    sleep(secs(1)).await;
    let read = assert_ended(far).await;
    assert!(read > 1 << 20, "only {read} bytes came out");
    tasks.are_gone().await;
}

/// SETTINGS with the largest window for streams, and a WINDOW_UPDATE for the connection.
fn windows() -> Vec<u8> {
    let mut frames = vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
    frames.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0x00, 0x00, 0x00]);
    frames
}

#[tokio::test]
async fn full_buffers_to_a_frozen_server_hide_no_death() {
    let tasks = Tasks::count();
    let (near, far) = sockets().await;
    let client = connect(near, within_a_second()).await;
    far.try_write(&windows()).expect("room for two frames");
    sleep(millis(50)).await;
    let (feeder, body) = fed();
    let call = spawn(&client, request("/", body.boxed_unsync()));
    let chunk = Bytes::from(vec![0; 1 << 20]);
    let feeding = async { while feeder.send(Ok(chunk.clone())).await.is_ok() {} };
    let error = soon(secs(10), "the verdict", async {
        tokio::join!(call, feeding).0
    })
    .await;
    let error = error.expect("no panic").expect_err("frozen");
    assert_eq!(
        told(&error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
    sleep(millis(500)).await;
    assert_ended(far).await;
    tasks.are_gone().await;
    drop(client);
}
