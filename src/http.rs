//! HTTP, whatever the client: bodies as part of a request, and a request as a ping.
//!
//! Import the items, not this module: `use tower_heartbeat::http` would hide the `http` crate.

mod body;
mod ping;

#[cfg(feature = "tonic")]
pub(crate) use ping::is_from_a_living_peer;

pub use body::{CompleteOnBody, TrackedBody};
pub use ping::{HttpPing, HttpPong, HttpSource, UnexpectedStatus, head, options};
