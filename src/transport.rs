//! Pings on transports of messages: lines over TCP, WebSocket, any `Stream` + `Sink`.
//!
//! [`HeartbeatStream`] wraps one. A [`Protocol`] tells it how to ping, and which messages are heartbeats:
//!
//! | protocol | the ping | for |
//! |---|---|---|
//! | [`Lines`] | a line of text, `ping` or a word of choice, also numbered | `Framed` with tokio-util's `LinesCodec` |
//! | `WebSocket` (feature `websocket`) | a control frame with a random payload | tokio-tungstenite's `WebSocketStream` |
//! | [`Beats`] | none: each side sends beats, and is judged by whatever it sends | AMQP, STOMP |
//! | one of one's own | what it makes | everything else |
//!
//! ```
//! use std::time::Duration;
//!
//! use futures_util::{SinkExt, StreamExt};
//! use tokio_util::codec::{Framed, LinesCodec};
//! use tower_heartbeat::{Config, Failure, transport::{HeartbeatStream, Lines}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! # let (socket, peer) = tokio::io::duplex(1_024);
//! let lines = Framed::new(socket, LinesCodec::new_with_max_length(65_536));
//! // After 30 s of quiet a ping, 10 s for the pong, three misses.
//! let mut connection = HeartbeatStream::new(lines, Lines::new(), Config::default());
//!
//! connection.send("hello".to_string()).await?;
//! // Nobody ever answers.
//! let error = connection.next().await.expect("an error").unwrap_err();
//! let error = error.heartbeat().expect("not the transport's");
//! assert_eq!(error.failure(), Failure::PongTimeout);
//! assert_eq!(error.waited(), Duration::from_secs(30));
//! assert!(connection.next().await.is_none());
//! # drop(peer);
//! # Ok(())
//! # }
//! ```
//!
//! # What counts
//!
//! Each message that comes in is a sign of life, whether or not it is a heartbeat, with
//! [`Evidence::AnyTraffic`](crate::Evidence::AnyTraffic); with [`hear`] each byte. Half a message and then silence is silence.
//! A reader that is slow leaves messages unread, and its peer unjudged: up to 16 messages are
//! read ahead, and if there are more, the peer lives. That holds for [`Evidence::PongOnly`](crate::Evidence::PongOnly) only if the pong is
//! among them.
//!
//! A stream of messages has no requests. So `idle_timeout` runs from the last message of the user's, in either
//! direction; heartbeats are no use. Nothing is in flight but what [`HeartbeatStream::busy`] says: without it
//! `quiet_timeout` never acts, and [`PingWhen::WhileBusy`](crate::PingWhen::WhileBusy) never pings. `verify_after_idle` and `suspect_after` hold
//! no message back here; they show in the [`Handle`](crate::Handle).
//!
//! A verdict takes some turns of the runtime, in which what lies there is read. Both halves are woken for them; one that is
//! polled only now and then by itself, without waiting, finds out that much later.
//!
//! # The peer's pings
//!
//! They are answered at once, by whichever half is polled; where only the writer is, those that 16 unread messages leave
//! in sight, and after 16 messages of its own where somebody has read before. No flood makes anything grow: while the transport takes nothing, only the newest ping is answered,
//! and after 128 heartbeats in one poll of a reader's, or a few times as many in one of a writer's, others get their turn.
//! [`HeartbeatStream::police_pings`] sends a peer off that pings too often.
//!
//! Both sides may ping. A ping is a sign of life as well, and postpones the other side's: two that ping at equal intervals take turns,
//! or both do, as the latency has it, and neither takes the other for dead.
//!
//! # The server's half
//!
//! [`Serve`] makes the messages of a connection the requests of a service. Pings are answered beside it, and each
//! request is in flight until its answer is flushed. Pings that are requests are
//! [`PongLayer`](crate::pong::PongLayer)'s, around the service.
//!
//! # After `close`
//!
//! Once this side was closed no ping can be sent. Over WebSocket the peer owes a close frame, and is judged by whatever it
//! sends until then; elsewhere a half-closed connection may be quiet for as long as it likes
//! ([`Handle::can_ping`](crate::Handle::can_ping) says so).

mod beats;
mod core;
mod ear;
mod ids;
mod lines;
mod metronome;
mod nonces;
mod outbox;
mod protocol;
mod serve;
mod settings;
mod stream;
mod until;
mod watched;
#[cfg(feature = "websocket")]
mod websocket;

pub use beats::Beats;
pub use ear::{Ear, HearingIo, hear};
pub use ids::Ids;
pub use lines::Lines;
pub(crate) use metronome::Metronome;
pub(crate) use nonces::{Answers, Nonces};
pub(crate) use outbox::{Next, Outbox};
pub use protocol::{Kind, Protocol};
pub use serve::{Serve, ServeError};
pub use stream::HeartbeatStream;
#[cfg(feature = "websocket")]
pub use websocket::WebSocket;
