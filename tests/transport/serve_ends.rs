//! How serving a connection ends, and what is left of it.

use std::{pin::pin, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::Handle as Runtime,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
#[cfg(feature = "io")]
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tower::{BoxError, Service, service_fn};
use tower_heartbeat::{
    Failure, HeartbeatError, PingWhen,
    transport::{HeartbeatStream, Lines, Serve, ServeError},
};

use crate::{
    serve::{End, ended, failure, line, raw, server, slow_echo, start, tell},
    support::{config, lines, millis, settings},
};

#[tokio::test(start_paused = true)]
async fn answers_in_flight_are_written_after_the_peer_has_closed_its_side() {
    for by_one in [false, true] {
        let (near, mut far) = raw();
        let limit = if by_one { 1 } else { 100 };
        let serve = Serve::new(near, slow_echo()).max_concurrent_requests(limit);
        let serving = start(serve.expect("legal"));
        far.write_all(b"2000 a\n1000 b\n500 c")
            .await
            .expect("taken");
        far.shutdown().await.expect("it closes");
        let mut read = String::new();
        far.read_to_string(&mut read).await.expect("text");
        assert_eq!(read, "a\nb\nc\n");
        ended(serving).await.expect("the peer closed");
    }
}

#[tokio::test(start_paused = true)]
async fn at_a_verdict_requests_in_flight_are_dropped_and_the_socket_closed_at_once() {
    let config = settings()
        .quiet_timeout(millis(2_000))
        .ping_when(PingWhen::NotBusy)
        .build()
        .expect("legal");
    let (near, mut far) = server(config);
    let handle = near.handle();
    let (service, held) = holding();
    let serving = start(Serve::new(near, service));
    let began = Instant::now();
    tell(&mut far, ["a", "b"]).await;
    sleep(millis(10)).await;
    assert_eq!(Arc::strong_count(&held), 4);
    let error = ended(serving).await.expect_err("it is quiet");
    assert_eq!(failure(&error), Failure::ReadTimeout);
    assert!(began.elapsed() >= millis(2_000) && began.elapsed() <= millis(2_100));
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(handle.failure(), Some(Failure::ReadTimeout));
    assert!(far.next().await.is_none());

    let error = BoxError::from(error);
    assert!(HeartbeatError::find(&*error).is_some());
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_it_at_once_also_when_the_peer_has_closed_its_side() {
    for closes in [false, true] {
        let (near, mut far) = raw();
        let (cancel, cancelled) = oneshot::channel::<()>();
        let near = near.until(async { drop(cancelled.await) });
        let (service, held) = holding();
        let serving = start(Serve::new(near, service));
        far.write_all(b"a\n").await.expect("it is taken");
        if closes {
            far.shutdown().await.expect("it closes");
        }
        sleep(millis(100)).await;
        assert!(!serving.is_finished());
        let began = Instant::now();
        drop(cancel);
        let error = ended(serving).await.expect_err("cancelled");
        assert_eq!(failure(&error), Failure::Closed, "{closes}");
        assert_eq!(began.elapsed(), millis(0));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_closes_it_at_once_also_when_the_peer_has_closed_its_side() {
    for closes in [false, true] {
        let (near, mut far) = raw();
        let handle = near.handle();
        let serving = start(Serve::new(near, slow_echo()));
        far.write_all(b"1000 a\n").await.expect("it is taken");
        if closes {
            far.shutdown().await.expect("it closes");
        }
        sleep(millis(100)).await;
        let began = Instant::now();
        handle.close();
        let error = ended(serving).await.expect_err("closed");
        assert_eq!(failure(&error), Failure::Closed);
        assert_eq!(began.elapsed(), millis(0));
        let mut read = String::new();
        far.read_to_string(&mut read).await.expect("text");
        assert_eq!(read, "");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_the_verdict_and_not_begun_is_not_begun_after_it() {
    let (near, mut far) = server(config());
    let handle = near.handle();
    let (mock, mut service) = tower_test::mock::pair::<String, String>();
    service.allow(0);
    let serving = start(Serve::new(near, mock));
    tell(&mut far, ["a", "b"]).await;
    sleep(millis(100)).await;
    service.allow(2);
    handle.close();
    let error = ended(serving).await.expect_err("closed");
    assert_eq!(failure(&error), Failure::Closed);
    assert!(service.next_request().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_drop_leaves_no_task_no_timer_and_no_request() {
    let before = Runtime::current().metrics().num_alive_tasks();
    let (near, mut far) = server(config());
    let handle = near.handle();
    let (service, held) = holding();
    let serve = Serve::new(near, service);
    tell(&mut far, ["a", "b"]).await;
    timeout(millis(100), serve).await.expect_err("it serves");
    assert_eq!(Runtime::current().metrics().num_alive_tasks(), before);
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(handle.failure(), Some(Failure::Closed));
    assert!(far.next().await.is_none());
    let began = Instant::now();
    sleep(millis(60_000)).await;
    assert_eq!(began.elapsed(), millis(60_000));
}

#[tokio::test(start_paused = true)]
async fn the_services_error_is_the_end() {
    let (near, mut far) = server(config());
    let serving = start(Serve::new(near, slow_echo()));
    tell(&mut far, ["100 a", "nonsense", "200 b"]).await;
    // The first is awaited: the error comes in its place.
    assert_eq!(line(&mut far).await, "a");
    let end: End = ended(serving).await;
    let ServeError::Service(error) = end.expect_err("it fails") else {
        panic!("another error")
    };
    assert_eq!(error.to_string(), "no time");
    assert!(far.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_transports_error_is_the_end() {
    let (near, mut far) = raw();
    let (service, held) = holding();
    let serving = start(Serve::new(near, service));
    far.write_all(b"a\n").await.expect("it is taken");
    far.write_all(&[b'x'; 100]).await.expect("it is taken");
    let end = ended(serving).await;
    assert!(matches!(end, Err(ServeError::Read(_))), "{end:?}");
    assert_eq!(Arc::strong_count(&held), 1);

    // The far end is gone when the answer is there.
    let (near, mut far) = duplex(16);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config()).only_answer();
    let serving = start(Serve::new(near, slow_echo()));
    far.write_all(b"100 an answer\n")
        .await
        .expect("it is taken");
    drop(far);
    let end = ended(serving).await;
    assert!(matches!(end, Err(ServeError::Write(_))), "{end:?}");
}

#[cfg(feature = "io")]
#[tokio::test(start_paused = true)]
async fn a_peer_that_closed_its_side_and_takes_nothing_is_bounded_by_a_write_timeout_at_the_io() {
    use tower_heartbeat::io::{LimitedIo, Limits};

    let limits = Limits::builder().write_timeout(millis(2_000)).build();
    let (near, mut far) = duplex(16);
    let near = LimitedIo::new(near, limits.expect("legal"));
    let lines = Framed::new(near, LinesCodec::new());
    let near = HeartbeatStream::new(lines, Lines::new(), config()).only_answer();
    let serving = start(Serve::new(near, slow_echo()));
    far.write_all(b"0 a long answer\n").await.expect("taken");
    far.write_all(b"0 another long answer\n")
        .await
        .expect("taken");
    far.shutdown().await.expect("it closes");
    let began = Instant::now();
    let end = timeout(millis(60_000), serving).await.expect("in time");
    let Err(ServeError::Write(LinesCodecError::Io(error))) = end.expect("no panic") else {
        panic!("another end")
    };
    let found = HeartbeatError::find(&error).expect("the limit's");
    assert_eq!(found.failure(), Failure::WriteTimeout);
    assert!(began.elapsed() <= millis(2_200), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_the_peers_end_has_overtaken_is_no_error() {
    let (near, mut far) = server(config());
    let serving = start(Serve::new(near, slow_echo()));
    far.send("ping").await.expect("it is taken");
    drop(far);
    ended(serving).await.expect("the peer closed");
}

#[tokio::test(start_paused = true)]
async fn all_of_it_goes_with_the_result_though_the_future_is_kept() {
    let (near, mut far) = server(config());
    let (service, held) = holding();
    let mut serve = pin!(Serve::new(near, service));
    tell(&mut far, ["a"]).await;
    serve.as_mut().await.expect_err("it is silent");
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(far.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_out_gets_out_before_this_side_closes() {
    let (near, mut far) = duplex(4);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config()).only_answer();
    let serving = start(Serve::new(near, slow_echo()));
    far.write_all(b"ping\n").await.expect("it is read");
    far.shutdown().await.expect("it closes");
    sleep(millis(100)).await;
    let mut read = String::new();
    far.read_to_string(&mut read).await.expect("text");
    assert_eq!(read, "pong\n");
    ended(serving).await.expect("the peer closed");
}

#[tokio::test(start_paused = true)]
async fn nobody_works_on_for_a_peer_that_is_gone_for_sure() {
    let (near, mut far) = server(config());
    let (service, held) = holding();
    let serving = start(Serve::new(near, service));
    // The pong cannot be written, and there is an end to read.
    tell(&mut far, ["a", "ping"]).await;
    drop(far);
    let began = Instant::now();
    let error = ended(serving).await.expect_err("it is gone");
    assert_eq!(failure(&error), Failure::Transport);
    assert_eq!(began.elapsed(), millis(0));
    assert_eq!(Arc::strong_count(&held), 1);
}

/// Never answers, and the `Arc` that each request, and the service, holds.
fn holding() -> (
    impl Service<String, Response = String, Error = BoxError, Future: Send> + Send,
    Arc<()>,
) {
    let held = Arc::new(());
    let kept = Arc::clone(&held);
    let service = service_fn(move |_: String| {
        let kept = Arc::clone(&kept);
        async move {
            std::future::pending::<()>().await;
            drop(kept);
            Ok(String::new())
        }
    });
    (service, held)
}
