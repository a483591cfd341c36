//! HTTP/1: under an exchange nothing is pinged, and without a quiet limit nothing judges.

use tokio::time::{Instant, sleep};

use super::{
    http1_client::{connected, send},
    support::{
        client::{all, data, get},
        secs, within_a_second,
    },
};

#[tokio::test(start_paused = true)]
async fn a_handler_of_ten_seconds_survives_a_bound_of_one() {
    let (mut client, server) = connected(within_a_second()).await;
    let begin = Instant::now();
    let response = send(&mut client, get("/slow?10")).await.expect("an answer");
    assert!(begin.elapsed() >= secs(10));
    assert_eq!(all(response.into_body()).await.expect("a body"), "at last");
    sleep(secs(3)).await;
    assert!(client.is_alive());
    assert!(server.seen.pings() > 0, "it is watched again");
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_reader_pauses_for_ten_seconds_survives() {
    let (mut client, _server) = connected(within_a_second()).await;
    // More than all buffers between take.
    let response = send(&mut client, get("/bytes?4000000"))
        .await
        .expect("an answer");
    let mut body = response.into_body();
    let first = data(&mut body).await.expect("data").expect("no error");
    sleep(secs(10)).await;
    let rest = all(body).await.expect("the rest");
    assert_eq!(first.len() + rest.len(), 4_000_000);
    assert!(client.is_alive());
}
