//! The limits themselves.

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{
    body::Body,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::pb::HealthCheckRequest;
use tower_heartbeat::{
    Config,
    h2_io::PingIo,
    server::{
        Limits, Reason,
        tonic::{ConnectionInfo, Count, CountFuture, CountLayer, WatchedIncoming},
    },
};

use crate::support::{Site, begin, call, ms, sleep};

fn site() -> Site {
    Site::new(Limits::builder().idle_timeout(ms(300)).grace(ms(200)))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_anything_is_closed_at_the_idle_limit() {
    let mut site = site();
    let mut client = site.connect();
    site.end().await.is(Reason::Idle, false, 300);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("the end");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_called_is_closed_one_limit_after_its_last_call() {
    let mut site = site();
    let mut health = site.health();
    for _ in 0..3 {
        sleep(250).await;
        health
            .check(HealthCheckRequest::default())
            .await
            .expect("healthy");
    }
    site.end().await.is(Reason::Idle, false, 750 + 300);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_no_idle_connection() {
    let mut site = site();
    let mut channel = site.channel();
    let answer = call(&mut channel, "/test/slow/700").await;
    assert_eq!(answer.expect("an answer"), "slow");
    site.end().await.is(Reason::Idle, false, 700 + 300);
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_outlives_the_limit_and_its_connection_closes_one_limit_after_it_ends() {
    let mut site = site();
    let mut channel = site.channel();
    call(&mut channel, "/test/stream/5000")
        .await
        .expect("all parts");
    site.end().await.is(Reason::Idle, false, 5_000 + 300);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_outlives_the_limit_until_it_is_dropped() {
    let mut site = site();
    let mut health = site.health();
    let watch = health.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("a stream").into_inner();
    watch.message().await.expect("no error").expect("the first");
    sleep(10_000).await;
    assert!(!site.is_any_over());
    drop(watch);
    site.end().await.is(Reason::Idle, false, 10_000 + 300);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_the_client_is_in_flight_until_it_ends() {
    let mut site = site();
    let parts = futures_util::stream::unfold(0, |part| async move {
        sleep(1_000).await;
        let frame = Frame::data(Bytes::from_static(b"\0\0\0\0\0"));
        (part < 3).then_some((Ok::<_, std::convert::Infallible>(frame), part + 1))
    });
    let body = Body::new(StreamBody::new(Box::pin(parts)));
    let mut channel = site.channel();
    let answer = begin(&mut channel, "/test/upload", body)
        .await
        .expect("an answer");
    drop(answer);
    site.end().await.is(Reason::Idle, false, 4_000 + 300);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_no_call() {
    let mut site = site();
    let mut io = site.connect();
    // The preface, SETTINGS, and HEADERS without END_HEADERS.
    let sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82";
    io.write_all(sent).await.expect("room");
    // It does not answer the PING either.
    site.end().await.is(Reason::Idle, true, 500);
}

#[tokio::test(start_paused = true)]
async fn half_a_preface_is_cut_off_when_grace_is_over() {
    let mut site = site();
    let mut io = site.connect();
    // After the server's SETTINGS, which tonic sends at once.
    sleep(1).await;
    io.write_all(b"PRI * HTT").await.expect("room");
    site.end().await.is(Reason::Idle, true, 500);
}

#[tokio::test(start_paused = true)]
async fn half_a_request_line_is_cut_off_where_http1_is_spoken() {
    let limits = Limits::builder().idle_timeout(ms(300)).grace(ms(200));
    let mut site = Site::with(limits, Server::builder().accept_http1(true));
    let mut io = site.connect();
    io.write_all(b"POST /test/who HT").await.expect("room");
    site.end().await.is(Reason::Idle, true, 500);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_own_limit() {
    for begun in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut site = Site::new(Limits::builder().handshake_timeout(ms(100)));
        let mut io = site.connect();
        io.write_all(begun).await.expect("room");
        site.end().await.is(Reason::Handshake, true, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stops_is_dead() {
    let mut site = Site::new(Limits::builder().read_timeout(ms(300)));
    let parts = futures_util::stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>();
    let mut channel = site.channel();
    let body = Body::new(StreamBody::new(parts));
    let answer = begin(&mut channel, "/test/upload", body).await;
    answer.expect_err("cut off");
    site.end().await.is(Reason::Dead, true, 300);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_more_of_a_stream_is_stalled() {
    let mut site = Site::new(Limits::builder().write_timeout(ms(500)));
    let mut channel = site.channel();
    let response = begin(&mut channel, "/test/endless", Body::empty()).await;
    let response = response.expect("a head");
    site.end().await.is(Reason::Stalled, true, 500);
    let rest = response.into_body().collect().await;
    rest.expect_err("cut off");
}

/// Its handler works, so that nothing but a PING tells.
#[tokio::test(start_paused = true)]
async fn a_frozen_client_under_a_slow_handler_is_dead() {
    // tonic's own way closes it as well, and nobody is told why.
    let own = Server::builder()
        .http2_keepalive_interval(Some(ms(500)))
        .http2_keepalive_timeout(Some(ms(500)));
    let mut sites = [
        Site::over(Limits::builder(), Server::builder(), |socket| {
            PingIo::server(socket, Config::detect_within(ms(1_000)).expect("legal"))
        }),
        Site::with(Limits::builder(), own),
    ];
    for (site, reason) in sites.iter_mut().zip([Reason::Dead, Reason::ClientClosed]) {
        let begun = site.now();
        let mut io = site.connect();
        // The preface, SETTINGS, and a call of which the whole head is there.
        let head = b"\0\0\x17\x01\x05\0\0\0\x01\x82\x86\x41\x01a\x04\x10/test/slow/99999";
        let sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        io.write_all(&[&sent[..], head].concat())
            .await
            .expect("room");
        let end = site.end().await;
        assert_eq!((end.ended.reason(), end.ended.requests()), (reason, 1));
        assert!(end.at - begun <= ms(1_000), "{end:?}");
    }
}

#[test]
fn all_public_types_have_debug_and_may_go_to_other_threads() {
    fn is<T: std::fmt::Debug + Send + Sync + Unpin>() {}
    is::<ConnectionInfo>();
    is::<Count<()>>();
    is::<CountFuture<std::future::Ready<()>>>();
    is::<CountLayer>();
    is::<WatchedIncoming<TcpIncoming>>();
}
