//! HTTP/2: pings go on beside what is slow, and find the peer alive.

use tokio::{
    io::duplex,
    time::{Instant, sleep},
};

use super::support::{
    client::{Client, all, connect, data, get, send},
    secs,
    server::Server,
    within_a_second,
};

async fn connected() -> (Client, Server) {
    let (near, far) = duplex(64 * 1024);
    let server = Server::start(far);
    (connect(near, within_a_second()).await, server)
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_ten_seconds_survives_a_bound_of_one() {
    let (mut client, server) = connected().await;
    let begin = Instant::now();
    let response = send(&mut client, get("/slow?10")).await.expect("an answer");
    assert!(begin.elapsed() >= secs(10));
    assert!(server.seen.pings() >= 10, "{}", server.seen.pings());
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    assert!(client.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_reader_pauses_for_ten_seconds_survives() {
    let (mut client, server) = connected().await;
    // More than the windows of the stream and the connection take.
    let response = send(&mut client, get("/bytes?8000000"))
        .await
        .expect("an answer");
    let mut body = response.into_body();
    let first = data(&mut body).await.expect("data").expect("no error");
    sleep(secs(10)).await;
    assert!(server.seen.pings() >= 10, "{}", server.seen.pings());
    let rest = all(body).await.expect("the rest");
    assert_eq!(first.len() + rest.len(), 8_000_000);
    assert!(client.is_alive());
}
