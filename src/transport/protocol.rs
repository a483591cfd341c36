//! What a heartbeat has to know of a protocol.

use std::{num::NonZeroU64, time::Duration};

use crate::error::HeartbeatError;

/// Makes and recognises the heartbeats of one connection's messages.
///
/// [`Lines`](super::Lines), [`Beats`](super::Beats) and, with the feature `websocket`, `WebSocket` are such. One
/// of one's own has to have three methods:
///
/// ```
/// use std::num::NonZeroU64;
/// use tower_heartbeat::transport::{Kind, Protocol};
///
/// enum Frame {
///     Ask(u64),
///     Answer(u64),
///     Payload(Vec<u8>),
/// }
///
/// struct Frames;
///
/// impl Protocol for Frames {
///     type Message = Frame;
///
///     fn classify(&self, frame: &Frame) -> Kind {
///         match frame {
///             Frame::Ask(_) => Kind::Ping,
///             Frame::Answer(nonce) => Kind::Pong(Some(*nonce)),
///             Frame::Payload(_) => Kind::Data,
///         }
///     }
///
///     fn ping(&mut self, nonce: NonZeroU64) -> Option<Frame> {
///         Some(Frame::Ask(nonce.get()))
///     }
///
///     fn pong(&mut self, ping: &Frame) -> Option<Frame> {
///         match ping {
///             Frame::Ask(nonce) => Some(Frame::Answer(*nonce)),
///             Frame::Answer(_) | Frame::Payload(_) => None,
///         }
///     }
/// }
/// # let mut frames = Frames;
/// # let ping = frames.ping(NonZeroU64::MIN).expect("it has pings");
/// # let pong = frames.pong(&ping).expect("it has pongs");
/// # assert_eq!(frames.classify(&ping), Kind::Ping);
/// # assert_eq!(frames.classify(&pong), Kind::Pong(Some(1)));
/// # assert_eq!(frames.classify(&Frame::Payload(vec![])), Kind::Data);
/// ```
pub trait Protocol {
    /// What the transport carries, in both directions.
    type Message;

    /// Returns what a message from the peer is.
    fn classify(&self, message: &Self::Message) -> Kind;

    /// Makes a ping. Its pong repeats the nonce where the protocol has room for one; each ping has
    /// another.
    ///
    /// `None`: there is nothing to ask with. When a ping is due, whatever the peer sends next is then taken for its
    /// pong, and nothing within `pong_timeout`, `max_missed` times, for its death.
    fn ping(&mut self, nonce: NonZeroU64) -> Option<Self::Message>;

    /// Makes the answer to the peer's ping. `None` if there is none, or the transport answers by
    /// itself; the transport is then flushed.
    ///
    /// It goes out at once. While the transport takes nothing, only the newest ping is answered.
    fn pong(&mut self, ping: &Self::Message) -> Option<Self::Message>;

    /// Makes a beat: a sign of life that asks for nothing. Default: none.
    fn beat(&mut self) -> Option<Self::Message> {
        None
    }

    /// Returns the time from beat to beat, the first of which comes that long after connect. Asked once. Under a
    /// millisecond it is one. Default: `None`, no beats.
    fn beat_interval(&self) -> Option<Duration> {
        None
    }

    /// Makes the last message, when this side ends the connection because of `error`. It is written if
    /// the transport takes it at once. Default: none, the transport is just closed.
    fn farewell(&mut self, error: &HeartbeatError) -> Option<Self::Message> {
        let _ = error;
        None
    }

    /// Returns whether the peer owes an answer, or the end of its side, once this side has closed.
    ///
    /// If so, one that is then quiet for the time in which a ping would have found it dead is dead. If
    /// not, it may be quiet for as long as it likes: no ping can be sent any more. Default: `false`.
    fn has_close_handshake(&self) -> bool {
        false
    }
}

/// What a message is to the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The user's. It restarts `idle_timeout`.
    Data,
    /// The peer asks, or just shows that it lives.
    Ping,
    /// The peer's answer to the ping with this nonce. Nonces are never zero, so `Some(0)` answers none.
    ///
    /// `None`, in a protocol without room for nonces: to whichever ping is out.
    Pong(Option<u64>),
    /// The protocol's own. Handed on, and no use of the connection.
    Other,
}
