//! HTTP/2 connections as endpoints of a balancer.

use std::{future::poll_fn, io, pin::Pin, sync::Arc, sync::Mutex};

use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tokio::time::sleep;
use tower::{Service, ServiceExt, discover::Change, service_fn};
use tower_heartbeat::{Failure, HeartbeatLayer, State, balance::Endpoints, hyper::http2::Connect};

use super::support::{
    client::{RequestBody, all, get, head_pings},
    line::Line,
    secs,
    server::Server,
    within_a_second,
};

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_told_to_leave_is_replaced_at_once_and_finishes_its_calls() {
    let servers = Arc::new(Mutex::new(Vec::new()));
    let connector = service_fn({
        let servers = Arc::clone(&servers);
        move |()| {
            let (line, near, far) = Line::new();
            servers.lock().unwrap().push((line, Server::start(far)));
            std::future::ready(Ok::<_, io::Error>(TokioIo::new(near)))
        }
    });
    let heartbeat = HeartbeatLayer::new(within_a_second(), head_pings());
    let make = Connect::<_, _, RequestBody>::new(connector, heartbeat);
    let mut endpoints = Endpoints::fixed(make, [("there", ())]);

    let Some(Ok(Change::Insert("there", mut first))) = next(&mut endpoints).await else {
        panic!("it is offered");
    };
    let slow = tokio::spawn(first.ready().await.unwrap().call(get("/slow?5")));
    sleep(secs(1)).await;
    servers.lock().unwrap()[0].1.leave();
    assert!(matches!(
        next(&mut endpoints).await,
        Some(Ok(Change::Remove("there")))
    ));
    assert_eq!(first.handle().state(), State::Closing);
    let handle = first.handle();
    drop(first);
    let Some(Ok(Change::Insert("there", mut second))) = next(&mut endpoints).await else {
        panic!("it is offered again");
    };
    assert!(!slow.is_finished());
    let response = second.ready().await.unwrap().call(get("/hello")).await;
    assert_eq!(all(response.unwrap().into_body()).await.unwrap(), "hello");

    let response = slow.await.unwrap().unwrap();
    assert_eq!(all(response.into_body()).await.unwrap(), "at last");
    assert_eq!(handle.closed().await, Failure::Transport);
}

async fn next<E>(endpoints: &mut E) -> Option<E::Item>
where
    E: Stream + Unpin,
{
    poll_fn(|cx| Pin::new(&mut *endpoints).poll_next(cx)).await
}
