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
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    hash::{BuildHasher, RandomState},
    hint::black_box,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
    vec,
};

use tokio::time::Sleep;

use super::{
    arena::Arena,
    arrivals::Arrivals,
    faults::Faults,
    pinger::Pinger,
    timers::{Slack, Timers},
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
    /// By id. A place is empty while its connection is looked at, and when it is free.
    places: Vec<Option<Place<G>>>,
    /// The lowest first, so that high places come free and can be given back.
    free: BinaryHeap<Reverse<u32>>,
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

struct Place<G> {
    link: Arc<Link>,
    state: State<G>,
}

enum State<G> {
    Resting(G),
    /// Its key among those that are awake.
    Awake(usize),
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
            places: Vec::new(),
            free: BinaryHeap::new(),
            awake: Arena::new(),
            timers: Timers::new(),
            faults: Faults::of(&config),
            called: Vec::new(),
            queue: VecDeque::new(),
            looking: Vec::new(),
            turns: Arc::new(Turns {
                inbox: Arc::clone(&inbox),
                count: AtomicU64::new(0),
                asked: AtomicBool::new(false),
            }),
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
        let turn = self.turns.count.load(Ordering::Acquire);
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
        if !left && self.is_empty() {
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
        let places = next.filter_map(|id| self.places.get(*id as usize)?.as_ref());
        for place in places {
            black_box((Arc::strong_count(&place.link), place.link.status()));
            if let State::Resting(pinger) = &place.state {
                black_box(pinger.is_out());
            }
        }
    }

    /// A connection counts from here: one that was wrapped outside a runtime is not idle, nor
    /// quiet, before anybody can watch or use it.
    fn admit(&mut self, link: Arc<Link>, pinger: G, now: Moment) {
        let id = match self.free.pop() {
            Some(Reverse(id)) => id,
            None => {
                self.places.push(None);
                // Ids wrap far beyond what fits into memory.
                (self.places.len() - 1) as u32
            }
        };
        link.set_id(Some(id));
        let config = Arc::clone(&self.config);
        let machine = Liveness::new(config, now, link.can_ping(), self.seed_of(id));
        let watch = Watch::new(machine.spread(spread_of(id)));
        self.look_first(id, link, watch, pinger, now);
    }

    fn look_at(&mut self, id: u32, now: Moment) {
        let place = self.places.get_mut(id as usize).and_then(Option::take);
        // An id may outlive its connection in the queue.
        let Some(Place { link, state }) = place else {
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
        self.places[id as usize] = Some(Place {
            link,
            state: State::Awake(key),
        });
    }

    fn rest(&mut self, id: u32, link: Arc<Link>, pinger: G) {
        self.places[id as usize] = Some(Place {
            link,
            state: State::Resting(pinger),
        });
    }

    fn dismiss(&mut self, id: u32, link: Arc<Link>, pinger: G) {
        link.set_id(None);
        self.free.push(Reverse(id));
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
        if self.free.len() > self.places.len() / 4 * 3 && self.free.len() > KEPT {
            self.shrink_places();
        }
    }

    fn shrink_places(&mut self) {
        let last = self.places.iter().rposition(Option::is_some);
        let length = last.map_or(0, |last| last + 1);
        if length < self.places.len() / 2 {
            self.places.truncate(length);
            self.places.shrink_to_fit();
            self.free.retain(|Reverse(id)| (*id as usize) < length);
            self.free.shrink_to_fit();
            self.timers.shrink_rest(length);
        }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// In proportion to what it costs to go through them, up to what fits into a tick.
    fn slack(&self) -> Slack {
        let live = self.places.len() - self.free.len();
        if live <= CROWD {
            return Slack::default();
        }
        let most = self.pace.slack;
        Slack {
            rest: most.rest.min(REST_SLACK * saturated(live)),
            awake: most.awake.min(AWAKE_SLACK * saturated(self.awake.len())),
        }
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
        let places = mem::take(&mut self.places).into_iter().flatten();
        let awake = &mut self.awake;
        let watched = places.map(|place| match place.state {
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
            link.end(Cause::new(failure));
            let_go(pinger);
        }
    }
}

/// How often a driver looks.
struct Pace {
    /// What the slacks can add up to comes out of the tick, also of those who were dated before
    /// they were many.
    tick: Duration,
    /// The most.
    slack: Slack,
}

impl Pace {
    fn of(config: &Config) -> Pace {
        let tick = config.tick();
        Pace {
            tick: tick / 8 * 5,
            slack: Slack {
                rest: tick / 8,
                awake: tick.min(config.pong_timeout) / 8,
            },
        }
    }
}

/// The runtime's turns: between two of them everybody else gets to run, and the sockets are read.
struct Turns {
    inbox: Arc<Inbox>,
    count: AtomicU64,
    asked: AtomicBool,
}

impl Turns {
    /// Has the driver polled after the next turn. A plain wake-up would come back before the
    /// runtime has looked at its sockets; this one comes after.
    fn ask(self: &Arc<Self>) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            let waker = Waker::from(Arc::new(Turn(Arc::clone(self))));
            let polled = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
            debug_assert!(polled.is_pending());
        }
    }
}

/// Counts once the runtime lets go of it: woken, or dropped with what it had put off.
struct Turn(Arc<Turns>);

impl Wake for Turn {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.asked.store(false, Ordering::Release);
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.inbox.wake();
    }
}

/// What the runtime's timer adds by itself is no pause: it rounds up to a millisecond.
const TIMER_SLACK: Duration = Duration::from_millis(5);

/// More connections than this share their wake-ups.
const CROWD: usize = 64;
/// What each of them adds to the slack: a few hundred times what it takes to pass it by, and for
/// those that are awake, which are due more seldom, less.
const REST_SLACK: Duration = Duration::from_nanos(1_500);
const AWAKE_SLACK: Duration = Duration::from_nanos(100);

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::BoxPinger;

    #[test]
    fn a_connection_at_rest_has_a_small_place() {
        assert_eq!(size_of::<Option<Place<BoxPinger>>>(), 24);
        assert_eq!(size_of::<Link>(), 64);
    }
}
