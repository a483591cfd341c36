//! Many connections under one layer: who watches them, and that none disturbs another.
//!
//! Time is paused, but where threads race: there it is real, with wide margins.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "scale/adaptive.rs"]
mod adaptive;
#[path = "scale/faults.rs"]
mod faults;
#[path = "scale/life_cycle.rs"]
mod life_cycle;
#[path = "scale/model.rs"]
mod model;
#[path = "scale/oracle.rs"]
mod oracle;
#[path = "scale/panics.rs"]
mod panics;
#[path = "scale/pauses.rs"]
mod pauses;
#[path = "scale/races.rs"]
mod races;
#[path = "scale/runtimes.rs"]
mod runtimes;
#[path = "scale/spread.rs"]
mod spread;
#[path = "scale/support/mod.rs"]
mod support;
