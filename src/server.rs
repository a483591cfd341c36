//! Limits on the connections of a server.

mod body;
mod connections;
mod event;
mod handle;
mod hyper;
mod io;
mod limits;
mod phase;
mod protocol;
mod reason;
mod service;
mod shared;
mod watch;
mod wire;

pub use body::{RequestBody, ResponseBody};
pub use connections::Connections;
pub use event::Event;
pub use handle::{Busy, Handle, Phase};
pub use hyper::ServeConnection;
pub use io::ServedIo;
pub use limits::{Limits, LimitsBuilder};
pub use reason::{Ended, Reason};
pub use service::{CountedFuture, CountedService};
