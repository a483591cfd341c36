//! A socket that takes and gives what it is told to, and remembers how it was asked.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Clone, Debug, Default)]
pub(crate) struct Socket(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    /// What is read, one at a time; then nothing comes.
    reads: VecDeque<Vec<u8>>,
    /// How much each write takes at most: nothing is pending. Then everything.
    takes: VecDeque<usize>,
    written: Vec<u8>,
    /// What was refused, and has to come again as it was.
    refused: Option<Vec<u8>>,
    flushed: usize,
}

impl Socket {
    pub(crate) fn gives(&self, bytes: &[u8]) {
        self.0
            .lock()
            .expect("not poisoned")
            .reads
            .push_back(bytes.to_vec());
    }

    pub(crate) fn takes(&self, room: &[usize]) {
        self.0.lock().expect("not poisoned").takes.extend(room);
    }

    pub(crate) fn written(&self) -> Vec<u8> {
        self.0.lock().expect("not poisoned").written.clone()
    }

    /// How much was written before the last flush.
    pub(crate) fn flushed(&self) -> usize {
        self.0.lock().expect("not poisoned").flushed
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.lock().expect("not poisoned").reads.pop_front() {
            Some(bytes) => {
                buffer.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut script = self.0.lock().expect("not poisoned");
        if let Some(refused) = script.refused.take() {
            assert_eq!(refused, bytes, "bad write retry");
        }
        let room = script.takes.pop_front().unwrap_or(usize::MAX);
        if room == 0 {
            script.refused = Some(bytes.to_vec());
            return Poll::Pending;
        }
        let taken = &bytes[..room.min(bytes.len())];
        script.written.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut script = self.0.lock().expect("not poisoned");
        script.flushed = script.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
