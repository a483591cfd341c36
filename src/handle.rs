//! A look at a connection from outside, and the means to close it.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    config::{Config, Evidence},
    error::{Failure, HeartbeatError, Stage},
    event::Event,
    link::{Link, Observer, in_flight, status},
    moment::Moment,
    rtt::Rtt,
    wakers::Key,
};

/// What a connection is, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Nothing speaks against it.
    Alive,
    /// At least one miss, or past `suspect_after`. A sign of life makes it alive again.
    Suspect,
    /// Takes no new calls and ends with the last one in flight.
    Closing,
    /// Ended because no request was in flight for `idle_timeout`.
    IdleClosed,
    /// Ended on this side, by [`Handle::close`] or with its last user.
    Closed,
    /// Ended by any other [`Failure`]. Final.
    Dead,
}

/// A weak handle to a connection: it doesn't keep it alive, and outlives it.
#[derive(Clone)]
pub struct Handle {
    link: Arc<Link>,
}

impl Handle {
    pub(crate) fn new(link: Arc<Link>) -> Handle {
        Handle { link }
    }

    /// Returns the connection's state.
    #[must_use]
    pub fn state(&self) -> State {
        match self.link.ended().map(|cause| cause.failure) {
            Some(Failure::IdleTimeout) => State::IdleClosed,
            Some(Failure::Closed) => State::Closed,
            Some(_) => State::Dead,
            None if self.link.status() == status::LEAVING => State::Closing,
            None if self.link.is_suspect() => State::Suspect,
            None => State::Alive,
        }
    }

    /// Returns whether new calls may still be taken, as
    /// [`Heartbeat::is_alive`](crate::Heartbeat::is_alive) does.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.link.takes_calls()
    }

    /// Waits until the connection has ended, and returns why.
    ///
    /// It also resolves, with [`Failure::Closed`], when the last user of the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> Failure {
        let mut waiter = Waiter::new(&self.link);
        poll_fn(|cx| waiter.poll(cx, |link| link.ended().map(|cause| cause.failure))).await
    }

    /// Waits until the connection takes no more calls, for good.
    #[cfg(feature = "balance")]
    pub(crate) async fn left(&self) {
        let left = |link: &Link| (link.status() >= status::LEAVING).then_some(());
        let mut waiter = Waiter::new(&self.link);
        poll_fn(|cx| waiter.poll(cx, left)).await;
    }

    /// Returns why the connection has ended, `None` while it has not.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.link.ended().map(|cause| cause.failure)
    }

    /// Returns the error with all its figures, as [`failure`](Handle::failure) but whole.
    #[must_use]
    pub fn error(&self) -> Option<HeartbeatError> {
        let cause = self.link.ended()?;
        Some(HeartbeatError::shared(Arc::clone(cause), Stage::NotSent))
    }

    /// Returns the round-trip times of the pings, `None` before the first pong.
    #[must_use]
    pub fn rtt(&self) -> Option<Rtt> {
        self.link.rtt()
    }

    /// Returns when the last sign of life came in: to the precision of a
    /// [tick](Config::tick), and at first the moment when the connection was wrapped.
    #[must_use]
    pub fn last_heard(&self) -> Instant {
        let clock = self.link.hub.clock();
        let unstamped =
            self.link.is_just_heard() && self.link.config().evidence == Evidence::AnyTraffic;
        clock.instant_or_origin(if unstamped {
            clock.now()
        } else {
            self.link.heard_at()
        })
    }

    /// Returns how long no request has been in flight: zero while one is.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        if self.link.is_just_used() || self.in_flight() > 0 {
            return Duration::ZERO;
        }
        let idle_since: Option<Moment> = self.link.idle_since();
        idle_since.map_or(Duration::ZERO, |since| {
            self.link.hub.clock().now().since(since)
        })
    }

    /// Returns how many requests are in flight. Pings don't count.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        in_flight(&self.link)
    }

    /// Returns whether there is a way to ping the peer: `false` from the beginning where the source
    /// of pings has none for this connection, and from the moment on at which a ping said so
    /// ([`PingError::unsupported`](crate::ping::PingError::unsupported)).
    ///
    /// Without pings only `idle_timeout` and `quiet_timeout` watch the connection: a peer that vanishes
    /// while neither runs is not noticed.
    #[must_use]
    pub fn can_ping(&self) -> bool {
        self.link.can_ping()
    }

    /// Returns how many pings went out.
    #[must_use]
    pub fn pings(&self) -> u64 {
        self.link.pings().into()
    }

    /// Returns how many pongs came in.
    #[must_use]
    pub fn pongs(&self) -> u64 {
        self.link.pongs().into()
    }

    /// Returns how many pong waits in a row have passed without a sign of life.
    #[must_use]
    pub fn missed(&self) -> u32 {
        self.link.missed()
    }

    /// Returns the connection's settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.link.config()
    }

    /// Pings the peer at once, whatever [`PingWhen`](crate::PingWhen) says, and returns the
    /// round-trip time of the pong. A ping that is out already serves as well; on a serial
    /// transport ([`PingWhen::NotBusy`](crate::PingWhen::NotBusy)) it waits until no request is
    /// in flight, and in any case until the driver runs (see
    /// [`HeartbeatLayer`](crate::HeartbeatLayer)).
    ///
    /// A peer that goes on sending and never answers the ping is alive, so this may wait as long;
    /// bound it where that matters.
    ///
    /// # Errors
    ///
    /// Why the connection ended, if it does so before the pong;
    /// [`Failure::Unsupported`] if it has no way to ping, or this ping shows that it has none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future doesn't call the ping off.
    pub async fn ping_now(&self) -> Result<Duration, HeartbeatError> {
        let unsupported = || HeartbeatError::new(Failure::Unsupported, Stage::NotSent);
        if !self.link.can_ping() {
            return Err(unsupported());
        }
        let before = self.link.pongs();
        self.link.want_ping();
        let mut waiter = Waiter::new(&self.link);
        poll_fn(|cx| {
            waiter.poll(cx, |link| {
                // The count first: whoever sees it sees its round trip.
                let answered = link.pongs() != before;
                match link.rtt() {
                    Some(rtt) if answered => Some(Ok(rtt.last())),
                    Some(_) | None if link.status() >= status::LEAVING => Some(Err(link.refusal())),
                    Some(_) | None if !link.can_ping() => Some(Err(unsupported())),
                    Some(_) | None => None,
                }
            })
        })
        .await
    }

    /// Ends the connection with [`Failure::Closed`]: calls in flight fail, and hooks set with
    /// [`on_end`](Handle::on_end) close the transport. If it has ended, its [`failure`](Handle::failure) stays what it is; a message
    /// transport whose peer has closed its side may be written to after that, and no more from here on.
    pub fn close(&self) {
        self.link.close();
    }

    /// Runs `hook` when the connection has ended, after its cause is known and before anybody
    /// who waits is woken: the place to close the transport. At once if it has ended already.
    ///
    /// The hook must not block. A panic in it is caught and logged.
    pub fn on_end<F>(&self, hook: F)
    where
        F: FnOnce(&HeartbeatError) + Send + 'static,
    {
        self.link.on_end(Box::new(hook));
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

/// A hook for users, as links know it.
pub(crate) fn observer<F>(hook: F) -> Observer
where
    F: Fn(&Handle, &Event) + Send + Sync + 'static,
{
    Arc::new(move |link, event| hook(&Handle::new(Arc::clone(link)), event))
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("state", &self.state())
            .finish()
    }
}

/// A place among the link's waiters, given up on drop.
struct Waiter<'a> {
    link: &'a Link,
    key: Key,
}

impl<'a> Waiter<'a> {
    fn new(link: &'a Link) -> Self {
        Waiter {
            link,
            key: Key::NONE,
        }
    }

    fn poll<T>(&mut self, cx: &Context<'_>, ask: impl Fn(&Link) -> Option<T>) -> Poll<T> {
        if let Some(answer) = ask(self.link) {
            return Poll::Ready(answer);
        }
        self.link.wait(&mut self.key, cx);
        // Asked again once registered: what came in between would not wake anybody.
        ask(self.link).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.link.stop_waiting(&mut self.key);
    }
}
