//! A panic in what a user gave to one connection touches no other connection of its layer.

use std::{
    io::{self, Write},
    sync::Arc,
    task::{Context, Wake, Waker},
};

use tokio::time::sleep;
use tower::Service;
use tower_heartbeat::{Failure, State};

use crate::support::{Mood, Request, Watched, classic, in_time, layer, ms, settle};

#[tokio::test(start_paused = true)]
async fn a_ping_that_panics_fails_its_own_connection_only() {
    for mood in [
        Mood::PanicsInReady,
        Mood::PanicsInCall,
        Mood::PanicsInPong,
        Mood::Fails,
    ] {
        let connections = neighbours();
        connections[1].peer.be(mood);
        let (_, failure) = connections[1].death().await;
        assert_eq!(failure, Failure::PingFailed, "{mood:?}");
        assert_others_are_watched(&connections).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_whose_drop_panics_touches_its_own_connection_only() {
    // When the connection dies with the ping out.
    let connections = neighbours();
    connections[1].peer.be(Mood::PanicsInDrop);
    connections[1].death().await;
    sleep(ms(10)).await;
    assert_others_are_watched(&connections).await;

    // When its user leaves with the ping out.
    let mut connections = neighbours();
    connections[1].peer.be(Mood::PanicsInDrop);
    while connections[1].handle.pings() == 0 {
        sleep(ms(1)).await;
    }
    drop(connections.remove(1));
    sleep(ms(10)).await;
    connections.insert(1, Watched::under(&layer(classic())));
    assert_others_are_watched(&connections).await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_touches_its_own_connection_only() {
    for close in [false, true] {
        let connections = neighbours();
        connections[1].handle.on_end(|_| panic!("a hook"));
        connections[1].peer.be(Mood::Frozen);
        let call = connections[1].call();
        settle().await;
        if close {
            connections[1].handle.close();
        }
        let error = in_time(call).await.unwrap().expect_err("ended");
        assert!(error.heartbeat().is_some(), "whoever waits is told");
        assert_others_are_watched(&connections).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_touches_its_own_connection_only() {
    // Woken by the verdict: a call in flight.
    let connections = neighbours();
    connections[1].peer.be(Mood::Frozen);
    let mut service = connections[1].service.clone();
    let mut call = service.call(Request::Work);
    assert!(poll_with_panicking_waker(&mut call));
    while connections[1].handle.failure().is_none() {
        sleep(ms(10)).await;
    }
    assert_eq!(connections[1].handle.state(), State::Dead);
    assert_others_are_watched(&connections).await;

    // Woken by the verdict: somebody who waits on a handle.
    let connections = neighbours();
    connections[1].peer.be(Mood::Frozen);
    let mut closed = Box::pin(connections[1].handle.closed());
    assert!(poll_with_panicking_waker(&mut closed));
    while connections[1].handle.failure().is_none() {
        sleep(ms(10)).await;
    }
    assert_others_are_watched(&connections).await;

    // Woken by a pong.
    let connections = neighbours();
    let mut asked = Box::pin(connections[1].handle.ping_now());
    assert!(poll_with_panicking_waker(&mut asked));
    sleep(ms(10)).await;
    assert_others_are_watched(&connections).await;
}

/// Of one layer; the second is about to be in trouble.
fn neighbours() -> Vec<Watched> {
    Watched::many(&layer(classic()), 3)
}

async fn assert_others_are_watched(connections: &[Watched]) {
    connections[0].assert_watched().await;
    connections[2].assert_watched().await;
}

/// Returns whether `future` is pending, with a waker that panics.
fn poll_with_panicking_waker<F>(future: &mut F) -> bool
where
    F: Future + Unpin,
{
    let waker = Waker::from(Arc::new(PanickingWaker));
    let mut cx = Context::from_waker(&waker);
    std::pin::Pin::new(future).poll(&mut cx).is_pending()
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        // A second panic would abort the process and tell nothing.
        assert!(std::thread::panicking(), "a waker");
        let _ = writeln!(io::stderr(), "a waker, while panicking");
    }
}
