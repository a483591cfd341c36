//! What came in: our pongs are cut out of it, everything else is handed on byte for byte.

use super::{
    Role,
    frames::{Frames, HEAD_LENGTH, Part, flag, kind},
    goaway::{Draft, GoAway},
    streams::Streams,
};
use crate::ping_policy::Police;

/// The frame of a PING (RFC 9113, section 6.7).
pub(super) fn ping(flags: u8, payload: [u8; 8]) -> [u8; PING_LENGTH] {
    let mut frame = [
        0,
        0,
        8,
        kind::PING,
        flags,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    frame[HEAD_LENGTH..].copy_from_slice(&payload);
    frame
}

/// A PING and its answer (RFC 9113, section 6.7).
pub(super) const PING_LENGTH: usize = HEAD_LENGTH + 8;

/// The payloads of our pings: random, then counted, so that nobody else's is taken for one.
#[derive(Debug)]
pub(super) struct Payloads {
    first: u64,
    sent: u64,
    answered: u64,
}

impl Payloads {
    pub(super) fn new(random: u64) -> Payloads {
        Payloads {
            first: random,
            sent: 0,
            answered: 0,
        }
    }

    /// The bytes of the next ping.
    pub(super) fn next_ping(&mut self) -> [u8; PING_LENGTH] {
        let payload = self.first.wrapping_add(self.sent);
        self.sent += 1;
        ping(0, payload.to_be_bytes())
    }

    pub(super) fn are_any_sent(&self) -> bool {
        self.sent > 0
    }

    fn are_all_answered(&self) -> bool {
        self.sent == self.answered
    }

    /// Older ones are answered with a newer one.
    fn take(&mut self, payload: u64) -> Pong {
        let number = payload.wrapping_sub(self.first);
        if number < self.answered || number >= self.sent {
            return Pong::Foreign;
        }
        self.answered = number + 1;
        if self.are_all_answered() {
            Pong::Newest
        } else {
            Pong::Older
        }
    }
}

enum Pong {
    Newest,
    /// Of a ping that was given up.
    Older,
    Foreign,
}

#[derive(Debug)]
pub(super) struct Inbound {
    peer: Role,
    frames: Frames,
    /// The beginning of a frame that may be a pong of ours, and was not handed on.
    held: Vec<u8>,
    draft: Draft,
}

/// What some bytes told, beside being there.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) pong: bool,
    pub(super) go_aways: Vec<GoAway>,
    /// There was a ping too many.
    pub(super) flood: bool,
}

impl Inbound {
    pub(super) fn new(role: Role) -> Inbound {
        let peer = role.other();
        Inbound {
            peer,
            frames: match peer {
                Role::Client => Frames::after_preface(),
                Role::Server => Frames::without_preface(),
            },
            held: Vec::new(),
            draft: Draft::default(),
        }
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.frames.is_foreign()
    }

    /// What is held back; less than a [`PING_LENGTH`].
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// What was held back goes on after all, or together with what followed it.
    pub(super) fn release(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Looks through `bytes`, which came in, and closes the gaps that it makes. Returns how many are
    /// to be handed on.
    pub(super) fn scan(
        &mut self,
        bytes: &mut [u8],
        payloads: &mut Payloads,
        streams: &mut Streams,
        mut police: Option<&mut Police>,
        told: &mut Told,
    ) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            if self.frames.is_between() && !payloads.are_all_answered() {
                let rest = &bytes[at..];
                let shown = rest.len().min(PING_LENGTH);
                if is_like_pong(&rest[..shown]) {
                    let Some(payload) = rest[..shown].get(HEAD_LENGTH..).and_then(payload_of)
                    else {
                        self.held.extend_from_slice(rest);
                        break;
                    };
                    match payloads.take(payload) {
                        Pong::Newest => told.pong = true,
                        Pong::Older => {}
                        Pong::Foreign => {
                            // Whole, or its payload would be looked at as a frame.
                            bytes.copy_within(at..at + PING_LENGTH, kept);
                            kept += PING_LENGTH;
                        }
                    }
                    at += PING_LENGTH;
                    continue;
                }
            }
            let rest = &bytes[at..];
            let step = self.frames.step(rest);
            let rest = &rest[..step.length];
            match step.part {
                Part::Other => {}
                Part::Head(head) => {
                    if head.kind == kind::PING
                        && !head.has(flag::ACK)
                        && let Some(police) = &mut police
                    {
                        told.flood |= police.sends_off(streams.is_empty());
                    }
                    streams.begin(self.peer, &head);
                    if head.length == 0 {
                        streams.end(self.peer, &head);
                    }
                }
                Part::Payload { head, is_last } => {
                    if is_last {
                        streams.end(self.peer, &head);
                    }
                    if head.kind == kind::GOAWAY
                        && let Some(go_away) = self.draft.take(&head, rest, is_last)
                    {
                        streams.go_away(self.peer, go_away.last_stream_id());
                        told.go_aways.push(go_away);
                    }
                }
            }
            if at != kept {
                bytes.copy_within(at..at + step.length, kept);
            }
            at += step.length;
            kept += step.length;
        }
        kept
    }
}

/// Whether a frame that begins so may be a PING with the ACK flag.
fn is_like_pong(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take(HEAD_LENGTH)
        .enumerate()
        .all(|(i, byte)| match i {
            2 => *byte == 8,
            3 => *byte == kind::PING,
            4 => byte & flag::ACK != 0,
            // The first bit of a stream is reserved.
            5 => byte & 0x7f == 0,
            _ => *byte == 0,
        })
}

fn payload_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
