//! What a handle is told to do, below hyper's client.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, service_fn};
use tower_heartbeat::{Error, Failure, PingWhen, Stage, State, h2_io::PingLayer};

use super::{
    attribution::connection_with_handle,
    server::{connected, get, second},
    support::peer::millis,
};

/// A poll of all that was woken, and no timer.
const AT_ONCE: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_ends_at_once_idle_and_under_calls() {
    for calls in [0, 1, 64] {
        let pings = PingLayer::new(second());
        let (send, handle, _line) = connection_with_handle(&pings).await;
        let own = send.clone();
        let client = service_fn(move |request| {
            let mut send = own.clone();
            async move { send.send_request(request).await }
        });
        let client = pings.attribution().layer(client);
        let mut waiting = JoinSet::new();
        for _ in 0..calls {
            let mut client = client.clone();
            waiting.spawn(async move { client.call(get("never")).await });
        }
        sleep(millis(5_000)).await;
        assert_eq!(handle.state(), State::Alive);

        handle.close();
        while let Some(call) = timeout(AT_ONCE, waiting.join_next())
            .await
            .expect("at once")
        {
            let error = call.expect("no panic").expect_err("it is closed");
            let Error::Heartbeat(end) = error else {
                panic!("{error:?}");
            };
            let told = (end.failure(), end.stage());
            assert_eq!(told, (Failure::Closed, Stage::AwaitingResponse));
        }
        sleep(AT_ONCE).await;
        assert!(send.is_closed(), "beside {calls} calls");
        assert_eq!(handle.failure(), Some(Failure::Closed));
    }
}

#[tokio::test(start_paused = true)]
async fn pings_on_demand_are_answered_beside_traffic_and_idle() {
    for tasks in [0, 16] {
        let (send, handle, _line) = connected(second()).await;
        let mut traffic = JoinSet::new();
        for _ in 0..tasks {
            let mut send = send.clone();
            traffic.spawn(async move {
                loop {
                    send.send_request(get("1")).await.expect("an answer");
                }
            });
        }
        let mut asking = JoinSet::new();
        for task in 0..16 {
            let handle = handle.clone();
            asking.spawn(async move {
                for _ in 0..50 {
                    // Some give up while theirs is on its way.
                    if task % 2 == 0 {
                        drop(timeout(Duration::ZERO, handle.ping_now()).await);
                    }
                    handle.ping_now().await.expect("a pong");
                }
            });
        }
        let all = timeout(millis(20_000), asking.join_all());
        all.await.expect("each has its pong");
        assert!(handle.pings() >= 50, "{}", handle.pings());
        assert_eq!((handle.state(), handle.failure()), (State::Alive, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_on_demand_finds_out_that_a_peer_is_frozen_though_none_is_due() {
    let config = tower_heartbeat::Config::builder()
        .detect_within(millis(1_000))
        .ping_when(PingWhen::WhileBusy)
        .build()
        .expect("legal settings");
    let (mut send, handle, line) = connected(config).await;
    send.send_request(get("0")).await.expect("an answer");
    line.send_replace(true);
    sleep(millis(60_000)).await;
    assert_eq!(handle.state(), State::Alive, "nobody asked");
    let began = Instant::now();
    let error = handle.ping_now().await.expect_err("it is frozen");
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert!(began.elapsed() <= millis(1_001), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_closed_says_so_to_who_asks_for_a_ping() {
    let (_send, handle, _line) = connected(second()).await;
    let asking = tokio::spawn({
        let handle = handle.clone();
        async move { handle.ping_now().await }
    });
    handle.close();
    let answers = [asking.await.expect("no panic"), handle.ping_now().await];
    for answer in answers {
        assert_eq!(answer.expect_err("closed").failure(), Failure::Closed);
    }
}
