//! A driver and a peer for the property tests.

use super::{
    model::{Fact, Model, Ping},
    *,
};

/// A machine, the model that it is held to, and perhaps a twin that has to behave alike.
pub(super) struct Sim {
    machine: Liveness,
    twin: Option<Liveness>,
    model: Model,
    sends: Sends,
    pongs_after: Option<Duration>,
    sending_at: Option<Moment>,
    pong_at: Option<Moment>,
    hears_when_looking: bool,
}

/// What the driver does when it is asked for a ping.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sends {
    After(Duration),
    WhenTold,
}

impl Sim {
    pub(super) fn new(config: Config, can_ping: bool, seed: u64) -> Sim {
        let now = at(1_000);
        Sim {
            machine: Liveness::new(Arc::new(config), now, can_ping, seed),
            twin: None,
            model: Model::new(config, can_ping, now),
            sends: Sends::WhenTold,
            pongs_after: None,
            sending_at: None,
            pong_at: None,
            hears_when_looking: false,
        }
    }

    pub(super) fn with_twin(mut self) -> Sim {
        self.twin = Some(self.machine.clone());
        self
    }

    /// The first ping is brought forward.
    pub(super) fn spread(mut self, part: u32) -> Sim {
        self.machine = self.machine.spread(part);
        self.model.spread();
        self
    }

    pub(super) fn sends(mut self, sends: Sends) -> Sim {
        self.sends = sends;
        self
    }

    pub(super) fn peer_pongs_after(&mut self, pongs_after: Option<Duration>) {
        self.pongs_after = pongs_after;
        if pongs_after.is_none() {
            self.pong_at = None;
        }
    }

    pub(super) fn hears_when_looking(&mut self, hears: bool) {
        self.hears_when_looking = hears;
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    pub(super) fn now(&self) -> Moment {
        self.model.now
    }

    pub(super) fn has_ended(&self) -> bool {
        self.model.ending.is_some()
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        self.machine.next_timeout()
    }

    pub(super) fn report(&mut self, fact: Fact, now: Moment) {
        let call: fn(&mut Liveness, Moment) = match fact {
            Fact::Nothing => return,
            Fact::Failed => return self.fail(now),
            Fact::Heard => Liveness::on_heard,
            Fact::Sent => Liveness::on_ping_sent,
            Fact::Pong => Liveness::on_pong,
            Fact::Unsupported => {
                (self.sending_at, self.pong_at) = (None, None);
                Liveness::on_ping_unsupported
            }
            Fact::RequestStart => Liveness::on_request_start,
            Fact::RequestEnd => Liveness::on_request_end,
            Fact::Full => |machine, now| machine.on_full(true, now),
            Fact::Room => |machine, now| machine.on_full(false, now),
            Fact::Wanted => Liveness::on_ping_wanted,
            Fact::LocalPause => Liveness::on_local_pause,
        };
        self.tell(now, call);
        self.model.follow(fact);
    }

    /// Takes every action that is due and answers it.
    pub(super) fn drain(&mut self, now: Moment) {
        for _ in 0..20 {
            let Some(action) = self.tell(now, Liveness::handle_timeout) else {
                self.model.rest(&self.machine);
                self.assert_timeout_is_exact();
                return;
            };
            self.model.take(action);
            match action {
                Action::Ping => match self.sends {
                    Sends::After(Duration::ZERO) => self.send(),
                    Sends::After(delay) => self.sending_at = Some(self.now().after(delay)),
                    Sends::WhenTold => {}
                },
                Action::CallOff => self.sending_at = None,
                Action::LookAgain if self.hears_when_looking => {
                    self.report(Fact::Heard, self.now());
                }
                Action::LookAgain | Action::Missed { .. } | Action::Standing(_) => {}
                Action::End(_) => {
                    assert_eq!(self.machine.next_timeout(), None);
                    return;
                }
            }
        }
        panic!("no end of actions");
    }

    /// Lets time pass up to `until`, with every timeout at its moment.
    pub(super) fn run(&mut self, until: Moment) {
        while !self.has_ended() {
            let next = [self.machine.next_timeout(), self.sending_at, self.pong_at]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= until) else {
                return;
            };
            let now = next.max(self.now());
            if self.sending_at.is_some_and(|at| at <= now) {
                self.sending_at = None;
                self.model.now = now;
                self.send();
            }
            if self.pong_at.is_some_and(|at| at <= now) {
                self.pong_at = None;
                self.report(Fact::Pong, now);
            }
            self.drain(now);
        }
    }

    /// Calls the twin with facts of the past that change nothing, and early up to `until`.
    pub(super) fn pester(&mut self, past: Duration, until: Moment) {
        let now = self.model.now;
        let past = Moment::default().after(now.since(at(0).after(past)));
        let next = self.machine.next_timeout();
        let Some(twin) = &mut self.twin else { return };
        assert_eq!(twin.handle_timeout(past), None);
        if until > now {
            let early = next.map_or(until, |next| just_before(next).min(until));
            assert_eq!(twin.handle_timeout(early), None);
            assert_eq!(twin.handle_timeout(past), None);
        }
        match self.model.ping {
            Ping::Resting => {
                twin.on_ping_sent(past);
                twin.on_pong(past);
            }
            Ping::Asked { .. } => twin.on_pong(past),
            Ping::Out { .. } => {
                twin.on_ping_sent(past);
                twin.on_ping_wanted(past);
            }
        }
        if self.model.busy {
            twin.on_request_start(past);
        } else {
            twin.on_request_end(past);
        }
    }

    /// From `now` on the twin is the machine that comes back from a rest, if this one rests. Nothing
    /// may be due before `now`.
    pub(super) fn rest_twin(&mut self, now: Moment) {
        let Some(rest) = self.machine.at_rest() else {
            return;
        };
        assert_eq!(self.tell(now, Liveness::handle_timeout), None);
        let config = Arc::clone(&self.machine.config);
        let twin = Liveness::resumed(config, rest, self.now());
        assert_eq!(twin.next_timeout(), self.machine.next_timeout());
        assert_eq!(twin.rtt(), self.machine.rtt());
        assert_eq!(twin.at_rest(), Some(rest));
        self.twin = Some(twin);
    }

    fn send(&mut self) {
        let now = self.now();
        self.report(Fact::Sent, now);
        self.pong_at = self.pongs_after.map(|delay| now.after(delay));
    }

    fn fail(&mut self, now: Moment) {
        match self.tell(now, Liveness::on_ping_failed) {
            Some(action) => self.model.take(action),
            None => assert!(self.has_ended()),
        }
    }

    /// Calls machine and twin, which have to answer alike.
    fn tell<T>(&mut self, now: Moment, call: impl Fn(&mut Liveness, Moment) -> T) -> T
    where
        T: PartialEq + std::fmt::Debug,
    {
        let told = call(&mut self.machine, now);
        if let Some(twin) = &mut self.twin {
            assert_eq!(call(twin, now), told);
        }
        self.model.now = self.model.now.max(now);
        told
    }

    fn assert_timeout_is_exact(&self) {
        let now = self.now();
        let next = self.machine.next_timeout();
        if let Some(twin) = &self.twin {
            assert_eq!(twin.next_timeout(), next);
        }
        let Some(next) = next else {
            let later = now.after(secs(1_000_000));
            assert_eq!(self.machine.clone().handle_timeout(later), None);
            return;
        };
        assert!(next > now, "{next:?} is over at {now:?}");
        let mut before = self.machine.clone();
        assert_eq!(before.handle_timeout(just_before(next)), None);
        assert_eq!(before.next_timeout(), Some(next));
        assert_ne!(self.machine.clone().handle_timeout(next), None);
    }
}
