//! What the outside knows about a connection, and the rules that every action has to keep.

use super::*;

pub(super) struct Model {
    config: Config,
    can_ping: bool,
    pub(super) now: Moment,
    pub(super) ping: Ping,
    pub(super) busy: bool,
    /// Whether a ping would wait behind the requests in flight.
    full: bool,
    /// The last time that this changed.
    turned_at: Moment,
    /// Whether it came about while the ping that was asked for was not out.
    filled: bool,
    pub(super) ending: Option<Ending>,
    /// Whether the first ping, which may be brought forward at will, is yet to go out.
    spread: bool,
    last_ping_at: Moment,
    wanted: bool,
    heard_at: Moment,
    /// The last time that pings may have been put to sleep, woken, or asked for.
    stirred_at: Moment,
    usage_since: Moment,
    /// The first pause in the window that runs.
    paused_at: Option<Moment>,
    standing: Standing,
    missed: u32,
    /// Whether `LookAgain` came since all was done the last time.
    looked: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    Nothing,
    Heard,
    Sent,
    Pong,
    Failed,
    Unsupported,
    RequestStart,
    RequestEnd,
    Full,
    Room,
    Wanted,
    LocalPause,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ping {
    Resting,
    Asked { at: Moment },
    Out { at: Moment },
}

impl Model {
    pub(super) fn new(config: Config, can_ping: bool, now: Moment) -> Model {
        Model {
            config,
            can_ping,
            now,
            ping: Ping::Resting,
            busy: false,
            full: false,
            turned_at: now,
            filled: false,
            ending: None,
            spread: false,
            last_ping_at: now,
            wanted: false,
            heard_at: now,
            stirred_at: now,
            usage_since: now,
            paused_at: None,
            standing: Standing::Well,
            missed: 0,
            looked: false,
        }
    }

    pub(super) fn spread(&mut self) {
        self.spread = true;
    }

    /// Whether silence has to be noticed: pings are made, or one is out.
    pub(super) fn is_watched(&self) -> bool {
        let out = matches!(self.ping, Ping::Out { .. });
        self.can_ping && (out || !self.asleep())
    }

    /// From when on the peer's silence counts, while pings are made.
    pub(super) fn silent_since(&self) -> Moment {
        match self.config.ping_when {
            PingWhen::Always | PingWhen::Quiet => self.heard_at.max(self.turned_at),
            PingWhen::WhileBusy | PingWhen::NotBusy => self.heard_at.max(self.stirred_at),
        }
    }

    pub(super) fn follow(&mut self, fact: Fact) {
        if self.ending.is_some() {
            return;
        }
        match fact {
            Fact::Heard if self.config.evidence == Evidence::AnyTraffic => self.hear(),
            Fact::Nothing | Fact::Heard | Fact::Failed => {}
            Fact::Sent => {
                if let Ping::Asked { .. } = self.ping {
                    self.ping = Ping::Out { at: self.now };
                    self.last_ping_at = self.now;
                    self.spread = false;
                    self.wanted = false;
                    self.paused_at = None;
                }
            }
            Fact::Pong => {
                if let Ping::Out { .. } = self.ping {
                    self.ping = Ping::Resting;
                    self.hear();
                }
            }
            Fact::Unsupported => {
                if let Ping::Out { .. } = self.ping {
                    self.hear();
                }
                self.ping = Ping::Resting;
                self.can_ping = false;
                self.wanted = false;
            }
            Fact::RequestStart => self.turn_busy(true),
            Fact::RequestEnd => self.turn_busy(false),
            Fact::Full => self.turn_full(self.busy),
            Fact::Room => self.turn_full(false),
            Fact::Wanted => {
                self.stirred_at = self.now;
                self.wanted |= self.can_ping && !matches!(self.ping, Ping::Out { .. });
            }
            Fact::LocalPause => {
                self.paused_at.get_or_insert(self.now);
            }
        }
    }

    pub(super) fn take(&mut self, action: Action) {
        assert_eq!(self.ending, None, "{action:?} after the end");
        let quiet_for = self.now.since(self.heard_at);
        match action {
            Action::Ping => self.take_ping(quiet_for),
            Action::CallOff => {
                assert!(matches!(self.ping, Ping::Asked { .. }));
                assert!(self.config.ping_when != PingWhen::Always || self.filled);
                self.ping = Ping::Resting;
            }
            Action::Missed { missed } => {
                let Ping::Out { at } = self.ping else {
                    panic!("no ping is out");
                };
                self.missed += 1;
                assert_eq!(missed, self.missed);
                assert!(missed < self.config.max_missed);
                let waited = self.now.since(at).min(quiet_for);
                assert!(waited >= self.config.pong_floor * missed);
                self.paused_at = None;
            }
            Action::Standing(standing) => self.take_standing(standing, quiet_for),
            Action::LookAgain => self.looked = true,
            Action::End(ending) => self.take_ending(ending, quiet_for),
        }
    }

    /// All that was due is done.
    pub(super) fn rest(&mut self, machine: &Liveness) {
        self.looked = false;
        assert_eq!(machine.missed(), self.missed);
        assert_eq!(machine.heard_at(), self.heard_at);
        assert_eq!(
            machine.idle_since(),
            (!self.busy).then_some(self.usage_since)
        );
        let limits = (self.config.suspect_after, self.config.verify_after_idle);
        if self.standing == Standing::Leaving {
            assert_ne!(self.config.idle_timeout, None);
        } else if self.missed > 0 {
            assert!(matches!(self.standing, Standing::Suspect { .. }));
        } else if limits == (None, None) || self.heard_at == self.now || !self.can_ping {
            assert_eq!(self.standing, Standing::Well);
        }
    }

    fn hear(&mut self) {
        self.heard_at = self.now;
        self.paused_at = None;
        self.missed = 0;
    }

    fn turn_busy(&mut self, busy: bool) {
        if self.busy != busy {
            self.busy = busy;
            self.usage_since = self.now;
            self.stirred_at = self.now;
            self.turn_full(false);
        }
    }

    fn turn_full(&mut self, full: bool) {
        if self.full != full {
            self.full = full;
            self.filled |= full;
            self.turned_at = self.now;
            self.stirred_at = self.now;
        }
    }

    fn asleep(&self) -> bool {
        match self.config.ping_when {
            PingWhen::Always | PingWhen::Quiet => self.full,
            PingWhen::WhileBusy => !self.busy || self.full,
            PingWhen::NotBusy => self.busy,
        }
    }

    fn take_ping(&mut self, quiet_for: Duration) {
        assert!(self.can_ping);
        assert_eq!(self.ping, Ping::Resting);
        let serial = self.config.ping_when == PingWhen::NotBusy;
        assert!(!(serial && self.busy || self.full));
        let rested = match self.config.ping_when {
            PingWhen::Always => self.now.since(self.last_ping_at),
            PingWhen::Quiet | PingWhen::WhileBusy | PingWhen::NotBusy => quiet_for,
        };
        let share = 100 - u32::from(self.config.jitter);
        let due = self.spread || rested >= self.config.interval / 100 * share;
        assert!(!self.asleep() && due || self.wanted);
        self.ping = Ping::Asked { at: self.now };
        self.filled = false;
    }

    fn take_standing(&mut self, standing: Standing, quiet_for: Duration) {
        assert_ne!(standing, self.standing);
        assert_ne!(self.standing, Standing::Leaving);
        match standing {
            Standing::Well => assert_eq!(self.missed, 0),
            Standing::Unverified => assert!(Some(quiet_for) >= self.config.verify_after_idle),
            Standing::Suspect { unverified } => {
                assert!(!unverified || Some(quiet_for) >= self.config.verify_after_idle);
                let soft = self.config.suspect_after;
                assert!(self.missed > 0 || soft.is_some_and(|limit| quiet_for >= limit));
            }
            Standing::Leaving => {
                assert!(!self.busy);
                let idle_for = self.now.since(self.usage_since);
                assert!(Some(idle_for) >= self.config.idle_timeout);
            }
        }
        self.standing = standing;
    }

    fn take_ending(&mut self, ending: Ending, quiet_for: Duration) {
        assert_eq!(ending.quiet_for, quiet_for);
        let judged = ending.failure != Failure::PingFailed;
        assert!(self.looked || !judged, "no look before {ending:?}");
        match ending.failure {
            Failure::PingFailed => {
                let waited = match self.ping {
                    Ping::Resting => Duration::ZERO,
                    Ping::Asked { at } | Ping::Out { at } => self.now.since(at),
                };
                // A ping that is called off, unknown to its driver, has waited for nothing.
                assert!([waited, Duration::ZERO].contains(&ending.waited));
                assert_eq!(ending.missed, self.missed);
            }
            Failure::PongTimeout => {
                let Ping::Out { at } = self.ping else {
                    panic!("no ping is out");
                };
                assert_eq!(ending.missed, self.config.max_missed);
                assert_eq!(ending.waited, self.now.since(at));
                let windows = self.config.pong_floor * self.config.max_missed;
                assert!(ending.waited.min(quiet_for) >= windows);
                let fresh_wait = self.paused_at.map(|at| self.now.since(at));
                assert!(fresh_wait.is_none_or(|wait| wait >= self.config.pong_timeout));
            }
            Failure::PingBlocked => {
                let Ping::Asked { at } = self.ping else {
                    panic!("no ping is on its way");
                };
                assert_eq!(ending.waited, self.now.since(at));
                assert!(ending.waited.min(quiet_for) >= self.config.ready_timeout);
            }
            Failure::IdleTimeout => {
                assert!(!self.busy);
                assert_eq!(self.standing, Standing::Leaving);
                assert_eq!(ending.waited, self.now.since(self.usage_since));
            }
            Failure::ReadTimeout => {
                assert!(self.busy);
                assert!(Some(ending.waited) >= self.config.quiet_timeout);
                let busy_for = self.now.since(self.usage_since);
                assert_eq!(ending.waited, busy_for.min(quiet_for));
            }
            other => panic!("{other} is no verdict of the machine"),
        }
        self.ending = Some(ending);
    }
}
