//! The two directions of one IO, which two tasks may drive.

use std::task::Waker;

use futures_util::task::AtomicWaker;

/// The direction of a poll. A flush and a shutdown are the writer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Read,
    Write,
}

#[cfg(feature = "io")]
impl Lane {
    pub(crate) fn other(self) -> Lane {
        match self {
            Lane::Read => Lane::Write,
            Lane::Write => Lane::Read,
        }
    }
}

/// Who polled each direction last and was left waiting.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Lanes {
    pub(crate) fn register(&self, lane: Lane, waker: &Waker) {
        match lane {
            Lane::Read => self.reader.register(waker),
            Lane::Write => self.writer.register(waker),
        }
    }

    /// Either may be the one that has something to do, or the one that is gone.
    pub(crate) fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
    }
}
