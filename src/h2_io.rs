//! HTTP/2 PINGs, written at the IO.
mod attribution;
mod core;
mod frames;
mod goaway;
mod inbound;
mod layer;
mod outbound;
mod ping_io;
mod policing;
mod registry;
mod slot;
mod streams;
mod watched;

pub use attribution::{Attribution, AttributionBody, AttributionFuture, AttributionLayer};
pub use goaway::GoAway;
pub use layer::{PingConnector, PingFuture, PingLayer};
pub use ping_io::PingIo;
pub use slot::NotHttp2;

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl Role {
    fn other(self) -> Role {
        match self {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        }
    }
}
