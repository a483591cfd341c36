//! WebSocket's control frames.

use std::num::NonZeroU64;

use tungstenite::{
    Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{Kind, Protocol};
use crate::{
    config::{ConfigError, Setting},
    error::{Failure, HeartbeatError},
};

/// Pings as WebSocket's control frames (RFC 6455, section 5.5), for tokio-tungstenite's `WebSocketStream` on either
/// side.
///
/// Each ping has a random payload of eight bytes, which its pong has to repeat. The peer's pings are answered by
/// tungstenite; the heartbeat sees to it that the answer goes out at once. Close frames are handed on to the
/// user.
///
/// When the heartbeat ends the connection, it says so in a close frame: 1000 ("normal closure") where it was idle or
/// closed on this side, 1008 ("policy violation") to a peer that [pinged too often](super::HeartbeatStream::police_pings),
/// else 1011 ("internal error", as others do it) or [a code of choice](WebSocket::close_code).
/// A peer that doesn't answer this side's close frame, and is quiet, is found dead like one that
/// doesn't answer a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a protocol does nothing without a transport"]
pub struct WebSocket {
    code: CloseCode,
}

impl WebSocket {
    /// Control frames with the code 1011 at a peer's death.
    pub fn new() -> Self {
        WebSocket {
            code: CloseCode::Error,
        }
    }

    /// Sets the code of the close frame with which a peer is left that is dead. Default: 1011.
    ///
    /// # Errors
    ///
    /// [`NotPermitted`](ConfigError::NotPermitted), if the RFC does not permit the code in a frame (1005, say).
    pub fn close_code(self, code: u16) -> Result<Self, ConfigError> {
        let close_code = CloseCode::from(code);
        if !close_code.is_allowed() {
            return Err(ConfigError::NotPermitted {
                setting: Setting::CloseCode,
                value: code.into(),
            });
        }
        Ok(WebSocket { code: close_code })
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocket::new()
    }
}

impl Protocol for WebSocket {
    type Message = Message;

    #[inline]
    fn classify(&self, message: &Message) -> Kind {
        match message {
            Message::Ping(_) => Kind::Ping,
            Message::Pong(payload) => {
                let nonce = <[u8; 8]>::try_from(&payload[..]);
                Kind::Pong(Some(nonce.map_or(0, u64::from_be_bytes)))
            }
            Message::Text(_) | Message::Binary(_) | Message::Frame(_) => Kind::Data,
            Message::Close(_) => Kind::Other,
        }
    }

    fn ping(&mut self, nonce: NonZeroU64) -> Option<Message> {
        let payload = nonce.get().to_be_bytes();
        Some(Message::Ping(payload.to_vec().into()))
    }

    /// tungstenite has answered.
    fn pong(&mut self, _: &Message) -> Option<Message> {
        None
    }

    fn farewell(&mut self, error: &HeartbeatError) -> Option<Message> {
        let code = match error.failure() {
            Failure::IdleTimeout | Failure::Closed => CloseCode::Normal,
            Failure::PingFlood => CloseCode::Policy,
            _ => self.code,
        };
        let reason = Utf8Bytes::from(error.failure().to_string());
        Some(Message::Close(Some(CloseFrame { code, reason })))
    }

    fn has_close_handshake(&self) -> bool {
        true
    }
}
