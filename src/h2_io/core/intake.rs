//! The reading half: pongs are kept, everything else is handed on.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::Core;
use crate::{
    h2_io::{
        NotHttp2,
        frames::HEAD_LENGTH,
        inbound::{PING_LENGTH, Told},
    },
    ping::PingError,
};

impl Core {
    /// Reads for nobody, so that a pong which lies there is found.
    pub(super) fn read_ahead<T>(&mut self, io: &mut T)
    where
        T: AsyncRead + Unpin,
    {
        let waker = self.inline.waker().clone();
        let mut cx = Context::from_waker(&waker);
        let mut ahead = mem::take(&mut self.ahead);
        while ahead.len() < AHEAD && self.read_error.is_none() {
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            match self.read(io, &mut cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => break,
                Poll::Ready(Ok(())) => ahead.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(error)) => self.read_error = Some(error),
            }
        }
        if ahead.len() >= AHEAD {
            // The pong may lie behind it.
            self.watched.heard();
        }
        if !ahead.is_empty() || self.read_error.is_some() {
            self.inline.wake_lanes();
        }
        self.ahead = ahead;
    }

    /// Reads what is to be handed on; at the end of the stream, nothing.
    pub(super) fn read<T>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead + Unpin,
    {
        if buffer.remaining() == 0 {
            return Pin::new(io).poll_read(cx, buffer);
        }
        loop {
            if !self.ahead.is_empty() {
                let length = self.ahead.len().min(buffer.remaining());
                buffer.put_slice(&self.ahead[..length]);
                self.ahead.drain(..length);
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = self.read_error.take() {
                return Poll::Ready(Err(error));
            }
            // Nothing more is read from one that is sent off.
            if self.dismissal.is_some() {
                return Poll::Pending;
            }
            if self.inbound.held() > 0 {
                ready!(self.read_held(io, cx));
                continue;
            }
            let before = buffer.filled().len();
            ready!(self.poll_io(io, cx, buffer)).inspect_err(|e| self.watched.broke(e))?;
            let after = buffer.filled().len();
            if after == before {
                self.watched.finished();
                return Poll::Ready(Ok(()));
            }
            let kept = self.take_in(&mut buffer.filled_mut()[before..]);
            buffer.set_filled(before + kept);
            // With nothing left it would look like the end of the stream.
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads on behind what is held back, and not beyond the pong that it may be.
    #[cold]
    fn read_held<T>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<()>
    where
        T: AsyncRead + Unpin,
    {
        let mut bytes = [0; PING_LENGTH];
        let mut buffer = ReadBuf::new(&mut bytes[self.inbound.held()..]);
        let result = ready!(self.poll_io(io, cx, &mut buffer));
        let new = buffer.filled().len();
        let held = self.inbound.release();
        if let Err(error) = result {
            self.watched.broke(&error);
            self.read_error = Some(error);
            self.ahead = held;
            return Poll::Ready(());
        }
        if new == 0 {
            self.ahead = held;
            return Poll::Ready(());
        }
        bytes[..held.len()].copy_from_slice(&held);
        let all = &mut bytes[..held.len() + new];
        let kept = self.take_in(all);
        self.ahead.extend_from_slice(&bytes[..kept]);
        Poll::Ready(())
    }

    fn poll_io<T>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead + Unpin,
    {
        let read = Pin::new(io).poll_read(cx, buffer);
        if read.is_pending()
            && let Some(police) = &mut self.police
        {
            police.on_empty();
        }
        read
    }

    /// These bytes came in. Returns how many of them, moved to the front, are to be handed on.
    fn take_in(&mut self, bytes: &mut [u8]) -> usize {
        let mut told = Told::default();
        let kept = self.inbound.scan(
            bytes,
            &mut self.payloads,
            &mut self.streams,
            self.police.as_deref_mut(),
            &mut told,
        );
        self.watched.heard();
        if told.pong {
            // Then it is out, whatever else its flush waits for.
            if self.ping.take_if(|ping| !ping.owns_the_io()).is_some() {
                self.inline.slot().send();
            }
            if self.inline.slot().answer() {
                self.watched.wake_driver();
            }
        }
        for go_away in told.go_aways {
            self.watched
                .take_leave(go_away, self.payloads.are_any_sent());
        }
        if self.inbound.is_foreign() {
            self.turn_foreign();
        }
        self.watched.follow(&self.streams);
        if told.flood {
            self.dismiss();
        }
        kept
    }

    #[cold]
    pub(super) fn turn_foreign(&mut self) {
        if self.watched.turn_foreign() {
            self.inline.slot().refuse(PingError::unsupported(NotHttp2));
        }
    }
}

/// How much is read for nobody, at least: a frame of the size that every peer takes, and a pong. Who
/// leaves more unread is not judged.
const AHEAD: usize = 16_384 + HEAD_LENGTH + PING_LENGTH;
