//! What the shared driver once got wrong.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]
#![allow(dead_code, unused_imports, reason = "shared helpers")]

#[path = "regressions/block_on.rs"]
mod block_on;
#[path = "regressions/burst.rs"]
mod burst;
#[path = "regressions/clock_jump.rs"]
mod clock_jump;
#[path = "regressions/crowding.rs"]
mod crowding;
#[path = "regressions/dead_runtime.rs"]
mod dead_runtime;
#[path = "regressions/hidden_pause.rs"]
mod hidden_pause;
#[path = "regressions/origin.rs"]
mod origin;
#[path = "regressions/starved.rs"]
mod starved;
#[path = "regressions/strays.rs"]
mod strays;
#[path = "regressions/subscriber.rs"]
mod subscriber;
#[path = "scale/support/mod.rs"]
mod support;
