//! A transport in memory that takes one message each time its gate is opened.

use std::{
    collections::VecDeque,
    convert::Infallible,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use futures_util::{Sink, Stream};

/// The gate is open at first.
pub(crate) fn gated() -> (Gated, Gate) {
    let gate = Gate(Arc::new(Mutex::new(State {
        opens: true,
        ..State::default()
    })));
    (Gated(gate.clone()), gate)
}

/// It has nothing to flush.
pub(crate) struct Gated(Gate);

#[derive(Clone)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    opens: bool,
    taken: Vec<String>,
    writer: Option<Waker>,
    /// `None` is the end.
    incoming: VecDeque<Option<String>>,
    has_ended: bool,
    reader: Option<Waker>,
}

impl Gate {
    /// For one message. Whoever asked last is woken.
    pub(crate) fn open(&self) {
        self.state().opens = true;
        let writer = self.state().writer.take();
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    pub(crate) fn taken(&self) -> Vec<String> {
        self.state().taken.clone()
    }

    pub(crate) fn send(&self, line: Option<&str>) {
        self.state().incoming.push_back(line.map(Into::into));
        let reader = self.state().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }
}

impl Stream for Gated {
    type Item = Result<String, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        assert!(!state.has_ended, "it is polled after its end");
        match state.incoming.pop_front() {
            Some(line) => {
                state.has_ended = line.is_none();
                Poll::Ready(line.map(Ok))
            }
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Sink<String> for Gated {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let mut state = self.0.state();
        if state.opens {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, message: String) -> Result<(), Infallible> {
        let mut state = self.0.state();
        assert!(mem::take(&mut state.opens), "the gate is closed");
        state.taken.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}
