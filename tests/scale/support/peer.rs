//! The peer, as far as a connection sees it, and what it saw.

use std::{
    io,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::{sync::Notify, time::Instant};
use tower::Service;

use super::millis;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Ping,
    Work,
}

/// How the peer takes requests and pings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Answers,
    /// Keeps what comes, and answers it when it thaws.
    Frozen,
    /// Answers work at once; keeps pings until it answers them too.
    KeepsPings,
    /// Answers work; the code that pings it fails, or panics in one of its parts.
    Fails,
    FailsAndKeepsWork,
    PanicsInReady,
    PanicsInCall,
    PanicsInPong,
    PanicsInDrop,
}

/// What the peer saw and did, and what a script did to its connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fact {
    PingIn,
    PongOut,
    WorkIn,
    WorkOut,
    /// By its handle, or with its last user.
    Closed,
    /// This process stood still until now.
    Paused {
        from: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) start: Instant,
    mood: Mutex<Mood>,
    changed: Notify,
    log: Mutex<Vec<(u64, Fact)>>,
    calls: AtomicUsize,
}

impl Peer {
    pub(crate) fn new() -> Arc<Peer> {
        Arc::new(Peer {
            start: Instant::now(),
            mood: Mutex::new(Mood::Answers),
            changed: Notify::new(),
            log: Mutex::default(),
            calls: AtomicUsize::new(0),
        })
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_waiters();
    }

    pub(crate) fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    /// All facts, each with its ms since the start.
    pub(crate) fn log(&self) -> Vec<(u64, Fact)> {
        self.log.lock().unwrap().clone()
    }

    /// When pings came, in ms.
    pub(crate) fn pings(&self) -> Vec<u64> {
        let log = self.log();
        let pings = log.iter().filter(|(_, fact)| *fact == Fact::PingIn);
        pings.map(|(at, _)| *at).collect()
    }

    /// How many requests came, pings apart.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, fact: Fact) {
        self.note_at(millis(self.start.elapsed()), fact);
    }

    pub(crate) fn note_at(&self, at: u64, fact: Fact) {
        self.log.lock().unwrap().push((at, fact));
    }

    async fn takes(&self, request: Request) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            match (self.mood(), request) {
                (Mood::Frozen, _)
                | (Mood::KeepsPings, Request::Ping)
                | (Mood::FailsAndKeepsWork, Request::Work) => changed.await,
                _ => return,
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    peer: Arc<Peer>,
}

impl Connection {
    pub(crate) fn to(peer: &Arc<Peer>) -> Self {
        Connection {
            peer: Arc::clone(peer),
        }
    }
}

impl Service<Request> for Connection {
    type Response = ();
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        assert_ne!(self.peer.mood(), Mood::PanicsInReady);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let peer = Arc::clone(&self.peer);
        let Request::Ping = request else {
            peer.calls.fetch_add(1, Ordering::Relaxed);
            peer.note(Fact::WorkIn);
            return Box::pin(async move {
                peer.takes(request).await;
                peer.note(Fact::WorkOut);
                Ok(())
            });
        };
        peer.note(Fact::PingIn);
        assert_ne!(peer.mood(), Mood::PanicsInCall);
        Box::pin(async move {
            let _panics = PanicsInDrop(peer.mood() == Mood::PanicsInDrop);
            peer.takes(request).await;
            assert_ne!(peer.mood(), Mood::PanicsInPong);
            if let Mood::Fails | Mood::FailsAndKeepsWork = peer.mood() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if peer.mood() == Mood::PanicsInDrop {
                std::future::pending::<()>().await;
            }
            peer.note(Fact::PongOut);
            Ok(())
        })
    }
}

struct PanicsInDrop(bool);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        // A second panic would abort the process and tell nothing.
        assert!(!self.0 || std::thread::panicking(), "a pong's drop");
    }
}
