//! A peer that sends a sequence of frames and answers pings in between.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use crate::support::{
    Side,
    frames::{PING, frame},
    parser,
    random::Random,
    socket::Far,
};

#[derive(Default)]
pub(super) struct Progress {
    pub(super) is_written: AtomicBool,
    pub(super) answered: AtomicUsize,
    /// What the peer sent beside the pongs.
    sent: Mutex<Vec<u8>>,
}

impl Progress {
    pub(super) fn sent(&self) -> Vec<u8> {
        self.sent.lock().expect("no panic").clone()
    }
}

/// Reads what was delivered, answers our pings, sends its own.
pub(super) struct Peer {
    pub(super) side: Side,
    pub(super) far: Far,
    pub(super) progress: Arc<Progress>,
    pub(super) random: Random,
}

impl Peer {
    pub(super) async fn run(mut self, pieces: Vec<Vec<u8>>, pings: usize, torn: usize) {
        let mut pieces = pieces.into_iter();
        // Nothing comes before it.
        let first = pieces.next().expect("SETTINGS");
        self.send_others(&first);
        let (mut seen, mut ours, mut answered) = (0, Vec::new(), 0);
        loop {
            pause(&mut self.random, 2).await;
            if seen < self.far.progress() {
                let delivered = self.far.delivered();
                seen = delivered.len();
                let (frames, _) = parser::frames(self.side.other(), &delivered);
                let pings = frames.iter().filter(|frame| frame.is_our_ping());
                ours = pings.map(|ping| ping.payload().to_vec()).collect();
            }
            if answered < ours.len() && self.random.chance(60) {
                self.answer(&ours[answered]);
                answered += 1;
                self.progress.answered.store(answered, Ordering::Relaxed);
                continue;
            }
            if let Some(piece) = pieces.next() {
                self.send_others(&piece);
                continue;
            }
            if answered >= pings && self.progress.is_written.load(Ordering::Relaxed) {
                break;
            }
        }
        // It may end in the middle of what looks like a pong.
        let pong = frame(PING, 1, 0, b"who asks");
        self.send_others(&pong[..torn]);
        self.far.finish();
    }

    fn answer(&mut self, payload: &[u8]) {
        // Bits that mean nothing.
        let (flags, stream) = match self.random.chance(50) {
            true => (1, 0),
            false => (
                self.random.from(0, 127) * 2 + 1,
                self.random.from(0, 1) << 31,
            ),
        };
        let flags = u8::try_from(flags).expect("it fits");
        let stream = u32::try_from(stream).expect("it fits");
        let pong = frame(PING, flags, stream, payload);
        if self.random.chance(10) {
            // One that nobody asked for.
            self.send_others(&frame(PING, flags, stream, b"who asks"));
        }
        self.far.send(&pong);
        if self.random.chance(10) {
            // Its second and third copies answer nothing.
            self.send_others(&[&pong[..], &pong].concat());
        }
    }

    fn send_others(&self, bytes: &[u8]) {
        self.far.send(bytes);
        self.progress
            .sent
            .lock()
            .expect("no panic")
            .extend_from_slice(bytes);
    }
}

pub(super) async fn pause(random: &mut Random, most: usize) {
    let millis = u64::try_from(random.from(0, most)).expect("it fits");
    sleep(Duration::from_millis(millis)).await;
}
