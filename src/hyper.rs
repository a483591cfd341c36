//! hyper's client connections as tower services.

mod ending;
mod error;
pub mod http1;
pub mod http2;
mod make;
mod wire;
