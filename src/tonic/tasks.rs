//! The tasks of one channel, which end together.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use hyper::rt::Executor;

use crate::{
    spawn::{self, Spawner},
    wakers::{Key, WakerSet},
};

/// The tasks of one channel: the one that has its IO, its queue, and one a request. Dropping it
/// drops them all, and so closes the IO.
#[derive(Debug)]
pub(super) struct Tasks {
    end: Arc<End>,
}

impl Tasks {
    pub(super) fn new() -> Tasks {
        Tasks {
            end: Arc::new(End {
                came: AtomicBool::new(false),
                waiting: WakerSet::new(),
            }),
        }
    }

    /// Spawns them with `spawner`.
    pub(super) fn executor(&self, spawner: Spawner) -> TaskExecutor {
        TaskExecutor {
            spawner,
            end: Arc::clone(&self.end),
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end.came.store(true, Ordering::Release);
        self.end.waiting.wake_all();
    }
}

#[derive(Debug)]
struct End {
    came: AtomicBool,
    waiting: WakerSet,
}

impl End {
    fn came(&self) -> bool {
        self.came.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
pub(super) struct TaskExecutor {
    spawner: Spawner,
    end: Arc<End>,
}

impl Executor<spawn::Task> for TaskExecutor {
    fn execute(&self, work: spawn::Task) {
        self.spawner.spawn(Box::pin(Task {
            work,
            end: Arc::clone(&self.end),
            key: Key::NONE,
        }));
    }
}

struct Task {
    work: spawn::Task,
    end: Arc<End>,
    key: Key,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Task { work, end, key } = &mut *self;
        if work.as_mut().poll(cx).is_pending() && end.waiting.register(key, cx, || end.came()) {
            Poll::Pending
        } else {
            // Whoever runs it drops it now, and what it has of the connection.
            Poll::Ready(())
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end.waiting.remove(&mut self.key);
    }
}
