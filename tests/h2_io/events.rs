//! What happens to connections, told by the layer.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use hyper_util::rt::TokioIo;
use tower::{Layer, ServiceExt, service_fn};
use tower_heartbeat::{Event, Failure, h2_io::PingLayer};

use super::server::{get, second, serve, shake_hands};

#[tokio::test(start_paused = true)]
async fn a_layer_tells_of_each_ping_and_of_the_end() {
    let log = Arc::<Mutex<Vec<String>>>::default();
    let told = Arc::clone(&log);
    let pings = PingLayer::new(second()).on_event(move |handle, event| {
        let line = match event {
            Event::Connected => "connected".into(),
            Event::Ping => "ping".into(),
            Event::Pong { .. } => "pong".into(),
            Event::Missed { missed, .. } => format!("missed {missed}"),
            Event::Suspect => "suspect".into(),
            Event::Dead(end) => {
                assert_eq!(handle.failure(), Some(end.failure()));
                format!("dead: {:?}", end.failure())
            }
            other => format!("{other:?}"),
        };
        told.lock().expect("no panic").push(line);
    });
    let (near, frozen) = serve();
    let mut near = Some(near);
    let connector = pings.layer(service_fn(move |()| {
        let near = near.take().expect("once");
        async move { Ok::<_, Infallible>(near) }
    }));
    let io = connector.oneshot(()).await.expect("a connection");
    let handle = io.handle();
    let mut send = shake_hands(TokioIo::new(io)).await;
    send.send_request(get("600")).await.expect("it is slow");
    frozen.send_replace(true);
    assert_eq!(handle.closed().await, Failure::PongTimeout);
    let log = log.lock().expect("no panic").clone();
    let expected = [
        "connected",
        "ping",
        "pong",
        "ping",
        "missed 1",
        "suspect",
        "missed 2",
        "missed 3",
        "dead: PongTimeout",
    ];
    assert_eq!(log, expected);
}
