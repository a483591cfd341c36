//! Clones of a service that is not `Clone`: who is told ready, who waits, who is woken.

#![expect(clippy::disallowed_methods, reason = "tests wait")]

use std::{
    future::{Ready, poll_fn, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};
use tower_heartbeat::{
    BoxError, Config, Error, Failure, HeartbeatLayer, PingWhen, Share, ShareFuture, ShareLayer,
    ping,
};
use tower_test::mock::{self, Mock};

type Inner = Mock<&'static str, String>;
type Handle = mock::Handle<&'static str, String>;
type Shared = Share<Inner>;
type Call = ShareFuture<Inner, &'static str, <Inner as Service<&'static str>>::Future>;

/// A shared service that is ready for as many calls as are allowed.
fn shared(allowed: u64) -> (Shared, Handle) {
    let (inner, mut handle) = mock::pair();
    handle.allow(allowed);
    (ShareLayer::new().layer(inner), handle)
}

fn poll_ready(service: &mut Shared) -> Poll<Result<(), BoxError>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// A task that waits until a clone is ready.
fn waiting(service: &Shared) -> task::Spawn<impl Future<Output = Result<(), BoxError>> + use<>> {
    let mut clone = service.clone();
    task::spawn(async move { poll_fn(|cx| clone.poll_ready(cx)).await })
}

/// Readiness told, then used up by another clone before the call: it waits in its future.
fn late_call(service: &Shared, handle: &mut Handle, request: &'static str) -> task::Spawn<Call> {
    let (mut late, mut quick) = (service.clone(), service.clone());
    handle.allow(1);
    assert_ready_ok!(poll_ready(&mut late));
    assert_ready_ok!(poll_ready(&mut quick));
    drop(quick.call("quick"));
    task::spawn(late.call(request))
}

fn next_request(handle: &mut Handle) -> Option<(&'static str, mock::SendResponse<String>)> {
    match task::spawn(handle.next_request()).poll() {
        Poll::Ready(next) => next,
        Poll::Pending => None,
    }
}

fn assert_sent(handle: &mut Handle, expected: &str) -> mock::SendResponse<String> {
    let (request, response) = next_request(handle).expect("a request");
    assert_eq!(request, expected);
    response
}

#[test]
fn readiness_is_the_inner_services() {
    let (mut service, mut handle) = shared(0);
    let mut other = waiting(&service);
    assert_pending!(poll_ready(&mut service));
    assert_pending!(other.poll());
    handle.allow(1);
    assert!(other.is_woken());
    assert_ready_ok!(other.poll());
    assert_ready_ok!(poll_ready(&mut service));
}

#[test]
fn one_who_was_told_ready_stays_ready_though_another_calls_first() {
    let (mut a, mut handle) = shared(1);
    let mut b = a.clone();
    assert_ready_ok!(poll_ready(&mut a));
    assert_ready_ok!(poll_ready(&mut b));
    let _first = a.call("first");
    assert_ready_ok!(poll_ready(&mut b));
    assert_pending!(poll_ready(&mut a));
    let mut second = task::spawn(b.call("second"));
    assert_pending!(second.poll());
    assert_sent(&mut handle, "first");
    assert!(next_request(&mut handle).is_none());
    assert_pending!(poll_ready(&mut b));
}

#[test]
fn a_call_that_came_too_late_is_sent_when_the_service_is_ready_again() {
    let (service, mut handle) = shared(0);
    let mut late = late_call(&service, &mut handle, "late");
    assert_sent(&mut handle, "quick");
    assert_pending!(late.poll());
    assert!(next_request(&mut handle).is_none());

    handle.allow(1);
    assert!(late.is_woken());
    assert_pending!(late.poll());
    assert_sent(&mut handle, "late").send_response("answer".into());
    assert!(late.is_woken());
    assert_eq!(assert_ready_ok!(late.poll()), "answer");
}

#[test]
fn calls_that_wait_go_in_turn() {
    let (service, mut handle) = shared(0);
    let mut calls: Vec<_> = ["one", "two", "three"]
        .map(|name| {
            // A call that nobody was told ready for waits just as well.
            let mut call = task::spawn(service.clone().call(name));
            assert_pending!(call.poll());
            call
        })
        .into();
    let mut responses = Vec::new();
    for name in ["one", "two", "three"] {
        handle.allow(1);
        // The last that came asks first.
        for call in calls.iter_mut().rev() {
            assert_pending!(call.poll());
        }
        responses.push(assert_sent(&mut handle, name));
    }
}

#[test]
fn a_newcomer_is_not_ready_before_those_who_wait() {
    let (service, mut handle) = shared(0);
    let mut call = task::spawn(service.clone().call("first"));
    assert_pending!(call.poll());
    let mut newcomer = waiting(&service);
    handle.allow(2);
    assert_pending!(newcomer.poll());
    assert_pending!(call.poll());
    assert_sent(&mut handle, "first");
    assert!(newcomer.is_woken());
    assert_ready_ok!(newcomer.poll());
}

#[test]
fn a_call_that_was_never_polled_keeps_nobody_waiting() {
    let (mut service, mut handle) = shared(0);
    let unpolled = service.clone().call("unpolled");
    handle.allow(1);
    assert_ready_ok!(poll_ready(&mut service));
    drop(service.call("sent"));
    assert_sent(&mut handle, "sent");
    drop(unpolled);
    assert!(next_request(&mut handle).is_none());
}

#[test]
fn dropping_a_call_that_waits_sends_nothing_and_lets_the_next_go_on() {
    let (service, mut handle) = shared(0);
    let mut first = task::spawn(service.clone().call("first"));
    let mut second = task::spawn(service.clone().call("second"));
    let mut newcomer = waiting(&service);
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_pending!(newcomer.poll());
    handle.allow(2);
    assert_pending!(second.poll());
    drop(first);
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_sent(&mut handle, "second");
    assert!(newcomer.is_woken());
    assert_ready_ok!(newcomer.poll());
    assert!(next_request(&mut handle).is_none());
}

#[test]
fn the_last_call_in_the_queue_frees_it_when_it_is_dropped() {
    let (service, mut handle) = shared(0);
    let mut call = task::spawn(service.clone().call("dropped"));
    let mut newcomer = waiting(&service);
    assert_pending!(call.poll());
    handle.allow(1);
    assert_pending!(newcomer.poll());
    drop(call);
    assert!(newcomer.is_woken());
    assert_ready_ok!(newcomer.poll());
}

#[test]
fn a_clone_that_was_told_ready_and_goes_takes_no_readiness_along() {
    let (mut service, _handle) = shared(1);
    let mut other = service.clone();
    assert_ready_ok!(poll_ready(&mut other));
    drop(other);
    assert_ready_ok!(poll_ready(&mut service));
}

#[test]
fn an_error_reaches_every_clone_and_every_call_that_waits() {
    let (service, mut handle) = shared(0);
    let mut ready = waiting(&service);
    let mut first = task::spawn(service.clone().call("first"));
    let mut second = task::spawn(service.clone().call("second"));
    assert_pending!(ready.poll());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    handle.send_error("it is over");
    assert!(first.is_woken() && second.is_woken() && ready.is_woken());
    let error = assert_ready_err!(first.poll());
    assert_eq!(error.to_string(), "it is over");
    // The mock tells its error once; each of the others gets what the service then says.
    drop(handle);
    assert!(second.is_woken());
    assert_ready_err!(second.poll());
    assert_ready_err!(ready.poll());
}

#[test]
fn an_error_while_a_call_waits_drops_its_request() {
    let request = Arc::new(());
    let (inner, handle) = mock::pair::<Arc<()>, ()>();
    let mut service = Share::new(inner);
    let mut call = task::spawn(service.call(Arc::clone(&request)));
    assert_pending!(call.poll());
    assert_eq!(Arc::strong_count(&request), 2);
    drop(handle);
    assert_ready_err!(call.poll());
    assert_eq!(Arc::strong_count(&request), 1);
}

#[test]
fn the_service_goes_with_its_last_user() {
    let (service, mut handle) = shared(0);
    let mut call = task::spawn(service.clone().call("waits"));
    assert_pending!(call.poll());
    drop(service);
    let mut end = task::spawn(handle.next_request());
    assert_pending!(end.poll());
    drop(call);
    assert!(end.is_woken());
    assert!(assert_ready!(end.poll()).is_none());
}

/// A service whose `poll_ready` and `call` do what a test says.
struct Scripted<R, C> {
    on_ready: R,
    on_call: C,
}

impl<R, C> Service<&'static str> for Scripted<R, C>
where
    R: FnMut(&mut Context<'_>) -> Poll<Result<(), BoxError>>,
    C: FnMut(&'static str),
{
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        (self.on_ready)(cx)
    }

    fn call(&mut self, request: &'static str) -> Self::Future {
        (self.on_call)(request);
        ready(Ok(()))
    }
}

#[test]
fn a_service_that_wakes_while_it_is_asked_is_asked_again() {
    let mut asked = 0;
    let mut service = Share::new(Scripted {
        on_ready: move |cx: &mut Context<'_>| {
            asked += 1;
            if asked < 3 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        },
        on_call: |_| {},
    });
    let mut ready = task::spawn(poll_fn(move |cx| service.poll_ready(cx)));
    for _ in 1..3 {
        assert_pending!(ready.poll());
        assert!(ready.is_woken());
    }
    assert_ready_ok!(ready.poll());
}

type Boxed = Share<tower::util::BoxService<&'static str, (), BoxError>>;

#[test]
fn whoever_comes_back_while_the_service_is_asked_waits_instead_of_deadlocking() {
    let back: Arc<Mutex<Option<Boxed>>> = Arc::default();
    let came = Arc::new(AtomicUsize::new(0));
    let (comes_back, counted) = (Arc::clone(&back), Arc::clone(&came));
    let inner = Scripted {
        on_ready: move |_: &mut Context<'_>| {
            if let Some(clone) = &mut *comes_back.lock().unwrap() {
                let mut cx = Context::from_waker(Waker::noop());
                assert_pending!(clone.poll_ready(&mut cx));
                drop(clone.clone());
                drop(clone.call("waits"));
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Poll::Ready(Ok(()))
        },
        on_call: |_| {},
    };
    let mut service = Share::new(tower::util::BoxService::new(inner));
    *back.lock().unwrap() = Some(service.clone());
    let mut cx = Context::from_waker(Waker::noop());
    assert_ready_ok!(service.poll_ready(&mut cx));
    assert_eq!(came.load(Ordering::Relaxed), 1);
    drop(service.call("request"));
    *back.lock().unwrap() = None;
}

/// A waker that has a clone of the service, and drops it with itself.
struct Owner(Mutex<Option<Shared>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

#[test]
fn a_waker_may_drop_a_clone_when_it_is_woken_or_dropped() {
    let (mut service, mut handle) = shared(0);
    let owner = Arc::new(Owner(Mutex::new(Some(service.clone()))));
    let waker = Waker::from(Arc::clone(&owner));
    assert_pending!(service.poll_ready(&mut Context::from_waker(&waker)));
    handle.allow(1);
    assert!(owner.0.lock().unwrap().is_none());
    drop(waker);

    *owner.0.lock().unwrap() = Some(service.clone());
    assert_ready_ok!(poll_ready(&mut service));
    drop(service.call("used up"));
    let waker = Waker::from(owner);
    assert_pending!(service.poll_ready(&mut Context::from_waker(&waker)));
    drop(waker);
    // The last of this waker goes with the place that it waited at.
    assert_pending!(poll_ready(&mut service));
}

#[test]
fn a_service_that_panics_is_put_back_and_wakes_the_others() {
    let mut panics = true;
    let service = Share::new(Scripted {
        on_ready: move |_: &mut Context<'_>| {
            if std::mem::take(&mut panics) {
                panic!("the service panicked");
            }
            Poll::Ready(Ok(()))
        },
        on_call: |_| {},
    });
    let mut clone = service.clone();
    let cx = &mut Context::from_waker(Waker::noop());
    catch_unwind(AssertUnwindSafe(|| clone.poll_ready(cx))).expect_err("a panic");
    assert_ready_ok!(clone.poll_ready(cx));
    drop(clone.call("goes on"));
}

#[test]
fn debug_names_the_type() {
    let (service, _handle) = shared(0);
    assert!(format!("{service:?}").starts_with("Share"));
    let call = service.clone().call("waits");
    assert_eq!(format!("{call:?}"), "ShareFuture(\"Waiting\")");
    fn assert_send_sync<T: Send + Sync>(_: &T) {}
    fn assert_unpin<T: Unpin>() {}
    assert_send_sync(&service);
    assert_unpin::<ShareFuture<Inner, String, Pin<Box<dyn Future<Output = ()>>>>>();
    assert!(format!("{:?}", ShareLayer::default()).starts_with("ShareLayer"));
}

/// One exchange at a time, a request is asserted to find it free.
#[derive(Default)]
struct Serial {
    busy: Arc<AtomicUsize>,
    waker: Arc<Mutex<Option<Waker>>>,
    served: Arc<AtomicUsize>,
}

impl Service<u32> for Serial {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.busy.load(Ordering::SeqCst) == 0 {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert_eq!(self.busy.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        struct Done(Arc<AtomicUsize>, Arc<Mutex<Option<Waker>>>);
        impl Drop for Done {
            fn drop(&mut self) {
                self.0.store(0, Ordering::SeqCst);
                let waker = self.1.lock().unwrap().take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
        let done = Done(Arc::clone(&self.busy), Arc::clone(&self.waker));
        let served = Arc::clone(&self.served);
        Box::pin(async move {
            for _ in 0..request % 3 {
                tokio::task::yield_now().await;
            }
            served.fetch_add(1, Ordering::SeqCst);
            drop(done);
            Ok(request)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_forgotten_by_many_clones_on_two_threads() {
    let serial = Serial::default();
    let served = Arc::clone(&serial.served);
    let service = Share::new(serial);
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let mut service = service.clone();
            tokio::spawn(async move {
                for i in 0..200 {
                    let answer = service.ready().await.unwrap().call(n + i);
                    // Some lose patience, with their request sent or not.
                    if (n + i) % 7 == 0 {
                        let _ = tokio::time::timeout(Duration::ZERO, answer).await;
                    } else {
                        assert_eq!(answer.await.unwrap(), n + i);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        let ended = tokio::time::timeout(Duration::from_secs(30), task).await;
        ended.expect("nobody waits for ever").expect("no panic");
    }
    assert!(served.load(Ordering::SeqCst) >= 16 * 200 * 6 / 7);
}

fn not_busy() -> Config {
    Config::builder()
        .detect_within(Duration::from_secs(1))
        .ping_when(PingWhen::NotBusy)
        .build()
        .unwrap()
}

/// Answers requests after a while, one at a time, whether or not the future is polled.
fn slow(
    each: Duration,
) -> impl Service<&'static str, Response = &'static str, Error = BoxError, Future: Send> + Send + 'static
{
    let answers = service_fn(move |request: &'static str| async move {
        tokio::time::sleep(each).await;
        Ok::<_, BoxError>(request)
    });
    NotClone(ConcurrencyLimit::new(answers, 1))
}

struct NotClone<S>(S);

impl<S: Service<&'static str>> Service<&'static str> for NotClone<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: &'static str) -> S::Future {
        self.0.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn below_a_heartbeat_pings_and_calls_take_turns() {
    let layer = HeartbeatLayer::new(not_busy(), ping::request(|| "ping"));
    let mut service = layer.layer(Share::new(slow(Duration::from_millis(100))));
    let handle = service.handle();
    for _ in 0..20 {
        let answer = service.ready().await.unwrap().call("call").await.unwrap();
        assert_eq!(answer, "call");
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert!(handle.is_alive());
    assert!(handle.pongs() >= 15, "{}", handle.pongs());
}

#[tokio::test(start_paused = true)]
async fn a_call_longer_than_the_bound_survives_where_pings_leave_it_alone() {
    let layer = HeartbeatLayer::new(not_busy(), ping::request(|| "ping"));
    let mut service = layer.layer(Share::new(slow(Duration::from_secs(30))));
    let answer = service.ready().await.unwrap().call("slow").await;
    assert_eq!(answer.unwrap(), "slow");
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_a_slow_call_keeps_out_is_blocked_not_lost() {
    let config = Config::detect_within(Duration::from_secs(1)).unwrap();
    let layer = HeartbeatLayer::new(config, ping::request(|| "ping"));
    let mut service = layer.layer(Share::new(slow(Duration::from_secs(30))));
    let answer = service.ready().await.unwrap().call("slow").await;
    let Err(Error::Heartbeat(error)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(error.failure(), Failure::PingBlocked);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_held_back_leaves_the_turn_to_the_ping_that_it_waits_for() {
    let config = Config::builder()
        .detect_within(Duration::from_secs(1))
        .ping_when(PingWhen::NotBusy)
        .verify_after_idle(Duration::from_millis(200))
        .build()
        .unwrap();
    let layer = HeartbeatLayer::new(config, ping::request(|| "ping"));
    // Hard to get: 50 ms from one exchange to the next.
    let mut service = layer.layer(Share::new(slow(Duration::from_millis(50))));
    let handle = service.handle();
    for round in 1..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut held: Vec<_> = (0..3)
            .map(|_| {
                let mut clone = service.clone();
                task::spawn(async move { clone.ready().await.map(|_| ()) })
            })
            .collect();
        for held in &mut held {
            assert_pending!(held.poll());
        }
        let before = handle.pongs();
        assert_eq!(
            service.ready().await.unwrap().call("call").await.unwrap(),
            "call"
        );
        assert!(handle.pongs() > before, "round {round}");
        for held in &mut held {
            assert_ready_ok!(held.poll());
        }
    }
}
