//! A subscriber that panics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::time::{sleep, timeout};
use tower_heartbeat::Failure;
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use crate::support::{Mood, Watched, classic, layer, ms, settle};

#[derive(Clone, Default)]
struct Panics {
    in_enter: Arc<AtomicBool>,
    in_event: Arc<AtomicBool>,
    ids: Arc<AtomicU64>,
}

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let ours = event.metadata().target().starts_with("tower_heartbeat");
        assert!(!ours || std::thread::panicking() || !self.in_event.load(Ordering::Relaxed));
    }
    fn enter(&self, _: &Id) {
        assert!(std::thread::panicking() || !self.in_enter.swap(false, Ordering::Relaxed));
    }
    fn exit(&self, _: &Id) {}
}

/// The connection that is looked at is in no table then, and nobody ends it.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_when_a_span_is_entered_leaves_no_call_hanging() {
    let panics = Panics::default();
    let _guard = tracing::dispatcher::set_default(&Dispatch::new(panics.clone()));
    let layer = layer(classic());
    let connections = Watched::many(&layer, 3);
    sleep(ms(1_500)).await;
    settle().await;
    connections[0].peer.be(Mood::Frozen);
    let call = connections[0].call();
    settle().await;
    panics.in_enter.store(true, Ordering::Relaxed);
    let outcome = timeout(ms(60_000), call).await;
    assert!(outcome.is_ok(), "it hangs");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_at_an_event_leaves_no_call_hanging() {
    let panics = Panics::default();
    let _guard = tracing::dispatcher::set_default(&Dispatch::new(panics.clone()));
    let layer = layer(classic());
    let connections = Watched::many(&layer, 3);
    sleep(ms(1_500)).await;
    settle().await;
    connections[0].peer.be(Mood::Frozen);
    let call = connections[0].call();
    settle().await;
    panics.in_event.store(true, Ordering::Relaxed);
    let outcome = timeout(ms(60_000), call).await;
    assert!(outcome.is_ok(), "it hangs");
}
