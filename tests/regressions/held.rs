//! Fifty thousand pings at once to peers that don't answer at once.

use std::{
    convert::Infallible,
    future::{Pending, pending, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::runtime::Builder;
use tower::{Layer, Service};
use tower_heartbeat::{Config, HeartbeatLayer, ping};

const COUNT: usize = 50_000;
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5 } else { 1 });

#[derive(Clone, Default)]
struct Line(Arc<AtomicUsize>);

impl Service<()> for Line {
    type Response = ();
    type Error = Infallible;
    type Future = Pending<Result<(), Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, (): ()) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        pending()
    }
}

#[test]
fn fifty_thousand_pings_that_wait_for_their_pongs_leave_others_their_turns() {
    let mut gaps = Vec::new();
    for _ in 0..6 {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let gap = runtime.block_on(async {
            let line = Line::default();
            let config = Config::builder().interval(Duration::from_secs(3_600));
            let config = config
                .pong_timeout(Duration::from_secs(3_600))
                .build()
                .unwrap();
            let layer = HeartbeatLayer::new(config, ping::request(|| ()));
            let services: Vec<_> = (0..COUNT).map(|_| layer.layer(line.clone())).collect();
            tokio::time::sleep(Duration::from_millis(200)).await;
            for service in &services {
                let handle = service.handle();
                let polled = pin!(handle.ping_now()).poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending());
            }
            let mut longest = Duration::ZERO;
            let mut last = Instant::now();
            while line.0.load(Ordering::Relaxed) < COUNT {
                yield_now().await;
                let now = Instant::now();
                longest = longest.max(now - last);
                last = now;
            }
            longest
        });
        gaps.push(gap);
    }
    let best = gaps.iter().min().unwrap();
    assert!(*best <= LIMIT, "{gaps:?}");
}

/// Back to the end of the queue at once.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
