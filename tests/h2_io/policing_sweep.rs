//! Byte for byte: a peer is sent off, whatever goes through meanwhile, and however the IO behaves.

use std::{future::poll_fn, io, io::IoSlice, pin::Pin, time::Duration};

use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    runtime::Builder,
    time::{sleep, timeout},
};
use tower_heartbeat::{Config, Failure, PingPolicy, PingWhen, h2_io::PingIo};

use crate::{
    policing::ping,
    support::{
        Side,
        frames::{GOAWAY, HEADERS, go_away, sequences},
        parser::{self, PREFACE},
        peer::failure_in,
        random::Random,
        socket::{Far, Manners, Socket, socket},
    },
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_go_away_is_the_last_whole_frame_and_stands_between_others(case in cases()) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(run(case));
    }
}

#[derive(Clone, Debug)]
struct Case {
    written: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    /// How many pings come together, behind each piece.
    floods: Vec<usize>,
    manners: Manners,
    /// Whether a reader and a writer are tasks of their own.
    is_split: bool,
    /// Whether this side's own pings go out all the time.
    pings: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let sequences = (sequences(Side::Server, 8), sequences(Side::Client, 8));
    let rest = (any::<bool>(), any::<bool>(), any::<u64>());
    (sequences, vec(0..3_usize, 8), manners(), rest).prop_map(
        |((written, sent), floods, manners, (is_split, pings, seed))| Case {
            written,
            sent,
            floods,
            manners,
            is_split,
            pings,
            seed,
        },
    )
}

fn manners() -> impl Strategy<Value = Manners> {
    let sizes = prop_oneof![
        (1..=7_usize, 1..=5_usize),
        (1..=2_000_usize, 1..=2_000_usize),
    ];
    let pends = (0..60_usize, 0..60_usize, 0..60_usize);
    (sizes, pends, any::<bool>(), any::<bool>()).prop_map(|(sizes, pends, vectored, buffers)| {
        Manners {
            write: sizes.0,
            read: sizes.1,
            write_pends: pends.0,
            flush_pends: pends.1,
            read_pends: pends.2,
            vectored,
            buffers,
        }
    })
}

async fn run(mut case: Case) {
    case.written.retain(|piece| piece.len() < 2_000);
    case.sent.retain(|piece| piece.len() < 2_000);
    let mut random = Random::new(case.seed);
    let (near, far) = socket(case.manners, random.split());
    let io = PingIo::server(near, config(case.pings)).police_pings(policy());
    let handle = io.handle();
    let peer = tokio::spawn(send(far.clone(), case.clone(), random.split()));
    let written = case.written.concat();
    let (reader, writer) = split(io);
    let reading = read(reader);
    let writing = write(writer, written.clone(), random.split());
    let driven = async {
        if case.is_split {
            let reading = tokio::spawn(reading);
            let written = tokio::spawn(writing).await.expect("no panic");
            (reading.await.expect("no panic"), written)
        } else {
            tokio::join!(reading, writing)
        }
    };
    let ended = timeout(Duration::from_secs(1_000), driven).await;
    let ((read, error), write_error) = ended.expect("it ends");
    assert_eq!(failure_in(&error), Some(Failure::PingFlood));
    if let Some(error) = write_error {
        assert_eq!(failure_in(&error), Some(Failure::PingFlood));
    }
    assert_eq!(handle.failure(), Some(Failure::PingFlood));

    // All of it was sent by now, so nothing that it read is missing.
    let sent = peer.await.expect("no panic");
    assert!(sent.starts_with(&read));
    let taken = &sent[..sent.len() - far.unread()];
    assert_eq!(far.delivered(), far.accepted());
    let (others, _) = parser::without_pings(Side::Server, &far.accepted());
    let complaint = go_away(last_stream(taken, &written, &others), 11, b"too_many_pings");
    let before = others.strip_suffix(&complaint[..]).expect("a GOAWAY");
    assert!(written.starts_with(before), "{before:?}");
    let (gaps, _) = parser::places(Side::Server, &written);
    assert!(gaps.contains(&before.len()), "{} in {gaps:?}", before.len());
}

/// The highest stream that the client began in these bytes, unless the server said that it takes less.
fn last_stream(taken: &[u8], written: &[u8], others: &[u8]) -> u32 {
    let stream_of = |head: &[u8]| u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let mut rest = taken.strip_prefix(PREFACE).unwrap_or_default();
    let mut newest = 0;
    while rest.len() >= 9 {
        let stream = stream_of(rest);
        if rest[3] == HEADERS && stream % 2 == 1 {
            newest = newest.max(stream);
        }
        let length = 9 + (usize::from(rest[1]) << 8 | usize::from(rest[2]));
        rest = rest.get(length..).unwrap_or_default();
    }
    let before = others.len() - 31;
    let (frames, _) = parser::frames(Side::Server, &written[..before]);
    let said = frames
        .iter()
        .rfind(|frame| frame.kind() == GOAWAY && frame.payload().len() >= 8)
        .map(|frame| u32::from_be_bytes(frame.payload()[..4].try_into().expect("four")));
    said.map_or(newest, |said| newest.min(said & 0x7fff_ffff))
}

fn policy() -> PingPolicy {
    let hour = Duration::from_secs(60 * 60);
    let policy = PingPolicy::grpc().min_interval(hour).expect("legal");
    policy.while_idle(true)
}

fn config(pings: bool) -> Config {
    let day = Duration::from_secs(24 * 60 * 60);
    let interval = if pings { Duration::from_millis(1) } else { day };
    Config::builder()
        .interval(interval)
        .pong_timeout(day)
        .ready_timeout(day)
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings")
}

async fn send(far: Far, case: Case, mut random: Random) -> Vec<u8> {
    let mut sent = Vec::new();
    for (piece, pings) in case.sent.iter().zip(case.floods) {
        let bytes = [&piece[..], &ping().repeat(pings)].concat();
        far.send(&bytes);
        sent.extend(bytes);
        pause(&mut random).await;
    }
    // Whatever was forgiven, these are too many once nothing more is written.
    for _ in 0..1_000 {
        far.send(&ping());
        sent.extend(ping());
        pause(&mut random).await;
        if far.unread() > 2_000 {
            break;
        }
    }
    sent
}

async fn read(mut io: ReadHalf<PingIo<Socket>>) -> (Vec<u8>, io::Error) {
    let mut read = Vec::new();
    let end = io.read_to_end(&mut read).await;
    (read, end.expect_err("it is sent off"))
}

async fn write(
    mut io: WriteHalf<PingIo<Socket>>,
    bytes: Vec<u8>,
    mut random: Random,
) -> Option<io::Error> {
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + random.from(1, 400)).min(bytes.len());
        let cut = random.from(at, end);
        // The same slices in each retry, as with any writer.
        let slices = [
            IoSlice::new(&bytes[at..cut]),
            IoSlice::new(&bytes[cut..end]),
        ];
        let written = poll_fn(|cx| {
            let io = Pin::new(&mut io);
            if io.is_write_vectored() {
                io.poll_write_vectored(cx, &slices)
            } else {
                io.poll_write(cx, &bytes[at..end])
            }
        });
        match written.await {
            Ok(written) => at += written,
            Err(error) => return Some(error),
        }
        if random.chance(20)
            && let Err(error) = io.flush().await
        {
            return Some(error);
        }
        if random.chance(20) {
            pause(&mut random).await;
        }
    }
    io.flush().await.err()
}

async fn pause(random: &mut Random) {
    let millis = u64::try_from(random.from(0, 3)).expect("it fits");
    sleep(Duration::from_millis(millis)).await;
}
