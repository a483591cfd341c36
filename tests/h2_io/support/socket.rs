//! An IO as awkward as any that the rules allow, and strict about them.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::sleep,
};

use super::random::Random;

/// What an IO is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// How many bytes one write takes, and one read gives, at most.
    pub(crate) write: usize,
    pub(crate) read: usize,
    /// How many percent of the polls are pending, whatever is there.
    pub(crate) write_pends: usize,
    pub(crate) flush_pends: usize,
    pub(crate) read_pends: usize,
    pub(crate) vectored: bool,
    /// Whether the peer gets nothing before a flush.
    pub(crate) buffers: bool,
}

impl Manners {
    /// Takes and gives everything at once.
    pub(crate) const EASY: Manners = Manners {
        write: usize::MAX >> 1,
        read: usize::MAX >> 1,
        write_pends: 0,
        flush_pends: 0,
        read_pends: 0,
        vectored: false,
        buffers: false,
    };
}

/// The near end, for who is tested.
pub(crate) struct Socket(Arc<Mutex<Wire>>);

/// The far end, for the test.
#[derive(Clone)]
pub(crate) struct Far(Arc<Mutex<Wire>>);

struct Wire {
    manners: Manners,
    random: Random,
    accepted: Vec<u8>,
    delivered: usize,
    /// What the last write offered, if it was left pending: the next has to begin with it (TLS).
    retry: Option<Vec<u8>>,
    incoming: VecDeque<u8>,
    is_at_end: bool,
    read_error: Option<io::ErrorKind>,
    write_error: Option<io::ErrorKind>,
    /// Whether a shutdown has begun, and whether it is over.
    is_closing: bool,
    is_shut_down: bool,
    /// Until it is writable, or readable, again.
    write_blocked: bool,
    read_blocked: bool,
    /// As in a socket, the newest of each direction only.
    writer: Option<Waker>,
    reader: Option<Waker>,
}

pub(crate) fn socket(manners: Manners, random: Random) -> (Socket, Far) {
    let wire = Arc::new(Mutex::new(Wire {
        manners,
        random,
        accepted: Vec::new(),
        delivered: 0,
        retry: None,
        incoming: VecDeque::new(),
        is_at_end: false,
        read_error: None,
        write_error: None,
        is_closing: false,
        is_shut_down: false,
        write_blocked: false,
        read_blocked: false,
        writer: None,
        reader: None,
    }));
    (Socket(Arc::clone(&wire)), Far(wire))
}

impl Far {
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut wire = lock(&self.0);
        wire.incoming.extend(bytes);
        wire.wake_reader();
    }

    /// No more comes.
    pub(crate) fn finish(&self) {
        let mut wire = lock(&self.0);
        wire.is_at_end = true;
        wire.wake_reader();
    }

    /// Reads fail once what was sent is read.
    pub(crate) fn fail_reads(&self, error: io::ErrorKind) {
        let mut wire = lock(&self.0);
        wire.read_error = Some(error);
        wire.wake_reader();
    }

    pub(crate) fn fail_writes(&self, error: io::ErrorKind) {
        let mut wire = lock(&self.0);
        wire.write_error = Some(error);
        wire.wake_writer();
    }

    /// Writes are left pending, or no longer.
    pub(crate) fn block_writes(&self, blocked: bool) {
        let mut wire = lock(&self.0);
        wire.write_blocked = blocked;
        wire.wake_writer();
    }

    /// How many bytes a write takes from now on; flushes are pending at need.
    pub(crate) fn have_manners(&self, manners: Manners) {
        lock(&self.0).manners = manners;
    }

    /// What the peer has got.
    pub(crate) fn delivered(&self) -> Vec<u8> {
        let wire = lock(&self.0);
        wire.accepted[..wire.delivered].to_vec()
    }

    /// How many bytes the peer has got.
    pub(crate) fn progress(&self) -> usize {
        lock(&self.0).delivered
    }

    /// What was taken, the peer's or not.
    pub(crate) fn accepted(&self) -> Vec<u8> {
        lock(&self.0).accepted.clone()
    }

    pub(crate) fn unread(&self) -> usize {
        lock(&self.0).incoming.len()
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        lock(&self.0).is_shut_down
    }
}

impl Wire {
    fn wake_reader(&mut self) {
        if !self.read_blocked
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if !self.write_blocked
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
    }

    fn poll_writable(
        &mut self,
        pends: usize,
        shared: &Arc<Mutex<Wire>>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.write_error {
            return Poll::Ready(Err(error.into()));
        }
        if !self.write_blocked && self.random.chance(pends) {
            self.write_blocked = true;
            unblock(shared, &mut self.random, |wire| {
                wire.write_blocked = false;
                wire.wake_writer();
            });
        }
        if self.write_blocked {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.0);
        let pends = wire.manners.read_pends;
        if !wire.read_blocked && wire.random.chance(pends) {
            wire.read_blocked = true;
            unblock(&self.0, &mut wire.random, |wire| {
                wire.read_blocked = false;
                wire.wake_reader();
            });
        }
        let is_over = wire.is_at_end || wire.read_error.is_some();
        if wire.read_blocked || wire.incoming.is_empty() && !is_over {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if wire.incoming.is_empty() {
            return Poll::Ready(wire.read_error.map_or(Ok(()), |error| Err(error.into())));
        }
        let most = wire
            .manners
            .read
            .min(wire.incoming.len())
            .min(buffer.remaining());
        let length = if most == 0 {
            0
        } else {
            wire.random.from(1, most)
        };
        let length = if wire.manners.read_pends == 0 {
            most
        } else {
            length
        };
        let bytes: Vec<u8> = wire.incoming.drain(..length).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = lock(&self.0);
        assert!(!wire.is_closing, "written into a shutdown");
        if let Some(retry) = &wire.retry {
            assert!(
                bytes.starts_with(retry),
                "bad write retry: {retry:?}, then {bytes:?}"
            );
        }
        let pends = wire.manners.write_pends;
        match wire.poll_writable(pends, &self.0, cx) {
            Poll::Pending => {
                wire.retry = Some(bytes.to_vec());
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                wire.retry = None;
                let most = wire.manners.write.min(bytes.len());
                let written = if most == 0 {
                    0
                } else {
                    wire.random.from(1, most)
                };
                let written = if wire.manners.write_pends == 0 {
                    most
                } else {
                    written
                };
                wire.accepted.extend_from_slice(&bytes[..written]);
                if !wire.manners.buffers {
                    wire.delivered = wire.accepted.len();
                }
                Poll::Ready(Ok(written))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        assert!(
            lock(&self.0).manners.vectored,
            "nobody asked for vectored writes"
        );
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).manners.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.0);
        let pends = wire.manners.flush_pends;
        let polled = wire.poll_writable(pends, &self.0, cx);
        if let Poll::Ready(Ok(())) = polled {
            wire.delivered = wire.accepted.len();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).is_closing = true;
        let flushed = self.as_mut().poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            lock(&self.0).is_shut_down = true;
        }
        flushed
    }
}

/// Later, at an instant that is `random`.
fn unblock(shared: &Arc<Mutex<Wire>>, random: &mut Random, unblock: fn(&mut Wire)) {
    let wire = Arc::clone(shared);
    let millis = u64::try_from(random.from(0, 2)).expect("it fits");
    tokio::spawn(async move {
        sleep(Duration::from_millis(millis)).await;
        unblock(&mut lock(&wire));
    });
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}
