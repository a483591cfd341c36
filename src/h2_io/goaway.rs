//! The peer's word that it leaves, as it stands on the wire.

use std::{error::Error as StdError, fmt};

use super::frames::{HEAD_LENGTH, Head, kind};

/// The peer sent a GOAWAY (RFC 9113, section 6.8). A source of [`Failure::Transport`](crate::Failure::Transport)
/// and of [`Failure::TooManyPings`](crate::Failure::TooManyPings).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    last_stream_id: u32,
    code: u32,
    debug_data: Vec<u8>,
}

impl GoAway {
    /// Returns the highest stream that the peer may have acted on.
    #[must_use]
    pub fn last_stream_id(&self) -> u32 {
        self.last_stream_id
    }

    /// Returns the error code of RFC 9113, section 7: 0 where nothing is wrong, 11
    /// (`ENHANCE_YOUR_CALM`) from gRPC servers that are pinged too often.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.code
    }

    /// Returns what else the peer said; its first 256 bytes.
    #[must_use]
    pub fn debug_data(&self) -> &[u8] {
        &self.debug_data
    }

    /// Whether the peer is annoyed by pings (gRPC's proposal A8), and by nothing else.
    pub(super) fn is_about_pings(&self) -> bool {
        self.code == ENHANCE_YOUR_CALM && self.debug_data == TOO_MANY_PINGS
    }
}

#[cfg(feature = "server")]
const NO_ERROR: u32 = 0;

const ENHANCE_YOUR_CALM: u32 = 11;

const TOO_MANY_PINGS: &[u8; 14] = b"too_many_pings";

/// The frame by which this side sends a peer off that pings too often, as gRPC's servers do.
pub(super) fn too_many_pings(last_stream_id: u32) -> [u8; COMPLAINT_LENGTH] {
    frame(last_stream_id, ENHANCE_YOUR_CALM, TOO_MANY_PINGS)
}

pub(super) const COMPLAINT_LENGTH: usize = FAREWELL_LENGTH + TOO_MANY_PINGS.len();

/// The frame of a server that leaves with nothing wrong, and takes no streams behind this one.
#[cfg(feature = "server")]
pub(super) fn leaving_after(last_stream_id: u32) -> [u8; FAREWELL_LENGTH] {
    frame(last_stream_id, NO_ERROR, b"")
}

/// Two numbers.
pub(super) const FAREWELL_LENGTH: usize = HEAD_LENGTH + 8;

/// `LENGTH` is the frame's.
fn frame<const LENGTH: usize>(last_stream_id: u32, code: u32, debug_data: &[u8]) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    let (head, payload) = frame.split_at_mut(HEAD_LENGTH);
    head[2] = payload.len() as u8;
    head[3] = kind::GOAWAY;
    payload[..4].copy_from_slice(&last_stream_id.to_be_bytes());
    payload[4..8].copy_from_slice(&code.to_be_bytes());
    payload[8..].copy_from_slice(debug_data);
    frame
}

impl fmt::Display for GoAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer sent GOAWAY with code {}", self.code)?;
        if self.debug_data.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.debug_data.escape_ascii())
    }
}

impl StdError for GoAway {}

/// The payload of a GOAWAY, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Draft(Vec<u8>);

impl Draft {
    /// Takes the next part. Returns the whole at its end, unless it is too short to be one.
    pub(super) fn take(&mut self, head: &Head, payload: &[u8], is_last: bool) -> Option<GoAway> {
        debug_assert!(payload.len() <= head.length);
        let room = LONGEST.saturating_sub(self.0.len());
        self.0
            .extend_from_slice(&payload[..payload.len().min(room)]);
        if !is_last {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let (last_stream_id, rest) = bytes.split_first_chunk()?;
        let (code, debug_data) = rest.split_first_chunk()?;
        Some(GoAway {
            last_stream_id: u32::from_be_bytes(*last_stream_id) & 0x7fff_ffff,
            code: u32::from_be_bytes(*code),
            debug_data: debug_data.to_vec(),
        })
    }
}

/// Two numbers and a short text.
const LONGEST: usize = 8 + 256;
