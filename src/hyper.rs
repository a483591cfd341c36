//! hyper's client connections as tower services.

pub mod http2;
