//! Figures of all connections of the process, for the recorder of the `metrics` facade.
//!
//! | name | kind | unit | labels | what |
//! |---|---|---|---|---|
//! | [`CONNECTIONS`] | gauge | | | connections that are watched, or are about to be |
//! | [`ENDS`] | counter | | `failure` | connections that ended |
//! | [`PINGS`] | counter | | | pings that went out |
//! | [`PONGS`] | counter | | | pings that were answered |
//! | [`UNANSWERED`] | counter | | `outcome`: `missed`, `cancelled` | pings that never will be: their connection died of it, or ended or lost its pings otherwise |
//! | [`MISSES`] | counter | | | pong waits that passed without a sign of life |
//! | [`RTT`] | histogram | seconds | | from ping to pong |
//! | [`SERVED`] | gauge | | | connections that a server serves |
//! | [`SERVED_ENDS`] | counter | | `reason`, `forced`: `true`, `false` | connections of a server that ended |
//!
//! The label `failure` is the [`Failure`] in snake case: `pong_timeout`, `transport`. `idle_timeout` and `closed`
//! are no deaths.
//!
//! [`PINGS`] is at any time the sum of [`PONGS`], [`UNANSWERED`] and the pings that are out.
//!
//! The label `reason` is the `server` module's `Reason` in snake case: `idle`, `client_closed`. Those two figures are its
//! connections alone.
//!
//! All connections of the services' heartbeat and of the `h2_io` module count. No request is counted, so none pays
//! for it.
//!
//! ```
//! use tower_heartbeat::{Config, HeartbeatLayer, ping};
//! # use tower::Layer;
//!
//! let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
//! let figures = recorder.handle();
//! metrics::with_local_recorder(&recorder, || {
//!     tower_heartbeat::metrics::describe();
//!     let layer = HeartbeatLayer::new(Config::default(), ping::none());
//! #   let connection = tower::service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) });
//!     let service = layer.layer(connection);
//!     assert!(figures.render().contains("tower_heartbeat_connections 1"));
//! });
//! ```

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::{error::Failure, rtt::Rtt};

/// Gauge: connections that have not ended.
pub const CONNECTIONS: &str = "tower_heartbeat_connections";
/// Counter: connections that ended, by `failure`.
pub const ENDS: &str = "tower_heartbeat_ends_total";
/// Counter: pings that went out.
pub const PINGS: &str = "tower_heartbeat_pings_total";
/// Counter: pings that were answered.
pub const PONGS: &str = "tower_heartbeat_pongs_total";
/// Counter: pings that never will be answered, by `outcome`: `missed` or `cancelled`.
pub const UNANSWERED: &str = "tower_heartbeat_unanswered_pings_total";
/// Counter: pong waits that passed without a sign of life.
pub const MISSES: &str = "tower_heartbeat_misses_total";
/// Histogram: from ping to pong, in seconds.
pub const RTT: &str = "tower_heartbeat_rtt_seconds";
/// Gauge: connections of a server that have not ended.
pub const SERVED: &str = "tower_heartbeat_served_connections";
/// Counter: connections of a server that ended, by `reason` and whether they were `forced`.
pub const SERVED_ENDS: &str = "tower_heartbeat_served_ends_total";

/// Tells the recorder units and descriptions of all of them. Optional, and once, when it is installed.
pub fn describe() {
    describe_gauge!(CONNECTIONS, Unit::Count, "Connections that have not ended.");
    describe_counter!(ENDS, Unit::Count, "Connections that ended, by failure.");
    describe_counter!(PINGS, Unit::Count, "Pings that went out.");
    describe_counter!(PONGS, Unit::Count, "Pings that were answered.");
    describe_counter!(
        UNANSWERED,
        Unit::Count,
        "Pings that never will be answered: missed, or cancelled."
    );
    describe_counter!(
        MISSES,
        Unit::Count,
        "Pong waits that passed without a sign of life."
    );
    describe_histogram!(RTT, Unit::Seconds, "From ping to pong.");
    describe_gauge!(
        SERVED,
        Unit::Count,
        "Connections of a server that have not ended."
    );
    describe_counter!(
        SERVED_ENDS,
        Unit::Count,
        "Connections of a server that ended, by reason."
    );
}

/// What became of a ping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Answered(Rtt),
    Missed,
    Cancelled,
}

pub(crate) fn begin() {
    gauge!(CONNECTIONS).increment(1);
}

pub(crate) fn end(failure: Failure) {
    counter!(ENDS, "failure" => name_of(failure)).increment(1);
    gone();
}

/// One that was never watched.
pub(crate) fn gone() {
    gauge!(CONNECTIONS).decrement(1);
}

pub(crate) fn ping() {
    counter!(PINGS).increment(1);
}

pub(crate) fn miss() {
    counter!(MISSES).increment(1);
}

pub(crate) fn outcome(outcome: Outcome) {
    match outcome {
        Outcome::Answered(rtt) => {
            counter!(PONGS).increment(1);
            histogram!(RTT).record(rtt.last());
        }
        Outcome::Missed => counter!(UNANSWERED, "outcome" => "missed").increment(1),
        Outcome::Cancelled => counter!(UNANSWERED, "outcome" => "cancelled").increment(1),
    }
}

#[cfg(feature = "server")]
pub(crate) fn begin_served() {
    gauge!(SERVED).increment(1);
}

#[cfg(feature = "server")]
pub(crate) fn end_served(reason: &'static str, forced: bool) {
    let forced = if forced { "true" } else { "false" };
    counter!(SERVED_ENDS, "reason" => reason, "forced" => forced).increment(1);
    gauge!(SERVED).decrement(1);
}

fn name_of(failure: Failure) -> &'static str {
    match failure {
        Failure::PongTimeout => "pong_timeout",
        Failure::PingFailed => "ping_failed",
        Failure::PingBlocked => "ping_blocked",
        Failure::IdleTimeout => "idle_timeout",
        Failure::ReadTimeout => "read_timeout",
        Failure::WriteTimeout => "write_timeout",
        Failure::MaxAge => "max_age",
        Failure::Transport => "transport",
        Failure::UnexpectedPong => "unexpected_pong",
        Failure::MonitorGone => "monitor_gone",
        Failure::TooManyPings => "too_many_pings",
        Failure::PingFlood => "ping_flood",
        Failure::Closed => "closed",
        Failure::Unsupported => "unsupported",
    }
}
