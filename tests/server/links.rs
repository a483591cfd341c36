//! Links that go dark, or are late, under each phase of a connection. Simulated: hosts, links and time.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tower_heartbeat::server::{Ended, LimitsBuilder, Reason};
use turmoil::{
    Builder, hold,
    net::{TcpListener, TcpStream},
    partition, release,
};

use crate::support::{Body, Drip, Server, get, limits, ms, post, sleep};

const CLIENT: &str = "client";
const SERVER: &str = "server";

#[test]
fn an_upload_on_a_link_that_goes_dark_is_dead_in_time() {
    let ended = serve(limits().read_timeout(ms(1_000)), |mut send| async move {
        let upload = Drip::new(ms(100), 1_000).boxed();
        let asked = tokio::spawn(send.send_request(post("/upload", upload)));
        sleep(2_000).await;
        partition(CLIENT, SERVER);
        sleep(5_000).await;
        asked.abort();
    });
    assert_eq!((ended.reason(), ended.was_forced()), (Reason::Dead, true));
    assert_within(&ended, 2_800..=3_200);
}

#[test]
fn an_upload_on_a_link_that_is_late_goes_on() {
    let ended = serve(limits().read_timeout(ms(1_000)), |mut send| async move {
        let upload = Drip::new(ms(100), 30).boxed();
        let asked = tokio::spawn(send.send_request(post("/upload", upload)));
        for _ in 0..3 {
            sleep(200).await;
            hold(CLIENT, SERVER);
            sleep(600).await;
            release(CLIENT, SERVER);
        }
        let answer = asked.await.expect("no panic").expect("an answer");
        let body = answer.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), "30");
    });
    assert_eq!(ended.reason(), Reason::ClientClosed);
}

#[test]
fn an_idle_connection_on_a_dark_link_is_gone_when_grace_is_over() {
    let limits = limits().idle_timeout(ms(1_000)).grace(ms(500));
    let ended = serve(limits, |mut send| async move {
        let answer = send.send_request(get("/now")).await.expect("an answer");
        answer.into_body().collect().await.expect("a body");
        partition(CLIENT, SERVER);
        sleep(5_000).await;
    });
    assert_eq!((ended.reason(), ended.was_forced()), (Reason::Idle, true));
    assert_within(&ended, 1_500..=1_700);
}

#[test]
fn a_drain_on_a_dark_link_ends_by_grace() {
    let limits = limits().max_age(ms(1_000)).age_jitter(0).grace(ms(500));
    let ended = serve(limits, |mut send| async move {
        let asked = tokio::spawn(send.send_request(get("/slow/1200")));
        sleep(500).await;
        partition(CLIENT, SERVER);
        sleep(5_000).await;
        asked.abort();
    });
    assert_eq!((ended.reason(), ended.was_forced()), (Reason::Age, true));
    assert_within(&ended, 1_500..=1_510);
}

#[test]
fn a_client_behind_a_late_link_leaves_in_good_order() {
    let limits = limits().max_age(ms(1_000)).age_jitter(0).grace(ms(2_000));
    let ended = serve(limits, |mut send| async move {
        let asked = tokio::spawn(send.send_request(get("/slow/1200")));
        sleep(900).await;
        hold(CLIENT, SERVER);
        sleep(800).await;
        release(CLIENT, SERVER);
        let answer = asked.await.expect("no panic").expect("an answer");
        answer.into_body().collect().await.expect("a body");
        assert!(send.ready().await.is_err(), "it was told to leave");
    });
    assert_eq!((ended.reason(), ended.was_forced()), (Reason::Age, false));
}

#[track_caller]
fn assert_within(ended: &Ended, millis: std::ops::RangeInclusive<u64>) {
    let range = ms(*millis.start())..=ms(*millis.end());
    assert!(range.contains(&ended.age()), "{ended}");
}

/// How the one connection ended that a client used so.
fn serve<C, F>(limits: LimitsBuilder, client: C) -> Ended
where
    C: FnOnce(http2::SendRequest<Body>) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let ends = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&ends);
    let mut simulation = Builder::new()
        .rng_seed(7)
        .simulation_duration(Duration::from_secs(30))
        .build();
    simulation.host(SERVER, move || {
        let told = Arc::clone(&told);
        async move {
            let server = Server::new(limits);
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).await?;
            loop {
                let (socket, _) = listener.accept().await?;
                let served = server
                    .connections
                    .serve_connection(TokioIo::new(socket), server.service());
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let ended = served.await;
                    told.lock().expect("no panic").push(ended);
                });
            }
        }
    });
    simulation.client(CLIENT, async move {
        let socket = TcpStream::connect((SERVER, 80)).await?;
        let (send, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        let connection = tokio::spawn(connection);
        client(send).await;
        connection.abort();
        sleep(1_000).await;
        Ok(())
    });
    simulation.run().expect("the client is content");
    let mut ends = ends.lock().expect("no panic");
    assert_eq!(ends.len(), 1);
    ends.remove(0)
}
