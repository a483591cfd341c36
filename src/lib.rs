//! tower-heartbeat

mod completion;
mod config;
mod driver;
mod error;
mod future;
mod handle;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "hyper")]
pub mod hyper;
mod layer;
mod link;
mod liveness;
mod moment;
pub mod ping;
mod rtt;
mod service;
mod spawn;
mod wakers;

pub use completion::{CompleteOnResponse, TrackCompletion};
pub use config::{Config, ConfigBuilder, ConfigError, Evidence, PingWhen, Setting};
pub use driver::Driver;
pub use error::{BoxError, Error, Failure, HeartbeatError, Stage};
pub use future::ResponseFuture;
pub use handle::{Handle, State};
pub use layer::HeartbeatLayer;
pub use link::InFlight;
pub use rtt::Rtt;
pub use service::Heartbeat;
