//! tower-heartbeat
mod config;
mod error;
mod liveness;
mod moment;
mod rtt;

pub use config::{Config, ConfigBuilder, ConfigError, Evidence, PingWhen, Setting};
pub use error::{BoxError, Error, Failure, HeartbeatError, Stage};
pub use rtt::Rtt;
