//! The contract of a tower service, as a caller of `Heartbeat` sees it: readiness, errors, the
//! count of requests in flight, wake-ups, and the order of things at the end.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    future::{Pending, Ready, pending, poll_fn, ready},
    hint,
    marker::{PhantomData, PhantomPinned},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit};
use tower_heartbeat::{
    BoxError, CompleteOnResponse, Config, ConfigBuilder, Detector, Driver, Error, Event, Failure,
    Handle, Heartbeat, HeartbeatError, HeartbeatLayer, InFlight, PingWhen, ResponseFuture, Stage,
    State, TrackCompletion, ping,
};
use tower_test::mock::{self, SendResponse, Spawn};

type Mock = mock::Mock<&'static str, &'static str>;
type Peer = mock::Handle<&'static str, &'static str>;

// ---- readiness is passed on ----

#[tokio::test]
async fn it_is_ready_when_the_inner_service_is() {
    let (service, mut peer) = unwatched();
    let mut service = Spawn::new(service);
    peer.allow(0);

    assert_pending!(service.poll_ready());
    assert!(!service.is_woken());

    peer.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
}

#[tokio::test]
async fn it_answers_ready_as_often_as_it_is_asked() {
    let (service, mut peer) = unwatched();
    let mut service = Spawn::new(service);
    for _ in 0..3 {
        assert_ready_ok!(service.poll_ready());
    }
    let mut response = task::spawn(service.call("hello"));
    assert_pending!(response.poll());
    peer.expect("hello").send_response("world");
    assert!(response.is_woken());
    assert_eq!(assert_ready_ok!(response.poll()), "world");
}

#[tokio::test]
async fn the_readiness_of_one_instance_is_not_that_of_its_clone() {
    let (service, mut peer) = limited(1);
    let mut first = Spawn::new(service);
    assert_ready_ok!(first.poll_ready());

    let mut second = Spawn::new(first.get_ref().clone());
    assert_pending!(second.poll_ready());

    let response = first.call("hello");
    let _hello = peer.expect("hello");
    drop(response);
    assert!(second.is_woken());
    assert_ready_ok!(second.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn traffic_and_pings_call_only_instances_that_were_told_ready() {
    let (strict, misuses) = Strict::new();
    let sources = [
        HeartbeatLayer::new(
            config().ping_when(PingWhen::Always).build().unwrap(),
            ping::request(|| ()),
        )
        .layer(strict.clone()),
        HeartbeatLayer::new(
            config().ping_when(PingWhen::Always).build().unwrap(),
            ping::with_service::<(), _, _, _, _>(|mut service: Strict| async move {
                service.call(()).await?;
                service.ready().await?.call(()).await
            }),
        )
        .layer(strict),
    ];
    for service in sources {
        let handle = service.handle();
        for _ in 0..20 {
            let mut clone = service.clone();
            clone.ready().await.unwrap().call(()).await.unwrap();
            pass(INTERVAL).await;
        }
        assert!(handle.pongs() >= 19, "{} pongs", handle.pongs());
        assert_eq!(handle.failure(), None);
    }
    assert_eq!(misuses.load(Ordering::Relaxed), 0);
}

// ---- readiness is never stolen ----

#[tokio::test(start_paused = true)]
async fn a_ping_waits_for_a_readiness_of_its_own() {
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let service = pinged().layer(ConcurrencyLimit::new(inner, 1));
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());

    pass(INTERVAL + MILLISECOND).await;
    assert_eq!(handle.pings(), 0, "the only permit is the caller's");
    assert_ready_ok!(service.poll_ready());

    let mut response = task::spawn(service.call("hello"));
    peer.expect("hello").send_response("world");
    assert_eq!(assert_ready_ok!(response.poll()), "world");
}

#[tokio::test(start_paused = true)]
async fn an_instance_told_ready_stays_ready_while_a_ping_goes_out_and_comes_back() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    peer.allow(2);
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());

    pass(INTERVAL + MILLISECOND).await;
    assert_eq!(handle.pings(), 1);
    assert_ready_ok!(service.poll_ready());
    peer.expect("ping").send_response("pong");
    pass(MILLISECOND).await;
    assert_eq!(handle.pongs(), 1);
    assert_ready_ok!(service.poll_ready());

    let mut response = task::spawn(service.call("hello"));
    peer.expect("hello").send_response("world");
    assert_eq!(assert_ready_ok!(response.poll()), "world");
}

#[tokio::test(start_paused = true)]
async fn an_instance_told_ready_stays_ready_on_a_suspect_connection_until_its_call() {
    let (service, mut peer) = watched(config().suspect_after(SUSPECT_AFTER));
    let handle = service.handle();
    let mut told = Spawn::new(service);
    assert_ready_ok!(told.poll_ready());
    let mut other = Spawn::new(told.get_ref().clone());

    pass(SUSPECT_AFTER + MILLISECOND).await;
    assert_eq!(handle.state(), State::Suspect);
    assert!(!told.get_ref().is_alive());
    assert_pending!(other.poll_ready());
    assert_ready_ok!(told.poll_ready());
    assert_ready_ok!(told.poll_ready());

    let mut clone = Spawn::new(told.get_ref().clone());
    assert_pending!(clone.poll_ready());

    let _ping = peer.expect("ping");
    let response = task::spawn(told.call("hello"));
    let _hello = peer.expect("hello");
    assert_pending!(told.poll_ready());
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn an_instance_told_ready_stays_ready_on_an_unverified_connection() {
    let (service, mut peer) = watched(config().verify_after_idle(VERIFY_AFTER));
    let mut told = Spawn::new(service);
    assert_ready_ok!(told.poll_ready());
    let mut other = Spawn::new(told.get_ref().clone());

    pass(VERIFY_AFTER + MILLISECOND).await;
    assert_pending!(other.poll_ready());
    assert_ready_ok!(told.poll_ready());
    let response = task::spawn(told.call("hello"));
    let _hello = peer.expect("hello");
    assert_pending!(told.poll_ready());
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn a_ping_of_a_request_gives_its_permit_back_when_called_off() {
    a_ping_called_off_gives_its_permit_back(ping::request(|| "ping")).await;
}

#[tokio::test(start_paused = true)]
async fn a_ping_of_a_closure_gives_its_permit_back_when_called_off() {
    a_ping_called_off_gives_its_permit_back(ping::with_service(
        |mut service: ConcurrencyLimit<Mock>| async move { service.call("ping").await.map(drop) },
    ))
    .await;
}

async fn a_ping_called_off_gives_its_permit_back<P>(source: P)
where
    P: ping::PingSource<ConcurrencyLimit<Mock>>,
    P::Ping: Send + 'static,
    <P::Ping as ping::Ping>::Pong: Send,
{
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let service = HeartbeatLayer::new(config().build().unwrap(), source)
        .layer(ConcurrencyLimit::new(inner, 2));
    let handle = service.handle();
    let mut first = Spawn::new(service.clone());
    assert_ready_ok!(first.poll_ready());
    let mut response = task::spawn(first.call("hello"));
    let reply = peer.expect("hello");

    // The ping takes the second permit, then waits for the peer; the answer calls it off.
    peer.allow(0);
    pass(INTERVAL + MILLISECOND).await;
    let clone = service.clone();
    let mut second = Spawn::new(service);
    assert_pending!(second.poll_ready());
    reply.send_response("world");
    assert_eq!(assert_ready_ok!(response.poll()), "world");
    drop(response);
    assert!(second.is_woken(), "by the permit of the request");
    drop(second);
    pass(TICK).await;
    assert_eq!((handle.pings(), handle.failure()), (0, None));

    peer.allow(2);
    let mut both = [first, Spawn::new(clone)];
    for service in &mut both {
        assert_ready_ok!(service.poll_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_answered_gives_its_permit_back() {
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let service = pinged().layer(ConcurrencyLimit::new(inner, 1));
    let mut service = Spawn::new(service);
    pass(INTERVAL + MILLISECOND).await;
    assert_pending!(service.poll_ready());

    peer.expect("ping").send_response("pong");
    pass(MILLISECOND).await;
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_gives_the_permit_of_its_ping_back() {
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let inner = ConcurrencyLimit::new(inner, 1);
    let mut bare = Spawn::new(inner.clone());
    let service = pinged().layer(inner);
    let handle = service.handle();
    pass(INTERVAL + MILLISECOND).await;
    let _ping = peer.expect("ping");
    assert_pending!(bare.poll_ready());

    handle.close();
    pass(MILLISECOND).await;
    assert!(bare.is_woken());
    assert_ready_ok!(bare.poll_ready());
}

// ---- inner errors come out as they are ----

#[tokio::test]
async fn an_inner_error_of_a_call_comes_out_unboxed() {
    let mut service = HeartbeatLayer::new(Config::default(), ping::none()).layer(
        tower::service_fn(|request: u32| ready(Err::<(), _>(Refused(request)))),
    );
    let error = service.ready().await.unwrap().call(7).await.unwrap_err();
    assert!(matches!(error, Error::Inner(Refused(7))), "{error:?}");
    assert_eq!(service.handle().failure(), None);
}

#[tokio::test]
async fn an_inner_error_of_poll_ready_comes_out_unboxed() {
    let (inner, script) = Scripted::new();
    let mut service = Spawn::new(HeartbeatLayer::new(Config::default(), ping::none()).layer(inner));
    script.then(|_| Poll::Ready(Err(Refused(3))));
    let error = assert_ready_err!(service.poll_ready::<()>());
    assert!(matches!(error, Error::Inner(Refused(3))), "{error:?}");
    assert_eq!(service.get_ref().handle().failure(), None);
}

#[tokio::test]
async fn the_errors_of_the_mock_are_the_errors_of_the_call() {
    let (service, mut peer) = unwatched();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    assert_pending!(response.poll());
    peer.expect("hello").send_error(Refused(1));
    let error: BoxError = assert_ready_err!(response.poll()).into();
    assert_eq!(error.downcast_ref(), Some(&Refused(1)));

    peer.send_error(Refused(2));
    let error: BoxError = assert_ready_err!(service.poll_ready()).into();
    assert_eq!(error.downcast_ref(), Some(&Refused(2)));
}

#[tokio::test]
async fn an_inner_error_of_a_call_after_the_end_is_reported_as_the_end() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    let reply = peer.expect("hello");

    reply.send_error(Refused(1));
    handle.close();
    let error = assert_ready_err!(response.poll());
    assert_eq!(told(&error), (Failure::Closed, Stage::AwaitingResponse));
}

#[tokio::test]
async fn an_inner_error_that_the_end_hook_provokes_is_reported_as_the_end() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    let reply = peer.expect("hello");
    handle.on_end(move |_| reply.send_error(Refused(1)));
    assert_pending!(response.poll());

    handle.close();
    assert!(response.is_woken());
    let error = assert_ready_err!(response.poll());
    assert_eq!(told(&error), (Failure::Closed, Stage::AwaitingResponse));
}

#[tokio::test]
async fn an_end_while_the_inner_service_is_polled_explains_its_error() {
    let (inner, script) = Scripted::new();
    let service = HeartbeatLayer::new(Config::default(), ping::none()).layer(inner);
    let handle = service.handle();
    let mut service = Spawn::new(service);
    script.then(move |_| {
        handle.close();
        Poll::Ready(Err(Refused(1)))
    });
    let error = assert_ready_err!(service.poll_ready::<()>());
    assert_eq!(told(&error), (Failure::Closed, Stage::NotSent));
}

#[tokio::test]
async fn an_end_while_the_inner_service_is_polled_leaves_nobody_waiting() {
    let (inner, script) = Scripted::new();
    let service = HeartbeatLayer::new(Config::default(), ping::none()).layer(inner);
    let handle = service.handle();
    let mut service = Spawn::new(service);
    script.then(move |_| {
        handle.close();
        Poll::Pending
    });
    let polled = service.poll_ready::<()>();
    assert!(
        polled.is_ready() || service.is_woken(),
        "nobody would poll again"
    );
    let error = assert_ready_err!(service.poll_ready::<()>());
    assert_eq!(told(&error), (Failure::Closed, Stage::NotSent));
}

#[tokio::test]
async fn an_end_while_the_inner_future_is_polled_leaves_nobody_waiting() {
    let slot: Arc<Mutex<Option<Handle>>> = Arc::default();
    let closer = Arc::clone(&slot);
    let mut service =
        HeartbeatLayer::new(Config::default(), ping::none()).layer(tower::service_fn(move |()| {
            let closer = Arc::clone(&closer);
            poll_fn(move |_| {
                closer.lock().unwrap().as_ref().unwrap().close();
                Poll::<Result<(), Refused>>::Pending
            })
        }));
    *slot.lock().unwrap() = Some(service.handle());
    let mut response = task::spawn(service.ready().await.unwrap().call(()));
    let error = assert_ready_err!(response.poll());
    assert_eq!(told(&error), (Failure::Closed, Stage::AwaitingResponse));
}

// ---- requests in flight ----

#[tokio::test]
async fn a_request_is_in_flight_from_its_call_to_its_response() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    assert_eq!(handle.in_flight(), 0);

    let mut response = task::spawn(service.call("hello"));
    assert_eq!(handle.in_flight(), 1);
    assert_pending!(response.poll());
    assert_eq!(handle.in_flight(), 1);
    peer.expect("hello").send_response("world");
    assert_eq!(handle.in_flight(), 1);
    assert_ready_ok!(response.poll());
    assert_eq!(handle.in_flight(), 0);

    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    peer.expect("hello").send_error(Refused(1));
    assert_eq!(handle.in_flight(), 1);
    assert_ready_err!(response.poll());
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test]
async fn a_dropped_response_future_is_no_longer_in_flight() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);

    assert_ready_ok!(service.poll_ready());
    let never_polled = service.call("hello");
    assert_eq!(handle.in_flight(), 1);
    drop(never_polled);
    assert_eq!(handle.in_flight(), 0);

    assert_ready_ok!(service.poll_ready());
    let mut polled = task::spawn(service.call("hello"));
    assert_pending!(polled.poll());
    assert_eq!(handle.in_flight(), 1);
    drop(polled);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test]
async fn requests_of_all_clones_and_threads_count_together() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut responses: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let mut clone = Spawn::new(service.clone());
                scope.spawn(move || {
                    assert_ready_ok!(clone.poll_ready());
                    clone.call("hello")
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(handle.in_flight(), 8);

    let others = responses.split_off(4);
    thread::scope(|scope| {
        scope.spawn(|| drop(others));
    });
    assert_eq!(handle.in_flight(), 4);

    drop(service);
    assert_eq!(handle.in_flight(), 4, "they outlive their service");
    drop(responses);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test]
async fn a_request_that_fails_with_its_connection_is_no_longer_in_flight() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    assert_pending!(response.poll());
    handle.close();
    assert_ready_err!(response.poll());
    assert_eq!(handle.in_flight(), 0);

    let refused = service.call("again");
    assert_eq!(handle.in_flight(), 0, "it never went out");
    drop(refused);
}

#[tokio::test(start_paused = true)]
async fn pings_are_not_in_flight() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    pass(INTERVAL + MILLISECOND).await;
    let _ping = peer.expect("ping");
    assert_eq!((handle.pings(), handle.in_flight()), (1, 0));
}

#[tokio::test]
async fn a_response_may_keep_its_request_in_flight() {
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let service = HeartbeatLayer::new(Config::default(), ping::none())
        .completion(CompleteOnDrop)
        .layer(inner);
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    peer.expect("hello").send_response("world");
    let mut body = task::spawn(assert_ready_ok!(response.poll()));
    drop(response);
    assert_eq!(handle.in_flight(), 1);

    body.enter(|cx, mut in_flight| assert_pending!(in_flight.poll_ended(cx, Stage::Streaming)));
    assert!(body.ended(Stage::Streaming).is_none());
    handle.close();
    assert!(body.is_woken());
    let error =
        body.enter(|cx, mut in_flight| assert_ready!(in_flight.poll_ended(cx, Stage::Streaming)));
    assert_eq!(
        (error.failure(), error.stage()),
        (Failure::Closed, Stage::Streaming)
    );
    assert!(body.ended(Stage::Streaming).is_some());
    drop(body);
    assert_eq!(handle.in_flight(), 0);
}

// ---- wake-ups ----

#[tokio::test]
async fn a_pending_response_is_woken_by_the_end() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    assert_pending!(response.poll());
    assert!(!response.is_woken());

    handle.close();
    assert!(response.is_woken());
    let error = assert_ready_err!(response.poll());
    assert_eq!(told(&error), (Failure::Closed, Stage::AwaitingResponse));
}

#[tokio::test(start_paused = true)]
async fn a_pending_response_is_woken_by_the_verdict_on_a_silent_peer() {
    let (service, mut peer) = watched(config());
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    assert_pending!(response.poll());
    pass(VERDICT - MILLISECOND).await;
    assert!(!response.is_woken());
    pass(MILLISECOND * 2).await;
    assert!(response.is_woken());
    let error = assert_ready_err!(response.poll());
    assert_eq!(
        told(&error),
        (Failure::PongTimeout, Stage::AwaitingResponse)
    );
    let _hello = peer.expect("hello");
    let _ping = peer.expect("ping");
}

#[tokio::test]
async fn every_pending_response_is_woken_by_the_end_whatever_thread_it_came_from() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut responses: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let mut clone = Spawn::new(service.clone());
                scope.spawn(move || -> Vec<_> {
                    let call = |_| {
                        assert_ready_ok!(clone.poll_ready());
                        clone.call("hello")
                    };
                    (0..100).map(call).collect()
                })
            })
            .collect();
        let responses = threads.into_iter().flat_map(|t| t.join().unwrap());
        responses.map(task::spawn).collect()
    });
    for response in &mut responses {
        assert_pending!(response.poll());
    }
    let mut outlives_the_service = responses.split_off(400);

    handle.close();
    for response in &mut responses {
        assert!(response.is_woken());
        assert_ready_err!(response.poll());
    }
    drop(service);
    for response in &mut outlives_the_service {
        assert!(response.is_woken());
        assert_ready_err!(response.poll());
    }
}

#[tokio::test]
async fn a_response_that_outlives_its_service_is_woken_by_the_end() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    let mut responses: Vec<_> = ["first", "second"]
        .map(|request| {
            assert_ready_ok!(service.poll_ready());
            task::spawn(service.call(request))
        })
        .into();
    for response in &mut responses {
        assert_pending!(response.poll());
    }
    drop(service);
    assert_eq!(handle.failure(), None);

    peer.expect("first").send_response("answer");
    assert_eq!(assert_ready_ok!(responses.remove(0).poll()), "answer");
    handle.close();
    let mut second = responses.remove(0);
    assert!(second.is_woken());
    let error = assert_ready_err!(second.poll());
    assert_eq!(told(&error), (Failure::Closed, Stage::AwaitingResponse));
}

#[test]
fn a_response_is_woken_by_an_end_at_the_moment_the_last_service_goes() {
    let runtime = idle_runtime();
    let _entered = runtime.enter();
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| calling()).collect();
    for (_, response) in &mut rounds {
        assert_pending!(response.poll());
    }
    let handles: Vec<_> = rounds.iter().map(|(service, _)| service.handle()).collect();
    let (mut services, responses): (Vec<_>, Vec<_>) = rounds
        .into_iter()
        .map(|(service, response)| (Some(service), response))
        .unzip();
    race(
        |round| drop(services[round].take()),
        |round| handles[round].close(),
    );
    for mut response in responses {
        assert!(response.is_woken());
        assert_ready_err!(response.poll());
    }
}

#[test]
fn a_response_first_polled_at_the_moment_of_the_end_is_woken_or_answered() {
    let runtime = idle_runtime();
    let _entered = runtime.enter();
    let (services, mut responses): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| calling()).unzip();
    let mut answered = vec![false; ROUNDS];
    race(
        |round| answered[round] = responses[round].poll().is_ready(),
        |round| services[round].handle().close(),
    );
    for (mut response, answered) in responses.into_iter().zip(answered) {
        if !answered {
            assert!(response.is_woken());
            assert_ready_err!(response.poll());
        }
    }
}

#[test]
fn a_service_polled_at_the_moment_of_the_end_is_woken_or_answered() {
    let runtime = idle_runtime();
    let _entered = runtime.enter();
    let (mut services, handles): (Vec<_>, Vec<_>) = (0..ROUNDS)
        .map(|_| {
            let (service, mut peer) = unwatched();
            peer.allow(0);
            // The peer stays, or its mock would wake everybody.
            let handle = (service.handle(), peer);
            (Spawn::new(service), handle)
        })
        .unzip();
    let mut answered = vec![false; ROUNDS];
    race(
        |round| answered[round] = services[round].poll_ready().is_ready(),
        |round| handles[round].0.close(),
    );
    for (mut service, answered) in services.into_iter().zip(answered) {
        if !answered {
            assert!(service.is_woken());
            assert_ready_err!(service.poll_ready());
        }
    }
}

#[tokio::test]
async fn a_pending_poll_ready_is_woken_by_the_end() {
    let (service, mut peer) = unwatched();
    peer.allow(0);
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_pending!(service.poll_ready());

    handle.close();
    assert!(service.is_woken());
    let error = assert_ready_err!(service.poll_ready());
    assert_eq!(told(&error), (Failure::Closed, Stage::NotSent));
}

#[tokio::test(start_paused = true)]
async fn a_call_held_back_as_suspect_is_woken_by_the_recovery() {
    let (service, mut peer) = watched(config().suspect_after(SUSPECT_AFTER));
    let handle = service.handle();
    let mut held = Spawn::new(service);
    pass(SUSPECT_AFTER + MILLISECOND).await;
    assert_pending!(held.poll_ready());
    pass(MILLISECOND).await;
    assert!(!held.is_woken());

    peer.expect("ping").send_response("pong");
    pass(MILLISECOND).await;
    assert!(held.is_woken());
    assert_eq!(handle.state(), State::Alive);
    assert!(held.get_ref().is_alive());
    assert_ready_ok!(held.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn a_call_held_back_as_suspect_is_woken_by_the_response_to_another() {
    let (service, mut peer) = watched(config().suspect_after(SUSPECT_AFTER));
    let mut caller = Spawn::new(service.clone());
    assert_ready_ok!(caller.poll_ready());
    let mut response = task::spawn(caller.call("hello"));
    let mut held = Spawn::new(service);
    pass(SUSPECT_AFTER + MILLISECOND).await;
    assert_pending!(held.poll_ready());

    peer.expect("hello").send_response("world");
    assert_ready_ok!(response.poll());
    pass(TICK).await;
    assert!(held.is_woken());
    assert_ready_ok!(held.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn a_call_held_back_as_suspect_is_woken_by_the_verdict() {
    let (service, _peer) = watched(config().suspect_after(SUSPECT_AFTER));
    let mut held = Spawn::new(service);
    pass(SUSPECT_AFTER + MILLISECOND).await;
    assert_pending!(held.poll_ready());
    pass(VERDICT - SUSPECT_AFTER).await;
    assert!(held.is_woken());
    let error = assert_ready_err!(held.poll_ready());
    assert_eq!(told(&error), (Failure::PongTimeout, Stage::NotSent));
}

#[tokio::test(start_paused = true)]
async fn without_suspect_after_a_suspect_connection_takes_calls() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    let mut service = Spawn::new(service);
    pass(INTERVAL + PONG_TIMEOUT + MILLISECOND).await;
    assert_eq!((handle.state(), handle.missed()), (State::Suspect, 1));
    assert!(service.get_ref().is_alive());
    assert_ready_ok!(service.poll_ready());
    let _response = service.call("hello");
    let _ping = peer.expect("ping");
    let _hello = peer.expect("hello");
}

#[tokio::test(start_paused = true)]
async fn a_call_held_back_for_verification_has_a_ping_sent_and_is_woken_by_the_pong() {
    let (service, mut peer) = watched(config().verify_after_idle(VERIFY_AFTER));
    let handle = service.handle();
    let mut held = Spawn::new(service);
    pass(VERIFY_AFTER + MILLISECOND).await;
    assert_eq!(handle.pings(), 0);
    assert_pending!(held.poll_ready());
    pass(MILLISECOND).await;

    let reply = peer.expect("ping");
    assert!(!held.is_woken());
    reply.send_response("pong");
    pass(MILLISECOND).await;
    assert!(held.is_woken());
    assert_ready_ok!(held.poll_ready());
    let _response = held.call("hello");
    let _hello = peer.expect("hello");
}

#[tokio::test(start_paused = true)]
async fn a_call_held_back_for_verification_is_woken_by_the_verdict_and_costs_no_request() {
    let (service, mut peer) = watched(config().verify_after_idle(VERIFY_AFTER));
    let mut held = Spawn::new(service);
    pass(VERIFY_AFTER + MILLISECOND).await;
    assert_pending!(held.poll_ready());
    pass(PONG_TIMEOUT * 2 + MILLISECOND).await;
    assert!(held.is_woken());
    let error = assert_ready_err!(held.poll_ready());
    assert_eq!(told(&error), (Failure::PongTimeout, Stage::NotSent));
    let _ping = peer.expect("ping");
    drop(held);
    pass(MILLISECOND).await;
    assert!(peer.is_gone());
}

#[tokio::test(start_paused = true)]
async fn a_call_held_back_for_verification_stays_held_through_a_miss() {
    let (service, mut peer) = watched(config().verify_after_idle(VERIFY_AFTER));
    let handle = service.handle();
    let mut held = Spawn::new(service);
    pass(VERIFY_AFTER + MILLISECOND).await;
    assert_pending!(held.poll_ready());
    pass(MILLISECOND).await;
    let reply = peer.expect("ping");
    pass(PONG_TIMEOUT).await;
    assert_eq!((handle.state(), handle.missed()), (State::Suspect, 1));
    assert_pending!(held.poll_ready());
    let mut other = Spawn::new(held.get_ref().clone());
    assert_pending!(other.poll_ready());

    reply.send_response("pong");
    pass(MILLISECOND).await;
    assert!(held.is_woken());
    assert_ready_ok!(held.poll_ready());
    assert!(other.is_woken());
    assert_ready_ok!(other.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_has_completed_holds_nothing_of_the_connection() {
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let (service, driver) = pinged().pair(inner);
    let mut driver = task::spawn(driver);
    assert_pending!(driver.poll());
    tokio::time::advance(INTERVAL).await;
    assert_pending!(driver.poll());
    let _ping = peer.expect("ping");

    service.handle().close();
    assert!(driver.is_woken());
    assert_ready!(driver.poll());
    drop(service);
    assert!(peer.is_gone());
}

#[tokio::test]
async fn the_newest_task_that_polled_a_response_is_the_one_woken() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = service.call("hello");
    let (mut older, mut newer) = (task::spawn(()), task::spawn(()));
    older.enter(|cx, _| assert_pending!(Pin::new(&mut response).poll(cx)));
    newer.enter(|cx, _| assert_pending!(Pin::new(&mut response).poll(cx)));

    handle.close();
    assert!(newer.is_woken());
    assert!(!older.is_woken());
}

#[tokio::test(start_paused = true)]
async fn the_newest_task_that_polled_a_held_service_is_the_one_woken() {
    let (mut service, _peer) = watched(config().suspect_after(SUSPECT_AFTER));
    pass(SUSPECT_AFTER + MILLISECOND).await;
    let (mut older, mut newer) = (task::spawn(()), task::spawn(()));
    older.enter(|cx, _| assert_pending!(service.poll_ready(cx)));
    newer.enter(|cx, _| assert_pending!(service.poll_ready(cx)));

    pass(VERDICT - SUSPECT_AFTER).await;
    assert!(newer.is_woken());
    assert!(!older.is_woken());
}

#[tokio::test]
async fn nobody_who_stopped_waiting_is_woken() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut dropped = task::spawn(Some(service.call("hello")));
    dropped.enter(|cx, mut future| {
        assert_pending!(future.as_mut().as_pin_mut().unwrap().poll(cx));
        future.set(None);
    });
    assert_ready_ok!(service.poll_ready());
    let mut answered = task::spawn(service.call("again"));
    assert_pending!(answered.poll());
    let _hello = peer.expect("hello");
    peer.expect("again").send_response("world");
    assert_ready_ok!(answered.poll());
    peer.allow(0);
    assert_pending!(service.poll_ready());
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());

    handle.close();
    assert!(!dropped.is_woken());
    assert!(!answered.is_woken());
    assert!(!service.is_woken());
    assert_eq!(
        [dropped.waker_ref_count(), answered.waker_ref_count()],
        [1, 1]
    );
    assert_eq!(service.waker_ref_count(), 1);
}

#[tokio::test]
async fn a_service_dropped_while_it_waits_leaves_no_waker_behind() {
    let (service, mut peer) = unwatched();
    peer.allow(0);
    let _other_user = service.clone();
    let mut waiter = task::spawn(Some(service));
    waiter.enter(|cx, mut service| {
        assert_pending!(service.as_mut().as_pin_mut().unwrap().poll_ready(cx));
        service.set(None);
    });
    assert_eq!(waiter.waker_ref_count(), 1);
}

#[tokio::test]
async fn a_waker_may_drop_the_future_it_wakes() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let slot = Arc::new(Dropping {
        slot: Mutex::new(Some(service.call("hello"))),
        handle: handle.clone(),
        seen: AtomicUsize::new(0),
    });
    let waker = Waker::from(Arc::clone(&slot));
    {
        let mut future = slot.slot.lock().unwrap();
        let future = Pin::new(future.as_mut().unwrap());
        assert_pending!(future.poll(&mut Context::from_waker(&waker)));
    }
    handle.close();
    assert_eq!(slot.seen.load(Ordering::Relaxed), 1);
    assert_eq!(handle.in_flight(), 0);
}

#[test]
fn everybody_who_waits_is_woken_when_the_runtime_goes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let entered = runtime.enter();
    let (service, mut peer) = unwatched();
    drop(entered);
    let handle = service.handle();
    let mut caller = Spawn::new(service.clone());
    assert_ready_ok!(caller.poll_ready());
    let mut response = task::spawn(caller.call("hello"));
    assert_pending!(response.poll());
    peer.allow(0);
    let mut waiting = Spawn::new(service);
    assert_pending!(waiting.poll_ready());

    drop(runtime);
    assert!(response.is_woken());
    let error = assert_ready_err!(response.poll());
    assert_eq!(
        told(&error),
        (Failure::MonitorGone, Stage::AwaitingResponse)
    );
    assert!(waiting.is_woken());
    let error = assert_ready_err!(waiting.poll_ready());
    assert_eq!(told(&error), (Failure::MonitorGone, Stage::NotSent));
    assert_eq!(handle.state(), State::Dead);
}

#[test]
fn a_service_wrapped_outside_a_runtime_is_watched_from_its_first_poll_inside_one() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    let mut service = Spawn::new(service.clone());
    assert!(service.get_ref().is_alive());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        assert_ready_ok!(service.poll_ready());
        let mut response = task::spawn(service.call("hello"));
        assert_pending!(response.poll());
        assert_eq!(in_time(handle.closed()).await, Failure::PongTimeout);
        assert!(response.is_woken());
    });
    let _hello = peer.expect("hello");
    let _ping = peer.expect("ping");
}

#[test]
fn a_service_first_polled_outside_a_runtime_fails_for_want_of_a_watcher() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    let mut service = Spawn::new(service);
    let error = assert_ready_err!(service.poll_ready());
    assert_eq!(told(&error), (Failure::MonitorGone, Stage::NotSent));
    assert_eq!(handle.state(), State::Dead);
    assert!(peer.has_nothing());
}

// ---- ties go to traffic ----

#[tokio::test]
async fn a_response_complete_at_the_moment_of_the_end_wins() {
    for response_first in [true, false] {
        let (service, mut peer) = unwatched();
        let handle = service.handle();
        let mut service = Spawn::new(service);
        assert_ready_ok!(service.poll_ready());
        let mut never_polled = task::spawn(service.call("first"));
        assert_ready_ok!(service.poll_ready());
        let mut polled = task::spawn(service.call("second"));
        assert_pending!(polled.poll());
        let replies = [peer.expect("first"), peer.expect("second")];
        if !response_first {
            handle.close();
        }
        for reply in replies {
            reply.send_response("in time");
        }
        handle.close();
        assert_eq!(assert_ready_ok!(never_polled.poll()), "in time");
        assert_eq!(assert_ready_ok!(polled.poll()), "in time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_at_the_very_instant_of_the_verdict_wins() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let response = tokio::spawn(service.call("hello"));
    let reply = peer.expect("hello");
    let replier = tokio::spawn(async move {
        pass(VERDICT).await;
        // From socket to response it is a few turns, one task waking the next.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        reply.send_response("in time");
    });
    assert_eq!(in_time(response).await.unwrap().unwrap(), "in time");
    replier.await.unwrap();
    pass(TICK).await;
    assert_eq!(handle.failure(), None);
}

#[tokio::test]
async fn a_call_after_the_end_is_not_sent() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    handle.close();

    let mut response = task::spawn(service.call("hello"));
    let error = assert_ready_err!(response.poll());
    assert_eq!(told(&error), (Failure::Closed, Stage::NotSent));
    assert!(peer.has_nothing(), "the inner service was called");
}

#[tokio::test]
async fn poll_ready_errs_for_good_after_the_end() {
    let (inner, script) = Scripted::new();
    let service = HeartbeatLayer::new(Config::default(), ping::none()).layer(inner);
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready::<()>());
    assert_eq!(script.polls(), 1);
    handle.close();
    let mut clone = Spawn::new(service.get_ref().clone());
    for _ in 0..3 {
        let error = assert_ready_err!(service.poll_ready::<()>());
        assert_eq!(told(&error), (Failure::Closed, Stage::NotSent));
        let error = assert_ready_err!(clone.poll_ready::<()>());
        assert_eq!(told(&error), (Failure::Closed, Stage::NotSent));
    }
    assert_eq!(script.polls(), 1, "the inner service is left alone");
    assert!(!service.get_ref().is_alive());
}

// ---- the order of things at the end ----

#[tokio::test]
async fn the_cause_is_known_then_the_hooks_run_then_those_who_wait_are_woken() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let log = Log::default();
    let mut in_flight = service.clone();
    assert_ready_ok!(in_flight.poll_ready(&mut Context::from_waker(Waker::noop())));
    let mut response = in_flight.call("hello");
    let waker = log.waker("response");
    assert_pending!(Pin::new(&mut response).poll(&mut Context::from_waker(&waker)));
    peer.allow(0);
    let mut waiting = service.clone();
    let waker = log.waker("poll_ready");
    assert_pending!(waiting.poll_ready(&mut Context::from_waker(&waker)));
    let mut closed = Box::pin(handle.closed());
    let waker = log.waker("closed");
    assert_pending!(closed.as_mut().poll(&mut Context::from_waker(&waker)));
    for hook in ["first hook", "second hook"] {
        let (log, handle) = (log.clone(), handle.clone());
        handle.clone().on_end(move |error| {
            assert_eq!(error.failure(), Failure::Closed);
            assert_eq!(handle.failure(), Some(Failure::Closed));
            assert_eq!(handle.state(), State::Closed);
            log.push(hook);
            handle.close();
        });
    }

    handle.close();
    let mut entries = log.take();
    entries[2..].sort_unstable();
    assert_eq!(
        entries,
        [
            "first hook",
            "second hook",
            "closed",
            "poll_ready",
            "response"
        ]
    );
    let mut cx = Context::from_waker(Waker::noop());
    assert_ready_err!(Pin::new(&mut response).poll(&mut cx));
    assert_ready_err!(waiting.poll_ready(&mut cx));
    assert_eq!(
        assert_ready!(closed.as_mut().poll(&mut cx)),
        Failure::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_reported_with_figures_to_hooks_handles_and_callers_alike() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let seen = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&seen);
    handle.on_end(move |error| *slot.lock().unwrap() = Some(error.clone()));
    let mut response = task::spawn(service.call("hello"));
    assert_pending!(response.poll());

    assert_eq!(in_time(handle.closed()).await, Failure::PongTimeout);
    let _hello = peer.expect("hello");
    let _ping = peer.expect("ping");
    let Error::Heartbeat(from_call) = assert_ready_err!(response.poll()) else {
        panic!("an inner error");
    };
    let from_hook = seen.lock().unwrap().take().unwrap();
    let from_handle = handle.error().unwrap();
    for error in [&from_hook, &from_handle, &from_call] {
        assert_eq!(error.failure(), Failure::PongTimeout);
        assert_eq!(error.missed(), 2);
        assert_eq!(error.waited(), PONG_TIMEOUT * 2);
        assert_eq!(error.quiet_for(), VERDICT);
    }
    assert_eq!(from_hook.stage(), Stage::NotSent);
    assert_eq!(from_call.stage(), Stage::AwaitingResponse);
    assert_eq!(handle.state(), State::Dead);
}

#[tokio::test]
async fn a_hook_registered_late_runs_at_once() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    handle.close();
    let log = Log::default();
    let late = log.clone();
    handle.on_end(move |error| {
        assert_eq!(error.failure(), Failure::Closed);
        late.push("late");
    });
    assert_eq!(log.take(), ["late"]);
}

#[tokio::test]
async fn a_hook_registered_by_a_hook_runs_too() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let log = Log::default();
    let (outer, inner, again) = (log.clone(), log.clone(), handle.clone());
    handle.on_end(move |_| {
        outer.push("outer");
        again.close();
        again.on_end(move |_| inner.push("inner"));
    });
    handle.close();
    assert_eq!(log.take(), ["outer", "inner"]);
}

#[tokio::test]
async fn a_hook_may_drop_the_service_and_the_response() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let mut other = Spawn::new(service.clone());
    assert_ready_ok!(other.poll_ready());
    let mut survivor = task::spawn(other.call("hello"));
    assert_pending!(survivor.poll());
    assert_ready_ok!(other.poll_ready());
    let dropped = other.call("hello");
    handle.on_end(move |_| drop((service, other, dropped)));
    handle.close();
    assert!(survivor.is_woken());
    assert_ready_err!(survivor.poll());
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test]
async fn a_panicking_hook_stops_neither_the_others_nor_the_wake_ups() {
    let (service, mut peer) = unwatched();
    let handle = service.handle();
    let mut caller = Spawn::new(service.clone());
    assert_ready_ok!(caller.poll_ready());
    let mut response = task::spawn(caller.call("hello"));
    assert_pending!(response.poll());
    peer.allow(0);
    let mut waiting = Spawn::new(service);
    assert_pending!(waiting.poll_ready());
    let log = Log::default();
    let after = log.clone();
    handle.on_end(|_| panic!("a hook panics, as this test wants"));
    handle.on_end(move |_| after.push("after"));

    handle.close();
    assert_eq!(log.take(), ["after"]);
    assert!(response.is_woken());
    assert!(waiting.is_woken());
    assert_ready_err!(response.poll());
    assert_ready_err!(waiting.poll_ready());

    handle.on_end(|_| panic!("a late hook panics, as this test wants"));
}

#[tokio::test]
async fn only_the_first_end_counts() {
    let (service, _peer) = unwatched();
    let handle = service.handle();
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    handle.on_end(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!((handle.failure(), handle.state()), (None, State::Alive));
    assert!(handle.error().is_none());

    handle.close();
    handle.close();
    service.handle().close();
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert_eq!(
        (handle.failure(), handle.state()),
        (Some(Failure::Closed), State::Closed)
    );
    let error = handle.error().unwrap();
    assert_eq!(
        (error.failure(), error.stage()),
        (Failure::Closed, Stage::NotSent)
    );
    assert_eq!(in_time(handle.closed()).await, Failure::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_close_after_the_verdict_does_not_change_the_cause() {
    let (service, _peer) = watched(config());
    let handle = service.handle();
    assert_eq!(in_time(handle.closed()).await, Failure::PongTimeout);
    handle.close();
    drop(service);
    pass(MILLISECOND).await;
    assert_eq!(
        (handle.failure(), handle.state()),
        (Some(Failure::PongTimeout), State::Dead)
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_by_one_clone_ends_all_and_silences_the_pings() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    pass(INTERVAL + MILLISECOND).await;
    let _ping = peer.expect("ping");
    handle.close();
    pass(INTERVAL * 3).await;
    assert_eq!(handle.pings(), 1);
    drop(service);
    assert!(peer.is_gone(), "everything of the connection is gone");
}

#[tokio::test(start_paused = true)]
async fn the_last_user_gone_closes_the_connection_and_cancels_its_ping() {
    let (service, mut peer) = watched(config());
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let response = service.call("hello");
    pass(INTERVAL + MILLISECOND).await;
    let _hello = peer.expect("hello");
    let _ping = peer.expect("ping");
    drop(service);
    pass(MILLISECOND).await;
    assert_eq!(handle.failure(), None, "a response is still awaited");
    drop(response);
    assert_eq!(
        tokio::time::timeout(MILLISECOND, handle.closed()).await,
        Ok(Failure::Closed)
    );
    pass(MILLISECOND).await;
    assert!(peer.is_gone());
}

// ---- a connection that closes for being idle ----

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closes_and_says_so() {
    let (service, mut peer) = watched(config().idle_timeout(IDLE_TIMEOUT));
    peer.allow(0);
    let handle = service.handle();
    let mut waiting = Spawn::new(service.clone());
    assert_pending!(waiting.poll_ready());
    let mut service = Spawn::new(service);
    pass(IDLE_TIMEOUT - MILLISECOND).await;
    assert_eq!(handle.state(), State::Alive);
    assert!(!waiting.is_woken());
    pass(MILLISECOND * 2).await;
    assert_eq!(
        (handle.state(), handle.failure()),
        (State::IdleClosed, Some(Failure::IdleTimeout))
    );
    assert!(waiting.is_woken());
    for service in [&mut waiting, &mut service] {
        let error = assert_ready_err!(service.poll_ready());
        assert_eq!(told(&error), (Failure::IdleTimeout, Stage::NotSent));
    }
    let error = handle.error().unwrap();
    assert_eq!(error.waited(), IDLE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_connection_that_closed_while_idle_is_not_sent() {
    let (service, mut peer) = watched(config().idle_timeout(IDLE_TIMEOUT));
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    pass(IDLE_TIMEOUT + MILLISECOND).await;
    let mut response = task::spawn(service.call("hello"));
    let error = assert_ready_err!(response.poll());
    assert_eq!(told(&error), (Failure::IdleTimeout, Stage::NotSent));
    assert!(peer.has_nothing());
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_keeps_the_connection_from_being_idle() {
    let (service, mut peer) = unwatched_with(config().idle_timeout(IDLE_TIMEOUT));
    let handle = service.handle();
    let mut service = Spawn::new(service);
    assert_ready_ok!(service.poll_ready());
    let mut response = task::spawn(service.call("hello"));
    pass(IDLE_TIMEOUT * 3).await;
    assert_eq!(
        (handle.state(), handle.idle_for()),
        (State::Alive, Duration::ZERO)
    );
    peer.expect("hello").send_response("world");
    assert_ready_ok!(response.poll());
    pass(IDLE_TIMEOUT - MILLISECOND).await;
    assert_eq!(handle.state(), State::Alive);
    pass(TICK).await;
    assert_eq!(handle.state(), State::IdleClosed);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_refuses_calls_before_it_is_closed() {
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let layer = HeartbeatLayer::new(
        config().idle_timeout(IDLE_TIMEOUT).build().unwrap(),
        ping::none(),
    );
    let (service, driver) = layer.pair(inner);
    let handle = service.handle();
    let mut told_ready = Spawn::new(service.clone());
    assert_ready_ok!(told_ready.poll_ready());
    peer.allow(0);
    let mut waiting = Spawn::new(service);
    assert_pending!(waiting.poll_ready());
    let mut driver = task::spawn(driver);
    assert_pending!(driver.poll());

    tokio::time::advance(IDLE_TIMEOUT).await;
    assert_pending!(driver.poll());
    assert_eq!((handle.state(), handle.failure()), (State::Closing, None));
    assert!(!told_ready.get_ref().is_alive());
    assert!(waiting.is_woken());
    let error = assert_ready_err!(waiting.poll_ready());
    assert_eq!(told(&error), (Failure::IdleTimeout, Stage::NotSent));
    let error = assert_ready_err!(told_ready.poll_ready());
    assert_eq!(told(&error), (Failure::IdleTimeout, Stage::NotSent));
    let error = assert_ready_err!(task::spawn(told_ready.call("hello")).poll());
    assert_eq!(told(&error), (Failure::IdleTimeout, Stage::NotSent));
    assert!(peer.has_nothing(), "the inner service was called");

    in_time(driver).await;
    assert_eq!(handle.state(), State::IdleClosed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_slips_in_while_an_idle_connection_closes_is_answered() {
    let (inner, mut peer) = mock::pair::<&str, &str>();
    let slot: Arc<Mutex<Option<Heartbeat<Mock>>>> = Arc::default();
    let made = Arc::new(Mutex::new(None));
    // The pong's own poll stands for another thread, between the driver's look at the requests in
    // flight and its decision.
    let (caller, response) = (Arc::clone(&slot), Arc::clone(&made));
    let ping = ping::out_of_band(ping::from_fn(move || {
        let (caller, response) = (Arc::clone(&caller), Arc::clone(&response));
        poll_fn(move |_| {
            if let Some(mut service) = caller.lock().unwrap().take() {
                *response.lock().unwrap() = Some(service.call("hello"));
            }
            Poll::<Result<(), BoxError>>::Pending
        })
    }));
    let idle_timeout = INTERVAL + PONG_TIMEOUT / 2;
    let layer = HeartbeatLayer::new(config().idle_timeout(idle_timeout).build().unwrap(), ping);
    let (service, driver) = layer.pair(inner);
    let handle = service.handle();
    let mut other = Spawn::new(service.clone());
    let mut ready = Spawn::new(service);
    assert_ready_ok!(ready.poll_ready());
    let mut driver = task::spawn(driver);
    assert_pending!(driver.poll());
    tokio::time::advance(INTERVAL).await;
    assert_pending!(driver.poll());
    assert_eq!(handle.pings(), 1);

    *slot.lock().unwrap() = Some(ready.into_inner());
    tokio::time::advance(PONG_TIMEOUT / 2).await;
    assert_pending!(driver.poll());
    let mut response = task::spawn(made.lock().unwrap().take().expect("the call was made"));
    let driver = tokio::spawn(driver.into_inner());
    pass(MILLISECOND).await;
    assert_eq!((handle.state(), handle.in_flight()), (State::Closing, 1));
    assert_ready_err!(other.poll_ready());
    peer.expect("hello").send_response("world");
    assert_eq!(assert_ready_ok!(response.poll()), "world");
    in_time(driver).await.unwrap();
    assert_eq!(handle.state(), State::IdleClosed);
}

// ---- what holds at compile time ----

#[test]
fn every_public_type_is_debug_send_and_sync() {
    type Reply = Ready<Result<(), BoxError>>;
    type Inner = tower::util::BoxCloneSyncService<(), (), BoxError>;
    type Function = fn() -> Reply;
    type PingOfAFunction = ping::FnPing<Function>;

    debug_send_sync::<Heartbeat<Inner>>();
    debug_send_sync::<ResponseFuture<Reply>>();
    debug_send_sync::<HeartbeatLayer<ping::NoneSource>>();
    debug_send_sync::<tower_heartbeat::Share<Inner>>();
    debug_send_sync::<tower_heartbeat::ShareFuture<Inner, String, Ready<()>>>();
    debug_send_sync::<tower_heartbeat::ShareLayer>();
    debug_send_sync::<HeartbeatLayer<ping::RequestSource<Function>>>();
    debug_send_sync::<Driver<ping::NonePing>>();
    debug_send_sync::<Driver<PingOfAFunction>>();
    debug_send_sync::<CompleteOnResponse>();
    debug_send_sync::<InFlight>();
    debug_send_sync::<Handle>();
    debug_send_sync::<State>();
    debug_send_sync::<tower_heartbeat::Rtt>();
    debug_send_sync::<Config>();
    debug_send_sync::<ConfigBuilder>();
    debug_send_sync::<tower_heartbeat::ConfigError>();
    debug_send_sync::<tower_heartbeat::Setting>();
    debug_send_sync::<tower_heartbeat::Evidence>();
    debug_send_sync::<PingWhen>();
    debug_send_sync::<Detector>();
    debug_send_sync::<Event>();
    debug_send_sync::<Error<BoxError>>();
    debug_send_sync::<Error<std::io::Error>>();
    debug_send_sync::<HeartbeatError>();
    debug_send_sync::<Failure>();
    debug_send_sync::<Stage>();

    debug_send_sync::<ping::PingError>();
    debug_send_sync::<ping::PingPanicked>();
    debug_send_sync::<ping::RequestSource<Function>>();
    debug_send_sync::<ping::RequestSource<Function, ping::CheckFn<Function>>>();
    debug_send_sync::<ping::RequestPing<Inner, Function, ping::AnyResponse>>();
    debug_send_sync::<ping::RequestPong<Reply, ping::AnyResponse, Reply>>();
    debug_send_sync::<ping::AnyResponse>();
    debug_send_sync::<ping::CheckFn<Function>>();
    debug_send_sync::<ping::ServiceSource<(), Function>>();
    debug_send_sync::<ping::ServicePing<(), Inner, Function>>();
    debug_send_sync::<ping::OutOfBandSource<PingOfAFunction>>();
    debug_send_sync::<ping::FromServiceSource<Function>>();
    debug_send_sync::<PingOfAFunction>();
    debug_send_sync::<ping::NoneSource>();
    debug_send_sync::<ping::NonePing>();
}

#[cfg(feature = "http")]
#[test]
fn every_public_type_of_the_http_feature_is_debug_send_and_sync() {
    use tower_heartbeat::http::{
        CompleteOnBody, HttpPing, HttpPong, HttpSource, TrackedBody, UnexpectedStatus,
    };

    debug_send_sync::<CompleteOnBody>();
    debug_send_sync::<TrackedBody<String>>();
    debug_send_sync::<HttpSource<*const ()>>();
    debug_send_sync::<HttpPing<(), *const ()>>();
    debug_send_sync::<HttpPong<Ready<()>>>();
    debug_send_sync::<UnexpectedStatus>();
    unpin::<TrackedBody<String>>();
}

#[cfg(feature = "hyper")]
#[test]
fn every_public_type_of_the_hyper_feature_is_debug_send_and_but_for_its_futures_sync() {
    use tower_heartbeat::hyper::http2::{
        Connect, ConnectError, Connection, GoAway, Io, MakeFuture, ResponseBody, ResponseFuture,
        SendError, SendRequest,
    };

    type Stream = hyper_util::rt::TokioIo<tokio::io::DuplexStream>;

    debug_send_sync::<Connect<fn(), ping::NoneSource, String>>();
    debug_send_sync::<ConnectError>();
    debug_send_sync::<GoAway>();
    debug_send_sync::<Io<Stream>>();
    debug_send_sync::<SendError>();
    debug_send_sync::<SendRequest<String>>();
    debug_send_sync::<Connection<Stream, String, hyper_util::rt::TokioExecutor>>();
    debug_send_sync::<ResponseBody>();
    // hyper's own future, and what a connector returns, need not be `Sync`.
    debug_send::<MakeFuture<String>>();
    debug_send::<ResponseFuture>();
    unpin::<ResponseBody>();
    unpin::<SendRequest<String>>();
}

#[cfg(feature = "hyper")]
#[test]
fn every_public_type_for_http1_is_debug_send_and_but_for_its_futures_sync() {
    use tower_heartbeat::hyper::http1::{
        Connect, Connection, ResponseBody, ResponseFuture, SendRequest,
    };

    type Stream = hyper_util::rt::TokioIo<tokio::io::DuplexStream>;

    debug_send_sync::<Connect<fn(), ping::NoneSource, String>>();
    debug_send_sync::<SendRequest<String>>();
    debug_send_sync::<Connection<Stream, String>>();
    debug_send_sync::<ResponseBody>();
    debug_send::<ResponseFuture>();
    unpin::<ResponseBody>();
    unpin::<SendRequest<String>>();
}

#[test]
fn a_request_type_that_is_neither_send_nor_sync_does_not_spread() {
    debug_send_sync::<ping::ServiceSource<*const (), fn()>>();
    debug_send_sync::<ping::ServicePing<*const (), (), fn()>>();
}

#[test]
fn what_is_promised_to_be_unpin_is() {
    unpin::<Heartbeat<Mock>>();
    unpin::<ResponseFuture<Ready<Result<(), BoxError>>>>();
    unpin::<InFlight>();
    unpin::<Handle>();
    unpin::<Driver<ping::FnPing<fn() -> Pinned>>>();
}

#[test]
fn it_can_be_cloned_exactly_when_the_inner_service_can() {
    struct Unclonable;
    const { assert!(IsClone::<Heartbeat<Mock>>::ANSWER) };
    const { assert!(!IsClone::<Heartbeat<Unclonable>>::ANSWER) };
    const { assert!(IsClone::<Heartbeat<tower_heartbeat::Share<Unclonable>>>::ANSWER) };
    const { assert!(IsClone::<HeartbeatLayer<ping::NoneSource>>::ANSWER) };
    const { assert!(!IsClone::<ResponseFuture<Ready<()>>>::ANSWER) };
    const { assert!(!IsClone::<InFlight>::ANSWER) };
    const { assert!(!IsClone::<Driver<ping::NonePing>>::ANSWER) };
}

// ---- helpers ----

const MILLISECOND: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_secs(8);
const PONG_TIMEOUT: Duration = Duration::from_secs(2);
/// When a peer that was never heard of is dead.
const VERDICT: Duration = Duration::from_secs(8 + 2 * 2);
/// After this long everything that was reported has been looked at.
const TICK: Duration = Duration::from_millis(1_001);
const SUSPECT_AFTER: Duration = Duration::from_millis(9_500);
const VERIFY_AFTER: Duration = Duration::from_secs(4);
const IDLE_TIMEOUT: Duration = Duration::from_secs(6);

fn config() -> ConfigBuilder {
    Config::builder()
        .interval(INTERVAL)
        .pong_timeout(PONG_TIMEOUT)
        .max_missed(2)
}

/// A mock connection that nobody pings.
fn unwatched() -> (Heartbeat<Mock>, Peer) {
    unwatched_with(config())
}

fn unwatched_with(config: ConfigBuilder) -> (Heartbeat<Mock>, Peer) {
    let (inner, peer) = mock::pair();
    let layer = HeartbeatLayer::new(config.build().unwrap(), ping::none());
    (layer.layer(inner), peer)
}

/// A mock connection whose pings are requests.
fn watched(config: ConfigBuilder) -> (Heartbeat<Mock>, Peer) {
    let (inner, peer) = mock::pair();
    let layer = HeartbeatLayer::new(config.build().unwrap(), ping::request(|| "ping"));
    (layer.layer(inner), peer)
}

fn pinged() -> HeartbeatLayer<ping::RequestSource<fn() -> &'static str>> {
    HeartbeatLayer::new(config().build().unwrap(), ping::request(|| "ping"))
}

fn limited(permits: usize) -> (Heartbeat<ConcurrencyLimit<Mock>>, Peer) {
    let (inner, peer) = mock::pair();
    let layer = HeartbeatLayer::new(config().build().unwrap(), ping::none());
    (layer.layer(ConcurrencyLimit::new(inner, permits)), peer)
}

/// What a test asks the far end of a mock connection.
trait FarEnd {
    /// The next request, which has come in already.
    fn expect(&mut self, request: &str) -> SendResponse<&'static str>;

    /// Whether no request has come in, on a connection that is still there.
    fn has_nothing(&mut self) -> bool;

    /// Whether nothing is left of the connection, and no request came in before it went.
    fn is_gone(&mut self) -> bool;
}

impl FarEnd for Peer {
    fn expect(&mut self, request: &str) -> SendResponse<&'static str> {
        match self.poll_request() {
            Poll::Ready(Some((actual, reply))) => {
                assert_eq!(actual, request);
                reply
            }
            Poll::Ready(None) => panic!("{request:?} expected on a connection that is gone"),
            Poll::Pending => panic!("{request:?} expected and no request came"),
        }
    }

    fn has_nothing(&mut self) -> bool {
        self.poll_request().is_pending()
    }

    fn is_gone(&mut self) -> bool {
        matches!(self.poll_request(), Poll::Ready(None))
    }
}

/// A service whose peer never answers, and a call through it that nobody polled yet.
fn calling() -> (Heartbeat<Unanswered>, task::Spawn<NoAnswer>) {
    let layer = HeartbeatLayer::new(config().build().unwrap(), ping::none());
    let mut service = layer.layer(Unanswered);
    let response = task::spawn(service.call(()));
    (service, response)
}

/// A runtime for drivers that nobody runs.
fn idle_runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap()
}

const ROUNDS: usize = 5_000;

/// Has two threads do one thing each at nearly the same time, in either order, many times.
fn race<L, R>(mut left: L, mut right: R)
where
    L: FnMut(usize) + Send,
    R: FnMut(usize) + Send,
{
    let (here, there) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _leave = Leave(&here);
            for round in 0..ROUNDS {
                meet(&here, &there, round);
                linger(round % 256);
                left(round);
            }
        });
        let _leave = Leave(&there);
        for round in 0..ROUNDS {
            meet(&there, &here, round);
            linger(255 - round % 256);
            right(round);
        }
    });
}

/// A thread that panics must not keep the other one waiting.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.store(usize::MAX, Ordering::Release);
    }
}

/// Returns on two threads at nearly the same time.
fn meet(me: &AtomicUsize, other: &AtomicUsize, round: usize) {
    me.store(round + 1, Ordering::Release);
    for spins in 0_usize.. {
        if other.load(Ordering::Acquire) > round {
            return;
        }
        if spins % 1_024 == 1_023 {
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

/// Wastes a few nanoseconds for each turn.
fn linger(turns: usize) {
    for turn in 0..turns {
        hint::black_box(turn);
    }
}

/// Awaits what has to come to pass; where time is paused, an hour is over at once.
async fn in_time<F: Future>(future: F) -> F::Output {
    let hour = Duration::from_secs(3_600);
    let outcome = tokio::time::timeout(hour, future).await;
    outcome.expect("it comes to pass within an hour")
}

/// Lets paused time pass, timer by timer.
async fn pass(duration: Duration) {
    let elapsed = tokio::time::timeout(duration, pending::<()>()).await;
    assert!(elapsed.is_err());
}

fn told<E: fmt::Debug>(error: &Error<E>) -> (Failure, Stage) {
    let error = error
        .heartbeat()
        .unwrap_or_else(|| panic!("an inner error: {error:?}"));
    (error.failure(), error.stage())
}

fn debug_send_sync<T: fmt::Debug + Send + Sync>() {}

#[cfg(feature = "hyper")]
fn debug_send<T: fmt::Debug + Send>() {}

fn unpin<T: Unpin>() {}

/// The inherent constant shadows the trait's where its bound holds.
struct IsClone<T>(PhantomData<T>);

trait IsNotClone {
    const ANSWER: bool = false;
}

impl<T> IsNotClone for IsClone<T> {}

impl<T: Clone> IsClone<T> {
    const ANSWER: bool = true;
}

/// A future that has to stay where it is.
struct Pinned(PhantomPinned);

impl Future for Pinned {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

/// Each instance has to be told `Ready` before each call; what isn't is counted, and panics.
struct Strict {
    ready: bool,
    misuses: Arc<AtomicUsize>,
}

impl Strict {
    fn new() -> (Strict, Arc<AtomicUsize>) {
        let misuses = Arc::new(AtomicUsize::new(0));
        let strict = Strict {
            ready: false,
            misuses: Arc::clone(&misuses),
        };
        (strict, misuses)
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Strict {
            ready: false,
            misuses: Arc::clone(&self.misuses),
        }
    }
}

impl Service<()> for Strict {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        if !std::mem::take(&mut self.ready) {
            self.misuses.fetch_add(1, Ordering::Relaxed);
            panic!("called without having been ready");
        }
        ready(Ok(()))
    }
}

/// A service whose answers to `poll_ready` a test writes down beforehand; then it is ready.
#[derive(Clone, Default)]
struct Scripted {
    script: Script,
}

type Answer = Box<dyn FnOnce(&mut Context<'_>) -> Poll<Result<(), Refused>> + Send>;

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    polls: Arc<AtomicUsize>,
}

impl Scripted {
    fn new() -> (Scripted, Script) {
        let scripted = Scripted::default();
        let script = scripted.script.clone();
        (scripted, script)
    }
}

impl Script {
    fn then<F>(&self, answer: F)
    where
        F: FnOnce(&mut Context<'_>) -> Poll<Result<(), Refused>> + Send + 'static,
    {
        self.answers.lock().unwrap().push_back(Box::new(answer));
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }
}

impl Service<()> for Scripted {
    type Response = ();
    type Error = Refused;
    type Future = Ready<Result<(), Refused>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.script.polls.fetch_add(1, Ordering::Relaxed);
        let answer = self.script.answers.lock().unwrap().pop_front();
        answer.map_or(Poll::Ready(Ok(())), |answer| answer(cx))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

type NoAnswer = ResponseFuture<Pending<Result<(), Refused>>>;

/// A service that is always ready and never answers.
#[derive(Clone, Copy)]
struct Unanswered;

impl Service<()> for Unanswered {
    type Response = ();
    type Error = Refused;
    type Future = Pending<Result<(), Refused>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        pending()
    }
}

#[derive(Debug, PartialEq)]
struct Refused(u32);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused {}", self.0)
    }
}

impl StdError for Refused {}

/// The response itself is what is in flight.
#[derive(Clone, Debug)]
struct CompleteOnDrop;

impl<Response> TrackCompletion<Response> for CompleteOnDrop {
    type Output = InFlight;

    fn track_completion(&self, in_flight: InFlight, _: Response) -> InFlight {
        in_flight
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn push(&self, entry: &'static str) {
        self.0.lock().unwrap().push(entry);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn waker(&self, name: &'static str) -> Waker {
        Waker::from(Arc::new(Named {
            log: self.clone(),
            name,
        }))
    }
}

/// A waker that writes its name down.
struct Named {
    log: Log,
    name: &'static str,
}

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        self.log.push(self.name);
    }
}

/// A waker that drops the future it stands for, as an executor under shutdown may.
struct Dropping<F> {
    slot: Mutex<Option<F>>,
    handle: Handle,
    seen: AtomicUsize,
}

impl<F: Send + 'static> Wake for Dropping<F> {
    fn wake(self: Arc<Self>) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        drop(self.slot.lock().unwrap().take());
        assert_eq!(self.handle.failure(), Some(Failure::Closed));
    }
}
