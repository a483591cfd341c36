//! Register against death.

use std::task::Context;

use super::{
    wakers::{Key, WakerSet},
    *,
};

/// A connection's waiters, and whether it is over.
struct Waiters {
    set: WakerSet,
    over: AtomicBool,
}

impl Waiters {
    fn new() -> Arc<Waiters> {
        Arc::new(Waiters {
            set: WakerSet::new(),
            over: AtomicBool::new(false),
        })
    }

    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.set.wake_all();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// `false` if it is over already.
    fn register(&self, key: &mut Key, task: &Arc<Task>) -> bool {
        let waker = task.waker();
        self.set
            .register(key, &Context::from_waker(&waker), || self.is_over())
    }
}

#[test]
fn whoever_registers_is_woken_or_told_that_it_is_over() {
    model(|| {
        let waiters = Waiters::new();
        let threads = [(); 2].map(|()| {
            beside(&waiters, |waiters| {
                let (mut key, task) = (Key::NONE, Task::new());
                let waits = waiters.register(&mut key, &task);
                (waits, key, task)
            })
        });
        waiters.end();
        for (waits, mut key, task) in threads.map(join) {
            assert_eq!(task.was_woken(), waits);
            assert!(!waiters.register(&mut key, &task));
            waiters.set.remove(&mut key);
        }
    });
}

#[test]
fn the_task_that_polled_last_is_woken() {
    model(|| {
        let waiters = Waiters::new();
        let moves = beside(&waiters, |waiters| {
            let (mut key, first, second) = (Key::NONE, Task::new(), Task::new());
            let waited = waiters.register(&mut key, &first);
            let waits = waiters.register(&mut key, &second);
            (waited, waits, first, second)
        });
        waiters.end();
        let (waited, waits, first, second) = join(moves);
        assert_eq!(second.was_woken(), waits);
        assert!(waits || first.was_woken() == waited);
    });
}

#[test]
fn a_waiter_that_gives_up_takes_nobodys_place() {
    model(|| {
        let waiters = Waiters::new();
        let gives_up = beside(&waiters, |waiters| {
            let (mut key, task) = (Key::NONE, Task::new());
            let _waited = waiters.register(&mut key, &task);
            waiters.set.remove(&mut key);
            assert!(key.is_none());
        });
        let stays = beside(&waiters, |waiters| {
            let (mut key, task) = (Key::NONE, Task::new());
            (waiters.register(&mut key, &task), task)
        });
        waiters.end();
        join(gives_up);
        let (waits, task) = join(stays);
        assert_eq!(task.was_woken(), waits);
    });
}

/// As a held `poll_ready` does with the status, which may change more than once.
#[test]
fn whoever_registers_and_looks_again_misses_no_change() {
    model(|| {
        let waiters = Waiters::new();
        let holds = beside(&waiters, |waiters| {
            let (mut key, task) = (Key::NONE, Task::new());
            let waker = task.waker();
            let cx = Context::from_waker(&waker);
            assert!(waiters.set.register(&mut key, &cx, || false));
            (waiters.is_over(), task)
        });
        waiters.end();
        let (saw, task) = join(holds);
        assert!(saw || task.was_woken());
    });
}
