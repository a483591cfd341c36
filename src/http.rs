//! HTTP, whatever the client: bodies as part of a request, and a request as a ping.

mod body;
mod ping;

pub use body::{Body, CompleteOnBody};
pub use ping::{HttpPing, HttpPingSource, HttpPong, UnexpectedStatus, head, options};
