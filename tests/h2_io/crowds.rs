//! One layer, many connections: some are never made, some are given up, some freeze.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::DuplexStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{Failure, Handle, Stage, h2_io::PingLayer};

use super::{
    attribution::{connection_of, connection_with_handle, end_of},
    server::{get, second, serve},
    support::peer::millis,
};

#[tokio::test(start_paused = true)]
async fn a_connectors_error_is_its_own_and_the_next_connection_is_pinged() {
    let handles = Arc::<Mutex<Vec<Handle>>>::default();
    let made = Arc::clone(&handles);
    let pings = PingLayer::new(second())
        .on_connect(move |handle| made.lock().expect("no panic").push(handle.clone()));
    let attempts = AtomicUsize::new(0);
    let mut connector = pings.layer(service_fn(move |()| {
        let attempt = attempts.fetch_add(1, Ordering::AcqRel);
        async move {
            match attempt {
                0..3 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                _ => Ok(serve().0),
            }
        }
    }));
    for _ in 0..3 {
        let error = connector.call(()).await.expect_err("it is refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
    assert!(handles.lock().expect("no panic").is_empty());
    connector.call(()).await.expect("a connection");
    assert_eq!(handles.lock().expect("no panic").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_many_connections_only_the_frozen_end_and_each_in_time() {
    let pings = PingLayer::new(second());
    let mut lines = Vec::new();
    for _ in 0..200 {
        let (send, handle, line) = connection_with_handle(&pings).await;
        lines.push((send, handle, line));
    }
    sleep(millis(5_000)).await;
    let began = Instant::now();
    for (_, _, line) in lines.iter().step_by(2) {
        line.send_replace(true);
    }
    for (_, handle, _) in lines.iter().step_by(2) {
        assert_eq!(handle.closed().await, Failure::PongTimeout);
    }
    assert!(began.elapsed() <= millis(1_001), "{:?}", began.elapsed());
    sleep(millis(5_000)).await;
    for (send, handle, _) in lines.iter_mut().skip(1).step_by(2) {
        assert_eq!(handle.failure(), None);
        send.send_request(get("0")).await.expect("an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn connects_and_calls_that_are_given_up_leave_nothing_behind() {
    let pings = PingLayer::new(second());
    let never = pings.layer(service_fn(|()| {
        pending::<Result<DuplexStream, Infallible>>()
    }));
    for _ in 0..20 {
        let connecting = timeout(millis(10), never.clone().oneshot(()));
        connecting.await.expect_err("it never connects");
    }
    // Nor do connections that were made for nobody.
    for _ in 0..20 {
        drop(connection_of(&pings).await);
    }

    let (send, handle, line) = connection_with_handle(&pings).await;
    let mut calls = JoinSet::new();
    for call in 0..50 {
        let mut send = send.clone();
        let given_up = millis(call);
        calls.spawn(async move { drop(timeout(given_up, send.send_request(get("never"))).await) });
    }
    calls.join_all().await;
    sleep(millis(10)).await;
    assert_eq!(handle.in_flight(), 0);

    // With more than one connection open it would explain nothing.
    let client = service_fn(move |request| {
        let mut send = send.clone();
        async move {
            drop(send.send_request(request).await);
            Err::<http::Response<hyper::body::Incoming>, BoxError>("canceled".into())
        }
    });
    line.send_replace(true);
    let end = end_of(&mut pings.attribution().layer(client), "0").await;
    assert_eq!(end, Some((Failure::PongTimeout, Stage::AwaitingResponse)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_its_client_gives_up_is_closed_and_no_longer_pinged() {
    let pings = PingLayer::new(second());
    let (send, handle, _line) = connection_with_handle(&pings).await;
    sleep(millis(5_000)).await;
    assert!(handle.pongs() > 0);
    drop(send);
    let end = timeout(millis(1), handle.closed()).await.expect("at once");
    assert_eq!(end, Failure::Closed);
    let before = handle.pings();
    sleep(millis(5_000)).await;
    assert_eq!(handle.pings(), before);
}
