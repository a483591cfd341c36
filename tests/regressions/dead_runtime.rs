//! What is kept of a runtime that is gone.

use std::fs;

use tokio::runtime::Builder;
use tower_heartbeat::Failure;

use crate::support::{Watched, classic, layer, ms};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_handle_of_a_closed_connection_keeps_nothing_of_its_runtime_open() {
    let layer = layer(classic());
    let before = descriptors();
    let mut handles = Vec::new();
    for _ in 0..20 {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connection = Watched::under(&layer);
            tokio::time::sleep(ms(2)).await;
            handles.push(connection.handle.clone());
            drop(connection);
            tokio::time::sleep(ms(5)).await;
        });
        drop(runtime);
    }
    assert!(
        handles
            .iter()
            .all(|handle| handle.failure() == Some(Failure::Closed))
    );
    let after = descriptors();
    assert!(after <= before + 5, "{before} descriptors, then {after}");
}
