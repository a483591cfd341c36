//! The clones of a shared service: whoever can go on is told, or woken.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tower_service::Service;

use super::{desk::Place, sync::Mutex, *};

/// A service that takes as many calls as it is allowed.
struct Gate {
    allowed: AtomicUsize,
    waker: Mutex<Option<Waker>>,
    calls: AtomicUsize,
}

impl Gate {
    fn new(allowed: usize) -> Arc<Gate> {
        Arc::new(Gate {
            allowed: AtomicUsize::new(allowed),
            waker: Mutex::new(None),
            calls: AtomicUsize::new(0),
        })
    }

    fn allow(&self) {
        self.allowed.fetch_add(1, Ordering::AcqRel);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }
}

struct Gated(Arc<Gate>);

impl Service<()> for Gated {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let before = self.0.waker.lock().unwrap().replace(cx.waker().clone());
        drop(before);
        match self.0.allowed.load(Ordering::Acquire) {
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let allowed = self.0.allowed.fetch_sub(1, Ordering::AcqRel);
        assert!(allowed > 0, "called before it was ready");
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        ready(Ok(()))
    }
}

/// A clone, or a call that waits, and the task that polls it.
struct Party {
    place: Option<Place<Gated>>,
    task: Arc<Task>,
    calls: bool,
}

impl Party {
    fn new(place: Place<Gated>, calls: bool) -> Party {
        Party {
            place: Some(place),
            task: Task::new(),
            calls,
        }
    }

    /// Once; done when it was told ready, or has called.
    fn poll(&mut self) {
        let Some(place) = &mut self.place else { return };
        if self.calls {
            place.queue_up();
        }
        let waker = self.task.waker();
        let done = match place.poll_turn(&Context::from_waker(&waker)) {
            Poll::Ready(Ok(turn)) if self.calls => {
                drop(turn.call(()));
                true
            }
            Poll::Ready(Ok(_)) => true,
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => false,
        };
        if done {
            self.place = None;
        }
    }

    fn is_done(&self) -> bool {
        self.place.is_none()
    }
}

/// Polls whoever is woken until nobody is.
fn settle(parties: &mut [Party]) {
    let mut woken = true;
    while woken {
        woken = false;
        for party in &mut *parties {
            if party.task.was_woken() {
                woken = true;
                party.poll();
            }
        }
    }
}

fn polls(mut party: Party) -> JoinHandle<Party> {
    thread::spawn(move || {
        party.poll();
        party
    })
}

#[test]
fn whoever_waits_is_woken_when_the_service_becomes_ready() {
    bounded_model(|| {
        let gate = Gate::new(0);
        let first = Place::new(Gated(Arc::clone(&gate)));
        let parties = [
            polls(Party::new(first.another(), false)),
            polls(Party::new(first, false)),
        ];
        gate.allow();
        let mut parties = parties.map(join);
        settle(&mut parties);
        assert!(parties.iter().all(Party::is_done));
    });
}

#[test]
fn calls_that_wait_are_all_sent() {
    bounded_model(|| {
        let gate = Gate::new(1);
        let first = Place::new(Gated(Arc::clone(&gate)));
        let parties = [
            polls(Party::new(first.another(), true)),
            polls(Party::new(first, true)),
        ];
        gate.allow();
        let mut parties = parties.map(join);
        settle(&mut parties);
        assert!(parties.iter().all(Party::is_done));
        assert_eq!(gate.calls(), 2);
    });
}

#[test]
fn a_call_that_is_dropped_lets_the_next_go_on() {
    bounded_model(|| {
        let gate = Gate::new(0);
        let first = Place::new(Gated(Arc::clone(&gate)));
        let mut dropped = Party::new(first.another(), true);
        dropped.poll();
        let parties = [polls(Party::new(first, false))];
        gate.allow();
        drop(dropped);
        let mut parties = parties.map(join);
        settle(&mut parties);
        assert!(parties.iter().all(Party::is_done));
        assert_eq!(gate.calls(), 0);
    });
}

#[test]
fn a_clone_that_waits_is_woken_after_the_call_of_another() {
    bounded_model(|| {
        let gate = Gate::new(1);
        let first = Place::new(Gated(Arc::clone(&gate)));
        let parties = [
            polls(Party::new(first.another(), true)),
            polls(Party::new(first, false)),
        ];
        let mut parties = parties.map(join);
        settle(&mut parties);
        assert_eq!(gate.calls(), 1);
        gate.allow();
        settle(&mut parties);
        assert!(parties.iter().all(Party::is_done));
    });
}

#[test]
fn of_two_that_were_told_ready_one_has_the_turn() {
    bounded_model(|| {
        let gate = Gate::new(1);
        let first = Place::new(Gated(Arc::clone(&gate)));
        let second = first.another();
        let calls = [first, second].map(|mut place| {
            thread::spawn(move || {
                let mut party = Party::new(place.another(), false);
                party.poll();
                if let Some(turn) = place.take_turn() {
                    drop(turn.call(()));
                }
                party
            })
        });
        let mut parties = calls.map(join);
        assert!(gate.calls() <= 1);
        gate.allow();
        settle(&mut parties);
        assert!(parties.iter().all(Party::is_done));
    });
}
