//! The two messages of a health check, framed for gRPC.

use bytes::{BufMut, Bytes};

/// The number of the one status that a service has when it takes requests.
pub(super) const SERVING: u64 = 1;

/// A gRPC message, not compressed: `HealthCheckRequest { string service = 1; }`.
pub(super) fn encode(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    framed.into()
}

/// Returns the status of `HealthCheckResponse { ServingStatus status = 1; }`.
pub(super) fn decode(framed: &[u8]) -> Option<u64> {
    let (prefix, mut message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || message.len() != usize::try_from(length).ok()? {
        return None;
    }
    // Protobuf leaves out zeros; of a repeated field the last one counts.
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn a_request_is_framed_and_a_long_name_has_a_long_length() {
        assert_eq!(encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(encode("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let name = "n".repeat(300);
        let framed = encode(&name);
        assert_eq!(framed[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(framed[8..], *name.as_bytes());
    }

    #[test]
    fn a_response_is_read_with_fields_that_nobody_knows_yet() {
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        let later = [
            0, 0, 0, 0, 21, 0x12, 1, 0xff, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0x28, 0,
            8, 2,
        ];
        assert_eq!(decode(&later), Some(2));
    }

    #[test]
    fn what_is_no_response_is_not_read() {
        let cases: [&[u8]; 8] = [
            &[],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 2, 0x0b, 0],
            &[0xff; 64],
        ];
        for case in cases {
            assert_eq!(decode(case), None, "{case:?}");
        }
    }
}
