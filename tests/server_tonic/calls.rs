//! What calls know of their connection, and how they fare when it leaves.

use tonic::{Code, transport::Channel};
use tower_heartbeat::server::{Limits, Reason};

use crate::support::{CLIENT, Site, call, ms, sleep};

#[tokio::test(start_paused = true)]
async fn calls_know_the_address_and_the_connection() {
    let site = Site::new(Limits::builder().idle_timeout(ms(300)));
    let answer = call(&mut site.channel(), "/test/who")
        .await
        .expect("an answer");
    assert_eq!(answer, format!("Some({CLIENT}), 1 in flight"));
    sleep(10).await;
    let handle = site.handles().pop().expect("one");
    assert_eq!((handle.in_flight(), handle.idle_for()), (0, ms(10)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_calling_is_moved_with_no_failed_call() {
    let limits = Limits::builder().max_age(ms(1_000)).grace(ms(500));
    let mut site = Site::new(limits);
    let mut callers = Vec::new();
    let channel = site.channel();
    // Eight at a time, so that some are in flight whenever the connection leaves.
    for caller in 0..8 {
        let mut channel = channel.clone();
        callers.push(tokio::spawn(async move {
            for _ in 0..CALLS {
                sleep(caller).await;
                call_until_sent(&mut channel, "/test/slow/33").await;
            }
        }));
    }
    for caller in callers {
        caller.await.expect("no call failed");
    }
    let count = site.handles().len();
    assert!(count >= 9, "{count} connections in {:?}", site.now());
    drop(channel);
    let mut requests = 0;
    for left in (0..count).rev() {
        let end = site.end().await;
        if left > 0 {
            assert_eq!(end.ended.reason(), Reason::Age);
        }
        assert!(!end.ended.was_forced(), "{end:?}");
        requests += end.ended.requests();
    }
    assert_eq!(requests, 8 * CALLS, "none was begun twice");
}

const CALLS: u64 = 300;

/// A call that tonic's channel takes as the GOAWAY comes in it cancels, and never sends.
async fn call_until_sent(channel: &mut Channel, path: &str) {
    loop {
        match call(channel, path).await {
            Ok(_) => return,
            Err(status) if status.code() == Code::Cancelled => {}
            Err(status) => panic!("{status:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_as_the_drain_begins_is_answered_or_never_begun() {
    for delay in 290..=310 {
        let limits = Limits::builder().idle_timeout(ms(300)).grace(ms(200));
        let mut site = Site::new(limits);
        let mut channel = site.channel();
        call(&mut channel, "/test/who").await.expect("an answer");
        sleep(delay).await;
        // Here, or on the next one.
        call_until_sent(&mut channel, "/test/slow/50").await;
        let mut requests = 0;
        for _ in site.handles() {
            let end = site.end().await;
            assert_eq!(end.ended.reason(), Reason::Idle);
            assert!(!end.ended.was_forced(), "{delay} ms: {end:?}");
            requests += end.ended.requests();
        }
        assert_eq!(requests, 2, "{delay} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_streams_until_grace() {
    let mut site = Site::new(Limits::builder().grace(ms(500)));
    let mut short = site.channel();
    let mut long = site.channel();
    let short = tokio::spawn(async move { call(&mut short, "/test/stream/300").await });
    let long = tokio::spawn(async move { call(&mut long, "/test/stream/9000").await });
    sleep(100).await;
    site.connections.shutdown().await;
    assert_eq!(site.now(), ms(600));
    site.end().await.is(Reason::Shutdown, false, 300);
    site.end().await.is(Reason::Shutdown, true, 600);
    short.await.expect("no panic").expect("all parts");
    long.await.expect("no panic").expect_err("cut off");
}
