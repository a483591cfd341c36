//! What the users, the pings and the task of one connection know of each other.

use std::{
    sync::{Arc, OnceLock},
    task::Waker,
};

use futures_util::task::AtomicWaker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{error::MuxError, slot::Slot};
use crate::error::{HeartbeatError, Stage};

/// Keeps nothing of the connection alive.
#[derive(Debug)]
pub(super) struct Shared {
    /// Places for requests that the transport has not got yet.
    pub(super) queue: Arc<Semaphore>,
    /// Places for requests without an answer.
    pub(super) in_flight: Arc<Semaphore>,
    /// Whether answers come in the order of their requests, so that a caller who leaves still has its turn.
    pub(super) in_order: bool,
    pub(super) slot: Slot,
    task: AtomicWaker,
    /// The heartbeat's.
    verdict: OnceLock<HeartbeatError>,
    /// Why the connection takes no more requests.
    end: OnceLock<HeartbeatError>,
}

/// Every [`Mux`](super::Mux) of a connection and every response that is awaited. The connection ends with the last.
pub(super) struct Users<M> {
    // Dropped first: the task then finds it gone.
    calls: mpsc::UnboundedSender<Call<M>>,
    pub(super) bell: Bell,
}

/// Its drop has the task look.
pub(super) struct Bell(pub(super) Arc<Shared>);

/// A request on its way to the transport.
pub(super) struct Call<M> {
    pub(super) request: M,
    pub(super) asker: Asker<M>,
    pub(super) queued: OwnedSemaphorePermit,
}

/// Who asked.
pub(super) struct Asker<M> {
    pub(super) answer: oneshot::Sender<Result<M, MuxError>>,
    /// Its place among those in flight, where that stays when its caller has left.
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

impl Shared {
    pub(super) fn new(queue: Semaphore, in_flight: Semaphore, in_order: bool) -> Arc<Shared> {
        Arc::new(Shared {
            queue: Arc::new(queue),
            in_flight: Arc::new(in_flight),
            in_order,
            slot: Slot::default(),
            task: AtomicWaker::new(),
            verdict: OnceLock::new(),
            end: OnceLock::new(),
        })
    }

    /// To be followed by a look: what happens from here on wakes the task.
    pub(super) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    pub(super) fn wake_task(&self) {
        self.task.wake();
    }

    /// The heartbeat has ended the connection.
    pub(super) fn cut(&self, error: &HeartbeatError) {
        // The first is the only one.
        let _first = self.verdict.set(error.clone());
        self.wake_task();
    }

    pub(super) fn verdict(&self) -> Option<&HeartbeatError> {
        self.verdict.get()
    }

    /// No more requests are taken. The reason is there before anybody can ask for it.
    pub(super) fn end(&self, error: HeartbeatError) {
        let _first = self.end.set(error);
        self.queue.close();
        self.in_flight.close();
        self.slot.wake_driver();
    }

    pub(super) fn ended(&self) -> Option<&HeartbeatError> {
        self.end.get()
    }

    pub(super) fn refusal(&self) -> Option<MuxError> {
        let error = self.ended()?.clone();
        Some(MuxError::Refused(error.at(Stage::NotSent)))
    }
}

impl<M> Users<M> {
    pub(super) fn new(calls: mpsc::UnboundedSender<Call<M>>, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Users {
            calls,
            bell: Bell(Arc::clone(shared)),
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.bell.0
    }

    /// Hands a request to the task. If that is gone, so is whoever would answer.
    pub(super) fn call(&self, call: Call<M>) {
        if let Err(unsent) = self.calls.send(call)
            && let Some(refusal) = self.shared().refusal()
        {
            unsent.0.asker.tell(Err(refusal));
        }
    }
}

impl<M> Asker<M> {
    pub(super) fn has_left(&self) -> bool {
        self.answer.is_closed()
    }

    /// `false` if it has left.
    pub(super) fn tell(self, answer: Result<M, MuxError>) -> bool {
        self.answer.send(answer).is_ok()
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.wake_task();
    }
}
