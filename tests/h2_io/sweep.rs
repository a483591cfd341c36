//! Byte for byte: whatever goes through, and however the IO behaves.

#[path = "sweep/peer.rs"]
mod peer;

use std::{
    future::poll_fn,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    runtime::Builder,
    time::timeout,
};
use tower_heartbeat::{Config, Handle, PingWhen, h2_io::PingIo};

use peer::{Peer, Progress, pause};

use crate::support::{
    Side,
    frames::sequences,
    parser,
    random::Random,
    socket::{Manners, Socket, socket},
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_clients_bytes_pass_as_they_are_with_pings_between_frames(case in cases(Side::Client)) {
        run_paused(case);
    }

    #[test]
    fn a_servers_bytes_pass_as_they_are_with_pings_between_frames(case in cases(Side::Server)) {
        run_paused(case);
    }
}

fn run_paused(case: Case) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run(case));
}

#[derive(Clone, Debug)]
struct Case {
    side: Side,
    written: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    manners: Manners,
    driving: Driving,
    /// Pings all the time, or only when one is asked for: then nothing else wakes anybody.
    dense: bool,
    /// How many pings have to be answered.
    pings: usize,
    /// How much of a pong comes before the end.
    torn: usize,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driving {
    OneTask,
    TwoTasks,
    /// Two tasks, of which the reader goes away in the middle.
    ReaderLeaves,
}

fn cases(side: Side) -> impl Strategy<Value = Case> {
    let driving = prop_oneof![
        Just(Driving::OneTask),
        Just(Driving::TwoTasks),
        Just(Driving::ReaderLeaves),
    ];
    let sequences = (sequences(side, 12), sequences(side.other(), 12));
    let rest = (manners(), driving, any::<bool>(), 0..6_usize, 0..17_usize);
    (sequences, rest, any::<u64>()).prop_map(move |(sequences, rest, seed)| Case {
        side,
        written: sequences.0,
        sent: sequences.1,
        manners: rest.0,
        driving: rest.1,
        dense: rest.2,
        pings: rest.3,
        torn: rest.4,
        seed,
    })
}

fn manners() -> impl Strategy<Value = Manners> {
    let sizes = prop_oneof![
        3 => (1..=7_usize, 1..=5_usize),
        1 => (1..=2_000_usize, 1..=2_000_usize),
    ];
    let pends = (1..60_usize, 0..60_usize, 1..60_usize);
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
    if case.manners.write < 8 {
        // They take thousands of polls, and a few are enough.
        let most = if case.seed.is_multiple_of(16) {
            3_000
        } else {
            400
        };
        case.written.retain(|piece| piece.len() < most);
        case.sent.retain(|piece| piece.len() < most);
    }
    let mut random = Random::new(case.seed);
    let (near, far) = socket(case.manners, random.split());
    let io = match case.side {
        Side::Client => PingIo::client(near, config(case.dense)),
        Side::Server => PingIo::server(near, config(case.dense)),
    };
    tokio::spawn(keep_asking(io.handle(), random.split()));
    let written = case.written.concat();
    let shared = Arc::new(Progress::default());
    let peer = Peer {
        side: case.side.other(),
        far: far.clone(),
        progress: Arc::clone(&shared),
        random: random.split(),
    };
    let peer = tokio::spawn(peer.run(case.sent.clone(), case.pings, case.torn));
    let (reader, writer) = split(io);
    let leaves = case.driving == Driving::ReaderLeaves;
    let stop_at = leaves.then(|| random.from(0, case.sent.concat().len()));
    let reading = read(reader, stop_at);
    let writing = write(writer, written.clone(), Arc::clone(&shared), random.split());
    let driven = async {
        let (read, mut writer) = match case.driving {
            Driving::OneTask => tokio::join!(reading, writing),
            Driving::TwoTasks | Driving::ReaderLeaves => {
                let reading = tokio::spawn(reading);
                let writer = tokio::spawn(writing).await.expect("it writes");
                (reading.await.expect("it reads"), writer)
            }
        };
        writer.shutdown().await.expect("no error");
        read
    };
    let read = match timeout(DEADLINE, driven).await {
        Ok(read) => read,
        Err(_) => panic!(
            "hangs: {} unread, {} of {} written, {} answered of {}",
            far.unread(),
            far.accepted().len(),
            written.len(),
            shared.answered.load(Ordering::Relaxed),
            case.pings,
        ),
    };
    let (others, pings) = parser::without_pings(case.side, &far.accepted());
    assert_same(&others, &written);
    if leaves {
        assert!(shared.sent().starts_with(&read), "it read something else");
        return;
    }
    peer.await.expect("it runs to its end");
    assert_same(&read, &shared.sent());
    assert!(pings >= case.pings, "{pings} pings");
    assert_eq!(far.delivered(), far.accepted());
}

fn assert_same(got: &[u8], expected: &[u8]) {
    let same = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    assert!(
        got == expected,
        "{} bytes instead of {}, different from {same} on: {:?} instead of {:?}",
        got.len(),
        expected.len(),
        &got[same..got.len().min(same + 20)],
        &expected[same..expected.len().min(same + 20)],
    );
}

fn config(dense: bool) -> Config {
    let day = Duration::from_secs(24 * 60 * 60);
    let interval = if dense { Duration::from_millis(1) } else { day };
    Config::builder()
        .interval(interval)
        .pong_timeout(day)
        .ready_timeout(day)
        .ping_when(if dense {
            PingWhen::Always
        } else {
            PingWhen::Quiet
        })
        .build()
        .expect("legal settings")
}

/// Of simulated time; what a case takes is a small part of it.
const DEADLINE: Duration = Duration::from_secs(1_000);

async fn keep_asking(handle: Handle, mut random: Random) {
    while handle.ping_now().await.is_ok() {
        pause(&mut random, 3).await;
    }
}

async fn read(mut io: ReadHalf<PingIo<Socket>>, stop_at: Option<usize>) -> Vec<u8> {
    let mut read = Vec::new();
    while stop_at.is_none_or(|most| read.len() < most)
        && io.read_buf(&mut read).await.expect("no error") > 0
    {}
    read
}

async fn write(
    mut io: WriteHalf<PingIo<Socket>>,
    bytes: Vec<u8>,
    progress: Arc<Progress>,
    mut random: Random,
) -> WriteHalf<PingIo<Socket>> {
    let mut at = 0;
    while at < bytes.len() {
        let most = if random.chance(50) { 40 } else { bytes.len() };
        let end = (at + random.from(1, most)).min(bytes.len());
        // The same slices in each retry, as with any writer.
        let cuts = [random.from(at, end), random.from(at, end)];
        let cuts = [at, cuts[0].min(cuts[1]), cuts[0].max(cuts[1]), end];
        let slices = cuts
            .windows(2)
            .map(|cut| IoSlice::new(&bytes[cut[0]..cut[1]]));
        let slices: Vec<_> = slices.filter(|slice| !slice.is_empty()).collect();
        at += poll_fn(|cx| {
            let io = Pin::new(&mut io);
            if io.is_write_vectored() {
                io.poll_write_vectored(cx, &slices)
            } else {
                io.poll_write(cx, &bytes[at..end])
            }
        })
        .await
        .expect("no error");
        if random.chance(20) {
            io.flush().await.expect("no error");
        }
        if random.chance(20) {
            pause(&mut random, 3).await;
        }
    }
    io.flush().await.expect("no error");
    progress.is_written.store(true, Ordering::Relaxed);
    io
}
