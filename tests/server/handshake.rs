//! Clients that never get to a request.

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_heartbeat::server::Reason;

use crate::support::{Client, Http1, Server, get, limits, ms, sleep};

fn server() -> Server {
    Server::new(limits().handshake_timeout(ms(1_000)).grace(ms(5_000)))
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn whatever_is_not_a_whole_head_is_cut_off_at_the_limit() {
    let half_settings = [PREFACE, b"\0\0\x06\x04\0\0\0\0\0\0\x03"].concat();
    let begun: [&[u8]; 5] = [b"", b"GET /now HT", b"PRI * HT", PREFACE, &half_settings];
    for sent in begun {
        let server = server();
        let (mut client, served) = server.connect();
        client.write_all(sent).await.expect("room");
        served.end().await.is(Reason::Handshake, true, 1_000);
        // What hyper had to say before: its SETTINGS.
        let _closed = client.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_at_a_time_does_not_put_it_off() {
    let server = server();
    let (mut client, served) = server.connect();
    let loris = tokio::spawn(async move {
        for byte in b"GET /now HTTP/1.1\r\nhost: a-name-of-many-letters\r\n".iter() {
            if client.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(90).await;
        }
    });
    served.end().await.is(Reason::Handshake, true, 1_000);
    loris.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_request_head_or_settings_in_time_are_enough() {
    for http2 in [false, true] {
        let server = server();
        let (io, served) = server.connect();
        sleep(900).await;
        let mut client = Client::over(io, http2).await;
        if !http2 {
            client.ask(get("/slow/500")).await.expect("an answer");
        }
        sleep(5_000).await;
        client.ask(get("/now")).await.expect("it is still there");
        drop(client);
        let end = served.end().await;
        assert_eq!(end.ended.reason(), Reason::ClientClosed, "http2 {http2}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_lay_there_while_we_were_away_is_read_before_the_verdict() {
    let server = server();
    let (mut client, served) = server.connect();
    sleep(999).await;
    client
        .write_all(b"GET /now HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("room");
    // Nothing of the connection runs meanwhile.
    tokio::time::advance(ms(10_000)).await;
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert!(!served.is_over());
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_of_our_own_a_client_has_another_chance() {
    let server = server();
    let (mut client, served) = server.connect();
    sleep(1).await;
    tokio::time::advance(ms(10_000)).await;
    sleep(500).await;
    assert!(!served.is_over(), "the pause was ours");
    client
        .write_all(b"GET /now HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("room");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.expect("an answer");

    let (_silent, served) = server.connect();
    let begun = server.now();
    sleep(1).await;
    tokio::time::advance(ms(10_000)).await;
    let end = served.end().await;
    assert_eq!(end.at - begun, ms(10_001 + 1_000), "but only one");
}

#[test]
fn ten_thousand_half_open_clients_are_gone_in_time_with_their_memory_and_others_are_served() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    // Once before: what the runtime makes for so many tasks and timers, it keeps.
    runtime.block_on(half_open(10_000));
    let most = allocation_counter::measure(|| runtime.block_on(half_open(10_000)));
    assert!(most.bytes_max > 10_000_000, "{} at most", most.bytes_max);
    assert!(most.bytes_current < 10_000, "{} left", most.bytes_current);
}

/// So many of them for one limit, on paused time.
async fn half_open(count: usize) {
    let server = server();
    let mut clients = Vec::new();
    let mut ends = Vec::new();
    for number in 0..count {
        let (mut client, served) = server.connect_with(256);
        let sent: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /now HT",
            _ => PREFACE,
        };
        client.write_all(sent).await.expect("room");
        clients.push(client);
        ends.push(served.end());
    }
    let (io, well_behaved) = server.connect();
    let serving = async {
        let mut client = Http1::over(io).await;
        for _ in 0..20 {
            client.ask(get("/slow/50")).await.expect("an answer");
            sleep(50).await;
        }
        client
    };
    let (ends, client) = tokio::join!(join_all(ends), serving);
    for end in ends {
        assert_eq!(end.ended.reason(), Reason::Handshake);
        assert!(end.at <= ms(1_100), "{end:?}");
    }
    assert_eq!(server.connections.count(), 1);
    assert!(!well_behaved.is_over());
    drop(client);
    well_behaved.end().await;
}
