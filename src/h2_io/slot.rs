//! Where the one ping is: between the driver, which wants it, and the IO, which writes it.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use crate::{driver::Pinger, ping::PingError};

/// Both ends are the same IO's, so nothing races: it is atomic to be shared at all.
#[derive(Clone, Debug)]
pub(super) struct Slot(Arc<AtomicU8>);

const EMPTY: u8 = 0;
/// To be written.
const DUE: u8 = 1;
/// Written and flushed.
const SENT: u8 = 2;
/// Answered.
const ANSWERED: u8 = 3;
/// There is no way to ping.
const FOREIGN: u8 = 4;
/// There is no way to ping any more.
const SHUT: u8 = 5;

impl Slot {
    pub(super) fn new() -> Slot {
        Slot(Arc::new(AtomicU8::new(EMPTY)))
    }

    pub(super) fn is_due(&self) -> bool {
        self.get() == DUE
    }

    pub(super) fn is_sent(&self) -> bool {
        self.get() == SENT
    }

    /// A ping is out. `false` if none is due any more.
    pub(super) fn send(&self) -> bool {
        self.go(DUE, SENT)
    }

    /// A pong is in. `false` if none is awaited any more.
    pub(super) fn answer(&self) -> bool {
        self.go(SENT, ANSWERED)
    }

    pub(super) fn turn_foreign(&self) {
        self.0.store(FOREIGN, Ordering::Relaxed);
    }

    /// Nothing is written any more.
    pub(super) fn shut(&self) {
        self.0.store(SHUT, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn go(&self, from: u8, to: u8) -> bool {
        let is_there = self.get() == from;
        if is_there {
            self.0.store(to, Ordering::Relaxed);
        }
        is_there
    }
}

impl Pinger for Slot {
    fn poll_send(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        self.go(EMPTY, DUE);
        match self.get() {
            SENT | ANSWERED => Poll::Ready(Ok(())),
            FOREIGN => Poll::Ready(Err(PingError::unsupported(NotHttp2))),
            SHUT => Poll::Ready(Err(PingError::unsupported(
                "connection was shut down for writing",
            ))),
            _ => Poll::Pending,
        }
    }

    fn poll_pong(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        if self.go(ANSWERED, EMPTY) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// A PING waits behind no request.
    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        None
    }

    fn is_out(&self) -> bool {
        matches!(self.get(), SENT | ANSWERED)
    }

    fn call_off(&mut self) {
        if !matches!(self.get(), FOREIGN | SHUT) {
            self.0.store(EMPTY, Ordering::Relaxed);
        }
    }

    fn lose(&mut self) {
        self.call_off();
    }
}

/// The bytes of a connection are not HTTP/2's, so they pass as they are and it cannot be pinged. The
/// source of the event that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotHttp2;

impl fmt::Display for NotHttp2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection does not speak HTTP/2")
    }
}

impl std::error::Error for NotHttp2 {}
