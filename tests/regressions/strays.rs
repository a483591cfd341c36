//! Connections that were wrapped outside of a runtime, and used in two.

use tokio::runtime::Builder;
use tower_heartbeat::Failure;

use crate::support::{Mood, Watched, call, classic, layer, ms, paused_runtime, settle};

/// The first runtime still exists, but nobody runs it; the second one has no say.
#[test]
fn a_stray_that_is_used_in_a_running_runtime_is_watched_there() {
    let somewhere = paused_runtime();
    let (first, second) = {
        let _entered = somewhere.enter();
        // `Watched` asks for the time; its layer is asked outside.
        let layer = layer(classic());
        drop(_entered);
        (
            std::thread::scope(|scope| scope.spawn(|| Watched::under(&layer)).join().unwrap()),
            std::thread::scope(|scope| scope.spawn(|| Watched::under(&layer)).join().unwrap()),
        )
    };
    let one = Builder::new_current_thread().enable_time().build().unwrap();
    let two = Builder::new_current_thread().enable_time().build().unwrap();
    one.block_on(async { first.served().await });
    two.block_on(async {
        second.served().await;
        second.peer.be(Mood::Frozen);
        let call = second.call();
        let outcome = tokio::time::timeout(ms(4_000), call).await;
        assert!(outcome.is_ok(), "nobody watches it");
    });
    drop(one);
}
