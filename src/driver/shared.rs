//! The task that drives all connections of a layer in one runtime.
//!
//! # One poll
//!
//! It reads the clock, notices whether it was itself late, and looks at whoever was put into its
//! inbox, is new, or is due; a connection at rest gets its machine back for that. After a few
//! looks it lets the runtime go on and comes back for the rest, so that many who are due
//! together hold nobody up. With nothing left it sleeps until the next is due.
//!
//! # Rest
//!
//! A connection without traffic and without a ping out has a place in the table, four bytes in the
//! timers, and its link. It has no task, no timer of the runtime's, and no machine.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    hint::black_box,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
    vec,
};

use tokio::time::Sleep;

use super::{
    arena::Arena,
    arrivals::Arrivals,
    faults::Faults,
    pace::Pace,
    pinger::Pinger,
    places::{Place, Places, State},
    timers::{Slack, Timers},
    turns::Turns,
    watch::{Next, Now, Watch},
};
use crate::{
    config::Config,
    error::{Cause, Failure},
    inbox::Inbox,
    link::{Link, is_abandoned},
    liveness::Liveness,
    moment::{Clock, Moment},
    ping::PingError,
};

/// A connection that a driver is to take over.
pub(crate) type Arrival<G> = (Arc<Link>, G);

pub(crate) struct SharedDriver<G: Pinger> {
    config: Arc<Config>,
    pace: Pace,
    clock: Clock,
    inbox: Arc<Inbox>,
    arrivals: Arc<Arrivals<Arrival<G>>>,
    /// Those of them that were taken over and not looked at yet.
    new: vec::IntoIter<Arrival<G>>,
    places: Places<G>,
    awake: Arena<Awake<G>>,
    timers: Timers,
    faults: Faults,
    /// Empty, but for the moment in which the inbox is emptied.
    called: Vec<u32>,
    /// Who is to be looked at, in the order in which that was noticed.
    queue: VecDeque<u32>,
    /// Who waits for the runtime's next turn before a verdict.
    looking: Vec<u32>,
    turns: Arc<Turns>,
    /// How many of those that are awake are judged.
    judging: usize,
    /// The turn in which `looking` was last put into the queue.
    turn: u64,
    sleep: Option<Pin<Box<Sleep>>>,
    wake_at: Option<Moment>,
    seed: u64,
    ended: bool,
}

struct Awake<G> {
    watch: Watch,
    pinger: G,
    /// Whether a limit runs that a pause of this process could falsify.
    judging: bool,
    /// The turn in which it was last put among those that are looking.
    looking_in: Option<u64>,
}

impl<G: Pinger> SharedDriver<G> {
    pub(crate) fn new(
        config: Arc<Config>,
        clock: Clock,
        inbox: Arc<Inbox>,
        arrivals: Arc<Arrivals<Arrival<G>>>,
    ) -> Self {
        SharedDriver {
            new: Vec::new().into_iter(),
            places: Places::new(),
            awake: Arena::new(),
            timers: Timers::new(),
            faults: Faults::of(&config),
            called: Vec::new(),
            queue: VecDeque::new(),
            looking: Vec::new(),
            turns: Turns::new(&inbox),
            judging: 0,
            turn: 0,
            sleep: None,
            wake_at: None,
            seed: RandomState::new().hash_one(0_u8),
            ended: false,
            pace: Pace::of(&config),
            config,
            clock,
            inbox,
            arrivals,
        }
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before anything is looked at: whoever comes from here on wakes this task again.
        self.inbox.take(cx.waker(), &mut self.called);
        let now = self.clock.now();
        self.notice_pause(now);
        self.queue.extend(self.called.drain(..));
        let turn = self.turns.count();
        if self.turn != turn {
            self.turn = turn;
            self.queue.extend(self.looking.drain(..));
        }
        let slack = self.slack();
        let all = self
            .timers
            .take_due(now, slack, |id| self.queue.push_back(id));
        self.work(now);
        let left = !all || !self.queue.is_empty() || self.new.len() > 0;
        if !left && self.places.len() == 0 {
            // Before it closes: from then on the place is the next driver's.
            drop(self.inbox.forget());
            if self.arrivals.close_if_empty() {
                // Whoever comes now finds another driver.
                self.ended = true;
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
        }
        if left || !self.looking.is_empty() {
            self.wake_at = Some(now);
            self.turns.ask();
        } else {
            self.release();
            self.sleep(now, cx);
        }
        Poll::Pending
    }

    /// Looks at connections until there are no more, or it has taken long enough.
    fn work(&mut self, mut now: Moment) {
        let stop_at = now.after(STINT);
        self.warm_up();
        for looks in 1..=LOOKS_AT_MOST {
            // In turns: neither the new ones nor the others may keep the driver for themselves.
            let id = if looks % 2 == 0 || !self.has_new() {
                self.queue.pop_front()
            } else {
                None
            };
            if let Some(id) = id {
                self.look_at(id, now);
            } else if let Some((link, pinger)) = self.new.next() {
                self.admit(link, pinger, now);
            } else if self.queue.is_empty() {
                break;
            }
            if looks % LOOKS_A_CLOCK == 0 {
                now = self.clock.now();
                if now >= stop_at {
                    break;
                }
                self.warm_up();
            }
        }
    }

    fn has_new(&mut self) -> bool {
        if self.new.len() == 0 {
            self.new = self.arrivals.take().into_iter();
        }
        self.new.len() > 0
    }

    /// Connections at rest have long left the caches. Those that come next are brought back all at
    /// once, instead of one wait after the other.
    fn warm_up(&self) {
        let next = self.queue.iter().take(LOOKS_A_CLOCK);
        for place in next.filter_map(|id| self.places.get(*id)) {
            black_box((Arc::strong_count(&place.link), place.link.status()));
            if let State::Resting(pinger) = &place.state {
                black_box(pinger.is_out());
            }
        }
    }

    /// A connection counts from here: one that was wrapped outside a runtime is not idle, nor
    /// quiet, before anybody can watch or use it.
    fn admit(&mut self, link: Arc<Link>, pinger: G, now: Moment) {
        let id = self.places.take_id();
        link.set_id(Some(id));
        let config = Arc::clone(&self.config);
        let machine = Liveness::new(config, now, link.can_ping(), self.seed_of(id));
        let watch = Watch::new(machine.spread(spread_of(id)));
        self.look_first(id, link, watch, pinger, now);
    }

    fn look_at(&mut self, id: u32, now: Moment) {
        let Some(Place { link, state }) = self.places.take(id) else {
            return;
        };
        match state {
            State::Resting(pinger) => {
                self.timers.clear_rest(id);
                let rest = link.rest(self.seed_of(id), spread_of(id));
                let config = Arc::clone(&self.config);
                let watch = Watch::new(Liveness::resumed(config, rest, now));
                self.look_first(id, link, watch, pinger, now);
            }
            State::Awake(key) => {
                let now = self.now(id, now);
                let awake = &mut self.awake[key];
                self.timers.clear_awake(key);
                self.judging -= usize::from(awake.judging);
                let Awake { watch, pinger, .. } = awake;
                match look(&link, watch, pinger, now, &mut self.faults) {
                    Next::Finish => {
                        let awake = self.awake.remove(key);
                        self.dismiss(id, link, awake.pinger);
                    }
                    Next::Rest(at) if self.timers.set_rest(id, at, now.at) => {
                        let awake = self.awake.remove(key);
                        self.rest(id, link, awake.pinger);
                    }
                    Next::Rest(at) | Next::Sleep(at) => self.stay_awake(id, link, key, Some(at)),
                    Next::Look => self.stay_awake(id, link, key, None),
                }
            }
        }
    }

    /// The first look since it rested: most go back to rest with it.
    fn look_first(
        &mut self,
        id: u32,
        link: Arc<Link>,
        mut watch: Watch,
        mut pinger: G,
        now: Moment,
    ) {
        let now = self.now(id, now);
        let due_at = match look(&link, &mut watch, &mut pinger, now, &mut self.faults) {
            Next::Finish => return self.dismiss(id, link, pinger),
            Next::Rest(at) if self.timers.set_rest(id, at, now.at) => {
                return self.rest(id, link, pinger);
            }
            Next::Rest(at) | Next::Sleep(at) => Some(at),
            Next::Look => None,
        };
        let key = self.awake.insert(Awake {
            watch,
            pinger,
            judging: false,
            looking_in: None,
        });
        self.stay_awake(id, link, key, due_at);
    }

    /// Comes back at `due_at`; without it, in the runtime's next turn.
    fn stay_awake(&mut self, id: u32, link: Arc<Link>, key: usize, due_at: Option<Moment>) {
        let awake = &mut self.awake[key];
        awake.judging = awake.watch.machine().is_judging();
        self.judging += usize::from(awake.judging);
        match due_at {
            Some(at) => self.timers.set_awake(key, id, at),
            None if awake.looking_in == Some(self.turn) => {}
            None => {
                awake.looking_in = Some(self.turn);
                self.looking.push(id);
            }
        }
        let state = State::Awake(key);
        self.places.put(id, Place { link, state });
    }

    fn rest(&mut self, id: u32, link: Arc<Link>, pinger: G) {
        let state = State::Resting(pinger);
        self.places.put(id, Place { link, state });
    }

    fn dismiss(&mut self, id: u32, link: Arc<Link>, pinger: G) {
        link.set_id(None);
        self.places.give_id_back(id);
        let_go(pinger);
    }

    /// If the driver itself was late, whoever it judges gets a fresh chance first.
    fn notice_pause(&mut self, now: Moment) {
        let Some(wake_at) = self.wake_at.take() else {
            return;
        };
        let forgiven = self.config.max_local_pause.saturating_add(TIMER_SLACK);
        if now.since(wake_at) > forgiven {
            // A machine at rest judges nobody.
            for awake in self.awake.iter_mut() {
                awake.watch.on_local_pause(now);
            }
        }
    }

    fn sleep(&mut self, now: Moment, cx: &mut Context<'_>) {
        let mut wake_at = self.timers.next(self.slack());
        if self.judging > 0 {
            // Short enough steps to notice a pause of this process in the middle of a wait.
            wake_at = wake_at.min(now.after(self.config.max_local_pause));
        }
        self.wake_at = Some(wake_at);
        let Some(instant) = self.clock.instant(wake_at) else {
            self.sleep = None;
            return;
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != instant {
                    sleep.as_mut().reset(instant);
                }
                sleep
            }
            None => self
                .sleep
                .insert(Box::pin(tokio::time::sleep_until(instant))),
        };
        if sleep.as_mut().poll(cx).is_ready() {
            // Due already, by a clock newer than `now`.
            cx.waker().wake_by_ref();
        }
    }

    /// Gives back what a burst took.
    fn release(&mut self) {
        self.queue.shrink_to(KEPT);
        self.looking.shrink_to(KEPT);
        self.called.shrink_to(KEPT);
        if self.awake.is_sparse() {
            let keys = self.awake.shrink();
            self.timers.shrink_awake(keys);
        }
        if let Some(ids) = self.places.shrink() {
            self.timers.shrink_rest(ids);
        }
    }

    fn slack(&self) -> Slack {
        self.pace.slack(self.places.len(), self.awake.len())
    }

    fn now(&self, id: u32, at: Moment) -> Now {
        Now {
            at,
            turn: self.turn,
            tick: self.pace.tick,
            spread: spread_of(id),
        }
    }

    fn seed_of(&self, id: u32) -> u64 {
        self.seed ^ u64::from(id) << 32
    }
}

/// A look, in the connection's span. A panic ends this connection and no other.
fn look<G: Pinger>(
    link: &Arc<Link>,
    watch: &mut Watch,
    pinger: &mut G,
    now: Now,
    faults: &mut Faults,
) -> Next {
    let waker = Waker::from(Arc::clone(link));
    let mut cx = Context::from_waker(&waker);
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let span = link.span();
        let _entered = span.enter();
        watch.look(link, pinger, now, faults, &mut cx)
    }));
    looked.unwrap_or_else(|panic| {
        let cause = Cause {
            source: Some(PingError::panicked(&*panic).into_source()),
            ..Cause::new(Failure::PingFailed)
        };
        // Whatever panicked once may do so again.
        drop(catch_unwind(AssertUnwindSafe(|| link.end(cause))));
        Next::Finish
    })
}

/// Drops foreign code's values, whatever they do then.
fn let_go<G: Pinger>(mut pinger: G) {
    pinger.lose();
    // What is left is the crate's own, unless the first half of a drop panicked.
    drop(catch_unwind(AssertUnwindSafe(|| drop(pinger))));
}

impl<G: Pinger> Future for SharedDriver<G> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Beside other work in one task its budget may be spent: a pong that is there would look pending.
        let all = std::future::poll_fn(|cx| self.poll_all(cx));
        pin!(tokio::task::unconstrained(all)).poll(cx)
    }
}

/// Nothing in it is pinned but what is boxed.
impl<G: Pinger> Unpin for SharedDriver<G> {}

impl<G: Pinger> Drop for SharedDriver<G> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        drop(self.inbox.forget());
        let awake = &mut self.awake;
        let watched = self.places.drain().map(|place| match place.state {
            State::Resting(pinger) => (place.link, pinger),
            State::Awake(key) => (place.link, awake.remove(key).pinger),
        });
        let new = mem::take(&mut self.new);
        for (link, pinger) in watched.chain(new).chain(self.arrivals.close()) {
            let failure = if is_abandoned(&link) {
                Failure::Closed
            } else {
                Failure::MonitorGone
            };
            link.set_id(None);
            // Nobody's code keeps the others from being told.
            drop(catch_unwind(AssertUnwindSafe(|| {
                link.end(Cause::new(failure));
            })));
            let_go(pinger);
        }
    }
}

/// What the runtime's timer adds by itself is no pause: it rounds up to a millisecond.
const TIMER_SLACK: Duration = Duration::from_millis(5);

/// How long, and for how many connections, the runtime waits for the driver at most.
const STINT: Duration = Duration::from_micros(250);
const LOOKS_AT_MOST: usize = 128;
/// A look costs about ten times as much as reading the clock.
const LOOKS_A_CLOCK: usize = 8;

/// How much of a queue is kept for the next burst.
const KEPT: usize = 256;

/// The golden ratio in 2^-32: however many connections there are, their first pings are far apart.
fn spread_of(id: u32) -> u32 {
    id.wrapping_mul(0x9e37_79b9)
}
