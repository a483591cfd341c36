//! A call comes in between the look for room and the ping, as another thread's can.

use std::{
    future::{Future, pending, ready},
    io,
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::time::sleep;
use tower::{Layer, Service, service_fn};
use tower_heartbeat::{
    Config, Failure, HeartbeatLayer, PingWhen,
    ping::{Ping, PingError, PingPanicked, out_of_band},
};

use super::support::{client::ended, secs, within_a_second};

type Answer = Pin<Box<dyn Future<Output = Result<(), io::Error>> + Send>>;
type Intruder = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Has a call slip in right before its first ping, which then waits behind it for ever.
#[derive(Clone)]
struct Overtaken {
    intruder: Intruder,
    behind: bool,
}

impl Ping for Overtaken {
    type Pong = Pin<Box<dyn Future<Output = Result<(), PingError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        Poll::Ready(Ok(()))
    }

    fn ping(&mut self) -> Self::Pong {
        let intruder = self.intruder.lock().expect("no panic").take();
        if let Some(intruder) = intruder {
            intruder();
            self.behind = true;
        }
        if self.behind {
            Box::pin(pending())
        } else {
            Box::pin(ready(Ok(())))
        }
    }

    fn call_off(&mut self) {
        self.behind = false;
    }

    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        Some(NonZeroU32::MIN)
    }
}

/// Whether the connection outlives a call of ten seconds that overtakes its first ping.
async fn lives(config: Config) -> Result<u64, Failure> {
    let intruder = Intruder::default();
    let pings = out_of_band(Overtaken {
        intruder: Arc::clone(&intruder),
        behind: false,
    });
    let slow = service_fn(|()| -> Answer {
        Box::pin(async {
            sleep(secs(10)).await;
            Ok(())
        })
    });
    let service = HeartbeatLayer::new(config, pings).layer(slow);
    let (mut caller, handle) = (service.clone(), service.handle());
    *intruder.lock().expect("no panic") = Some(Box::new(move || {
        tokio::spawn(caller.call(()));
    }));
    tokio::select! {
        failure = ended(&handle) => Err(failure),
        () = sleep(secs(9)) => Ok(handle.pings()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_a_call_may_have_overtaken_does_not_count_as_sent() {
    assert_eq!(lives(within_a_second()).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_panics_when_asked_for_its_limit_ends_its_connection() {
    #[derive(Clone)]
    struct Panics;

    impl Ping for Panics {
        type Pong = std::future::Ready<Result<(), PingError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
            Poll::Ready(Ok(()))
        }

        fn ping(&mut self) -> Self::Pong {
            ready(Ok(()))
        }

        fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
            panic!("no idea")
        }
    }

    let never = service_fn(|()| pending::<Result<(), io::Error>>());
    let layer = HeartbeatLayer::new(within_a_second(), out_of_band(Panics));
    let mut service = layer.layer(never);
    let error = service.call(()).await.expect_err("nobody answers");
    let error = error.heartbeat().expect("the heartbeat's");
    assert_eq!(error.failure(), Failure::PingFailed);
    let source = std::error::Error::source(error).expect("a source");
    let panicked = source.downcast_ref::<PingPanicked>();
    assert_eq!(panicked.expect("a panic").message(), "no idea");
}

#[tokio::test(start_paused = true)]
async fn a_serial_transport_let_its_ping_in_before_and_is_not_made_to_drop_it() {
    let serial = Config::builder()
        .detect_within(secs(1))
        .ping_when(PingWhen::NotBusy)
        .build()
        .expect("legal settings");
    assert_eq!(lives(serial).await, Err(Failure::PongTimeout));
}
