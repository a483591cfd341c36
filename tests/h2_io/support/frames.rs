//! Frames, and legal sequences of them.

use proptest::{collection::vec, prelude::*};

use super::{
    Side,
    parser::{OWN, PREFACE},
    random::Random,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it fits").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn go_away(last: u32, code: u32, text: &[u8]) -> Vec<u8> {
    let payload = [&last.to_be_bytes(), &code.to_be_bytes(), text].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// What `side` begins with.
pub(crate) fn opening(side: Side) -> Vec<u8> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    match side {
        Side::Client => [PREFACE, &settings].concat(),
        Side::Server => settings,
    }
}

/// What a side sends, in pieces between which a PING may stand.
pub(crate) fn sequences(side: Side, most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let settings = vec(any::<[u8; 6]>(), 0..3);
    (settings, vec(pieces(side), 0..most)).prop_map(move |(settings, mut pieces)| {
        let settings = frame(SETTINGS, 0, 0, &settings.concat());
        let first = match side {
            Side::Client => [PREFACE, &settings].concat(),
            Side::Server => settings,
        };
        pieces.insert(0, first);
        pieces
    })
}

fn pieces(side: Side) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => blocks(side),
        4 => (any::<bool>(), streams(), payloads(300)).prop_map(|(end, stream, payload)| {
            frame(DATA, u8::from(end), stream, &payload)
        }),
        1 => payloads(20_000).prop_map(|payload| frame(DATA, 0, 1, &payload)),
        1 => Just(frame(SETTINGS, ACK, 0, &[])),
        2 => (any::<bool>(), any::<[u8; 4]>()).prop_map(|(ack, payload)| {
            frame(PING, u8::from(ack), 0, &[OWN, &payload].concat())
        }),
        1 => (any::<bool>(), payloads(20)).prop_map(|(ack, payload)| {
            // Of a length that may be wrong; then it is nobody's.
            let payload = [OWN, &payload].concat();
            frame(PING, u8::from(ack), 0, &payload)
        }),
        1 => (0..3_usize, payloads(300)).prop_map(|(code, text)| {
            go_away(0x7fff_ffff, [0, 2, 11][code], &text)
        }),
        1 => payloads(7).prop_map(|short| frame(GOAWAY, 0, 0, &short)),
        1 => (streams(), any::<[u8; 4]>()).prop_map(|(stream, code)| {
            frame(RST_STREAM, 0, stream, &code)
        }),
        1 => (streams(), any::<[u8; 4]>()).prop_map(|(stream, increment)| {
            frame(WINDOW_UPDATE, 0, stream, &increment)
        }),
        1 => (10..=255_u8, any::<u8>(), any::<u32>(), payloads(40)).prop_map(
            |(kind, flags, stream, payload)| frame(kind, flags, stream, &payload)
        ),
    ]
}

/// A header block in one frame or in several.
fn blocks(side: Side) -> impl Strategy<Value = Vec<u8>> {
    let first = match side {
        Side::Client => HEADERS..=HEADERS,
        Side::Server => HEADERS..=PUSH_PROMISE,
    };
    let first = first.prop_map(|kind| {
        if kind == HEADERS {
            HEADERS
        } else {
            PUSH_PROMISE
        }
    });
    (first, any::<u8>(), streams(), vec(payloads(60), 1..5)).prop_map(
        |(first, flags, stream, parts)| {
            let last = parts.len() - 1;
            let part = |(i, part): (usize, &Vec<u8>)| {
                let kind = if i == 0 { first } else { CONTINUATION };
                let end = if i == last { END_HEADERS } else { 0 };
                frame(kind, flags & !END_HEADERS | end, stream, part)
            };
            parts.iter().enumerate().flat_map(part).collect()
        },
    )
}

fn streams() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => (0..20_u32).prop_map(|n| 2 * n + 1),
        1 => (1..20_u32).prop_map(|n| 2 * n),
        // The reserved bit means nothing.
        1 => (0..20_u32).prop_map(|n| 0x8000_0000 | (2 * n + 1)),
    ]
}

/// Often short, and often like frames.
fn payloads(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => vec(any::<u8>(), 0..most.min(12)),
        1 => (0..most, any::<u64>()).prop_map(|(length, seed)| noise(length, seed)),
        1 => (0..most).prop_map(|length| {
            let pong = frame(PING, ACK, 0, b"userpong");
            pong.into_iter().cycle().take(length).collect()
        }),
    ]
}

/// A byte at a time is slow to make up.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = (0..length.div_ceil(8)).flat_map(|_| random.next().to_be_bytes());
    words.take(length).collect()
}
