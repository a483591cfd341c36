//! Whatever bytes go through, HTTP/2 or not: the crate's idea of where a frame ends against the
//! parser's.

use std::{future::poll_fn, io, pin::Pin, task::Poll, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Builder,
    time::sleep,
};
use tower_heartbeat::{Config, PingWhen, h2_io::PingIo};

use crate::support::{
    Side,
    frames::{ACK, PING, frame, opening},
    parser::places,
    random::Random,
    socket::{Far, Manners, socket},
};

/// Has `data` say what is written, what is sent, and how.
pub(crate) fn pass(data: &[u8]) {
    let Some(([bits, cut, seed], data)) = data.split_first_chunk() else {
        return;
    };
    let side = if bits & 1 == 0 {
        Side::Client
    } else {
        Side::Server
    };
    let (written, sent) = data.split_at(data.len() * usize::from(*cut) / 256);
    let opened = |side, bytes: &[u8]| {
        let opening = if bits & 2 == 0 {
            opening(side)
        } else {
            Vec::new()
        };
        [&opening[..], bytes].concat()
    };
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let pass = Pass {
        side,
        written: opened(side, written),
        sent: opened(side.other(), sent),
        random: Random::new(u64::from(*seed) << 8 | u64::from(*bits)),
    };
    runtime.block_on(pass.run());
}

struct Pass {
    side: Side,
    written: Vec<u8>,
    sent: Vec<u8>,
    random: Random,
}

impl Pass {
    async fn run(mut self) {
        let pends = if self.random.chance(50) { 30 } else { 0 };
        let manners = Manners {
            write: self.random.from(1, 40),
            read: self.random.from(1, 40),
            write_pends: pends,
            flush_pends: pends,
            read_pends: pends,
            vectored: false,
            buffers: false,
        };
        let (near, far) = socket(manners, self.random.split());
        let config = restless();
        let mut io = match self.side {
            Side::Client => PingIo::client(near, config),
            Side::Server => PingIo::server(near, config),
        };
        let (_, ends) = places(self.side.other(), &self.sent);
        let (mut at, mut end, mut came, mut answered) = (0, 0, 0, 0);
        let mut read = Vec::new();
        for turn in 0.. {
            assert!(turn < 100_000, "hangs");
            sleep(Duration::from_millis(1)).await;
            if at == end {
                end = self.written.len().min(end + self.random.from(1, 60));
            }
            match once(&mut io, &self.written[at..end], &mut read).await {
                Ok(Some(written)) => at += written,
                Ok(None) => break,
                Err(error) => panic!("{error}"),
            }
            let pings = self.our_pings(&far);
            let answers = self.random.chance(50) && ends.contains(&came);
            if answers && answered < pings.len() {
                far.send(&frame(PING, ACK, 0, &pings[answered]));
                answered += 1;
            } else if came < self.sent.len() {
                let next = ends.iter().find(|end| **end > came);
                let most = next.map_or(self.sent.len(), |end| *end) - came;
                let length = self.random.from(1, most.min(60));
                far.send(&self.sent[came..came + length]);
                came += length;
            } else if at == self.written.len() {
                far.finish();
            }
        }
        assert!(
            read == self.sent,
            "read {read:?} instead of {:?}",
            self.sent
        );
        self.our_pings(&far);
    }

    /// The payloads of the pings, each of which stands where it may, in what was written.
    fn our_pings(&self, far: &Far) -> Vec<Vec<u8>> {
        let wire = far.accepted();
        let (gaps, _) = places(self.side, &self.written);
        let (mut pings, mut at, mut rest) = (Vec::new(), 0, &wire[..]);
        while let [first, ..] = rest {
            let head = [0, 0, 8, PING, 0, 0, 0, 0, 0];
            let is_ping = rest.iter().zip(&head).all(|(a, b)| a == b);
            if gaps.contains(&at) && is_ping {
                let Some((ping, behind)) = rest.split_first_chunk::<17>() else {
                    // Nobody can tell yet whose it is.
                    break;
                };
                if !self.written[at..].starts_with(ping) {
                    pings.push(ping[9..].to_vec());
                    rest = behind;
                    continue;
                }
            }
            assert_eq!(self.written.get(at), Some(first), "{at}: {rest:?}");
            at += 1;
            rest = &rest[1..];
        }
        pings
    }
}

/// Polls each direction once. Returns how much was written; `None` at the end of what comes in.
async fn once<T>(io: &mut T, bytes: &[u8], read: &mut Vec<u8>) -> io::Result<Option<usize>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        let mut written = 0;
        if !bytes.is_empty()
            && let Poll::Ready(result) = Pin::new(&mut *io).poll_write(cx, bytes)
        {
            written = result?;
        }
        if let Poll::Ready(result) = Pin::new(&mut *io).poll_flush(cx) {
            result?;
        }
        let mut space = [0; 64];
        let mut buffer = ReadBuf::new(&mut space);
        if let Poll::Ready(result) = Pin::new(&mut *io).poll_read(cx, &mut buffer) {
            result?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(None));
            }
            read.extend_from_slice(buffer.filled());
        }
        Poll::Ready(Ok(Some(written)))
    })
    .await
}

fn restless() -> Config {
    let day = Duration::from_secs(24 * 60 * 60);
    Config::builder()
        .interval(Duration::from_millis(1))
        .pong_timeout(day)
        .ready_timeout(day)
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings")
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::pass;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000,
            failure_persistence: None,
            max_shrink_time: 20_000,
            ..ProptestConfig::default()
        })]

        #[test]
        fn anything_passes_byte_for_byte(head: [u8; 3], parts in vec(parts(), 0..12)) {
            pass(&[&head[..], &parts.concat()].concat());
        }
    }

    /// Bytes that are like frames now and then.
    fn parts() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..20),
            (
                0..40_u8,
                0..10_u8,
                any::<u8>(),
                0..6_u8,
                vec(any::<u8>(), 0..40)
            )
                .prop_map(|(length, kind, flags, stream, rest)| {
                    let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
                    [&head[..], &rest].concat()
                }),
        ]
    }
}
