//! Bytes that an idle connection with a heartbeat holds, as requested from the allocator.
//!
//! `cargo bench --bench footprint`

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
};

use tower::{Layer, Service};
use tower_heartbeat::{Config, HeartbeatLayer, ping};

const CONNECTIONS: usize = 100_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let layer = HeartbeatLayer::new(Config::default(), ping::request(|| ()));
    let mut connections = Vec::with_capacity(CONNECTIONS);
    let idle = bytes(&runtime, || {
        connections.extend((0..CONNECTIONS).map(|_| layer.layer(Trivial)));
    });
    let used = bytes(&runtime, || {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for connection in &mut connections {
            assert!(connection.poll_ready(&mut cx).is_ready());
            drop(connection.call(()));
        }
    });
    println!("{CONNECTIONS} connections, bytes requested each");
    println!("idle, never used      {:7.1}", each(idle));
    println!("after the first use   {:7.1}", each(idle + used));
    println!(
        "the service itself    {:7} (in place, not in the above)",
        size_of_val(&connections[0])
    );
    black_box(&connections);
}

/// Net bytes that `work` and the drivers it starts ask for.
fn bytes(runtime: &tokio::runtime::Runtime, work: impl FnOnce()) -> i64 {
    let info = allocation_counter::measure(|| {
        runtime.block_on(async {
            work();
            // Every driver has its first poll, and goes to sleep.
            for _ in 0..CONNECTIONS / 10 {
                tokio::task::yield_now().await;
            }
        });
    });
    info.bytes_current
}

fn each(bytes: i64) -> f64 {
    bytes as f64 / CONNECTIONS as f64
}

#[derive(Clone)]
struct Trivial;

impl Service<()> for Trivial {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}
