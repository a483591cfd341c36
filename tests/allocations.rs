//! A request costs no allocation of the heartbeat's own.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tower::{Layer, Service};
use tower_heartbeat::{Config, HeartbeatLayer, ping};

#[tokio::test]
async fn a_request_allocates_nothing_pending_or_not() {
    let layer = HeartbeatLayer::new(Config::default(), ping::request(|| 0));
    let mut service = layer.layer(Echo);
    for polls in [0, 1, 3] {
        // The first request of a thread makes its shard, and the shard its first place.
        request(&mut service, polls);
        let info = allocation_counter::measure(|| {
            for _ in 0..100 {
                request(&mut service, polls);
                request(&mut service.clone(), polls);
            }
        });
        assert_eq!(info.count_total, 0, "pending {polls} times");
    }
}

fn request(service: &mut impl Service<u32, Response = u32>, polls: u32) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut future = pin!(service.call(polls));
    for _ in 0..polls {
        assert!(future.as_mut().poll(&mut cx).is_pending());
    }
    assert!(future.as_mut().poll(&mut cx).is_ready());
}

/// Answers after as many pending polls as the request says.
#[derive(Clone)]
struct Echo;

struct After(u32);

impl Service<u32> for Echo {
    type Response = u32;
    type Error = Infallible;
    type Future = After;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, polls: u32) -> After {
        After(polls)
    }
}

impl Future for After {
    type Output = Result<u32, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0 {
            0 => Poll::Ready(Ok(0)),
            left => {
                self.0 = left - 1;
                Poll::Pending
            }
        }
    }
}
