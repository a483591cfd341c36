//! Where the one ping is: between the driver, which wants it, and the transport, which writes it.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use crate::{driver::Pinger, ping::PingError};

/// Both ends are the same transport's, so nothing races: it is atomic to be shared at all.
#[derive(Clone)]
pub(crate) struct Slot(Arc<Shared>);

struct Shared {
    state: AtomicU8,
    refusal: Mutex<Option<PingError>>,
}

const EMPTY: u8 = 0;
/// To be written.
const DUE: u8 = 1;
/// Written and flushed.
const SENT: u8 = 2;
/// Answered.
const ANSWERED: u8 = 3;
/// There is no way to ping.
const REFUSED: u8 = 4;

impl Slot {
    pub(super) fn new() -> Slot {
        Slot(Arc::new(Shared {
            state: AtomicU8::new(EMPTY),
            refusal: Mutex::new(None),
        }))
    }

    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.get() == DUE
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.get() == SENT
    }

    /// A ping is out. `false` if none is due any more.
    pub(crate) fn send(&self) -> bool {
        self.go(DUE, SENT)
    }

    /// A pong is in. `false` if none is awaited any more.
    pub(crate) fn answer(&self) -> bool {
        self.go(SENT, ANSWERED)
    }

    /// From now on the answer to a ping that is due is `refusal`.
    pub(crate) fn refuse(&self, refusal: PingError) {
        *self.refusal() = Some(refusal);
        self.0.state.store(REFUSED, Ordering::Relaxed);
    }

    fn refusal(&self) -> std::sync::MutexGuard<'_, Option<PingError>> {
        self.0
            .refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> u8 {
        self.0.state.load(Ordering::Relaxed)
    }

    fn go(&self, from: u8, to: u8) -> bool {
        let is_there = self.get() == from;
        if is_there {
            self.0.state.store(to, Ordering::Relaxed);
        }
        is_there
    }
}

impl Pinger for Slot {
    fn poll_send(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PingError>> {
        self.go(EMPTY, DUE);
        match self.get() {
            SENT | ANSWERED => Poll::Ready(Ok(())),
            REFUSED => match self.refusal().clone() {
                Some(refusal) => Poll::Ready(Err(refusal)),
                None => Poll::Pending,
            },
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

    /// It waits behind no request.
    fn max_concurrent_requests(&self) -> Option<NonZeroU32> {
        None
    }

    fn is_out(&self) -> bool {
        matches!(self.get(), SENT | ANSWERED)
    }

    fn call_off(&mut self) {
        if self.get() != REFUSED {
            self.0.state.store(EMPTY, Ordering::Relaxed);
        }
    }

    fn lose(&mut self) {
        self.call_off();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.get() {
            EMPTY => "Empty",
            DUE => "Due",
            SENT => "Sent",
            ANSWERED => "Answered",
            _ => "Refused",
        })
    }
}
