//! Endpoints for tower's `Balance` that leave when they are dead, and come back.
//!
//! `Balance` drops an endpoint whose `poll_ready` fails, and nobody offers it again. [`Endpoints`] is the
//! `Discover` that does: it connects each target, offers the connection, removes it as soon as it takes
//! no more calls, and connects again, with a back-off for each ([`reconnect`](crate::reconnect)).
//!
//! ```text
//! retry > buffer > ReadyLimit > Balance > (PendingRequestsDiscover > Endpoints) > heartbeat > connection
//! ```
//!
//! - With `suspect_after` new calls go to other endpoints while one is quiet, and come back to
//!   it with a sign of life; those in flight go on. The endpoint's readiness is taken back for that, which `Balance`
//!   is made for, and other callers of a `Service` are not: an [`Endpoint`] belongs below a `Balance`.
//! - While no endpoint is left, `Balance` is pending for ever; [`ready_limit`](crate::ready_limit) bounds it.
//! - [`Load`] goes through to the connection's own; pings are no load. tower's
//!   `PendingRequestsDiscover` and `PeakEwmaDiscover` around [`Endpoints`] measure one.
//!
//! ```
//! use std::time::Duration;
//! use tower::{Layer, Service, ServiceExt, balance::p2c::Balance};
//! use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
//! use tower_heartbeat::balance::Endpoints;
//! use tower_heartbeat::{Config, HeartbeatLayer, make::MakeHeartbeatLayer, ping};
//! use tower_heartbeat::{ready_limit::ReadyLimitLayer, reconnect::Delays};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let connect = tower::service_fn(|name: &'static str| {
//!     let connection = tower::service_fn(move |_: &'static str| async move {
//!         Ok::<_, std::io::Error>(name)
//!     });
//!     std::future::ready(Ok::<_, std::io::Error>(connection))
//! });
//! let heartbeat = HeartbeatLayer::new(Config::default(), ping::request(|| "PING"));
//! let make = MakeHeartbeatLayer::new(heartbeat).layer(connect);
//!
//! let endpoints = Endpoints::fixed(make, [(1, "left"), (2, "right")]).delays(Delays::default());
//! let troubles = endpoints.troubles();
//! let balance = Balance::new(PendingRequestsDiscover::new(endpoints, CompleteOnResponse::default()));
//! let limit = ReadyLimitLayer::new(Duration::from_secs(5))?.because(move || troubles.last());
//! let mut service = limit.layer(balance);
//!
//! let answer = service.ready().await?.call("who?").await?;
//! assert!(["left", "right"].contains(&answer));
//! # Ok(())
//! # }
//! ```

mod endpoint;
mod endpoints;
mod targets;
mod troubles;

use tower::load::Load;

pub use self::{endpoint::Endpoint, endpoints::Endpoints, targets::Fixed, troubles::Troubles};
use crate::service::Heartbeat;

impl<S, C> Load for Heartbeat<S, C>
where
    S: Load,
{
    type Metric = S::Metric;

    fn load(&self) -> S::Metric {
        self.get_ref().load()
    }
}
