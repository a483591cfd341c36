//! What has to become of one connection, told from the peer's side with one timer for each limit.
//!
//! It follows what the peer saw and did, and what the script did; times are ms since connect. Pings
//! are facts to it (the crate is free to make the first one early), which it holds to their time;
//! the verdict it predicts. Whatever it predicts may come a tick off.

use std::time::Duration;

use tower_heartbeat::{Config, Failure};

use crate::support::{Fact, millis};

pub(crate) struct Oracle {
    interval: u64,
    pong_timeout: u64,
    max_missed: u64,
    idle_timeout: Option<u64>,
    worst_case: u64,
    tick: u64,
    /// When the next ping is due, unless one is out.
    ping_at: u64,
    was_pinged: bool,
    /// The ping that is out: in several ways where a pause began just when a window ended.
    out: Vec<Out>,
    in_flight: usize,
    idle_since: u64,
    /// Until when silence may last, where no pause came between.
    bound: Option<u64>,
    resumed_at: u64,
    closed_at: Option<u64>,
}

/// A ping that is out.
#[derive(Clone, Copy)]
struct Out {
    window_ends_at: u64,
    missed: u64,
    excused: bool,
}

impl Oracle {
    pub(crate) fn new(config: &Config) -> Oracle {
        let interval = millis(config.interval());
        let worst_case = millis_up(config.worst_case_detection()) + TIMER;
        Oracle {
            interval,
            pong_timeout: millis(config.pong_timeout()),
            max_missed: u64::from(config.max_missed()),
            idle_timeout: config.idle_timeout().map(millis),
            worst_case,
            tick: millis_up(config.tick()) + TIMER,
            ping_at: interval,
            was_pinged: false,
            out: Vec::new(),
            in_flight: 0,
            idle_since: 0,
            bound: Some(worst_case),
            resumed_at: 0,
            closed_at: None,
        }
    }

    /// Follows what happened while the connection lived.
    pub(crate) fn follow(&mut self, at: u64, fact: Fact) {
        let seen_at = match fact {
            Fact::Paused { from } => from,
            _ => at,
        };
        self.assert_nothing_overlooked(seen_at);
        assert_eq!(self.closed_at, None, "{fact:?} at {at} after it was closed");
        match fact {
            Fact::PingIn => self.follow_ping(at),
            Fact::PongOut => {
                assert!(!self.out.is_empty(), "no ping was out");
                self.out.clear();
                self.hear(at);
            }
            Fact::WorkIn => self.in_flight += 1,
            Fact::WorkOut => {
                self.in_flight -= 1;
                self.idle_since = at;
                self.hear(at);
            }
            Fact::Closed => self.closed_at = Some(at),
            Fact::Paused { from } => self.follow_pause(from, at),
        }
    }

    /// Compares what became of the connection with what had to.
    pub(crate) fn judge(&self, end: Option<(u64, Failure)>, now: u64) {
        let Some((at, failure)) = end else {
            assert_eq!(self.closed_at, None, "it was closed");
            return self.assert_nothing_overlooked(now);
        };
        self.assert_nothing_overlooked(at);
        let (expected, tolerance) = match failure {
            Failure::Closed => (Vec::from_iter(self.closed_at), 0),
            Failure::IdleTimeout => (Vec::from_iter(self.idle_ends_at()), self.tick),
            Failure::PongTimeout => (self.dies_at().collect(), self.tick),
            other => panic!("{other} at {at}"),
        };
        let is_expected = expected.iter().any(|by| at.abs_diff(*by) <= tolerance);
        assert!(is_expected, "{failure} at {at}, not {expected:?}");
        if let (Failure::PongTimeout, Some(bound)) = (failure, self.bound) {
            assert!(at <= bound, "{failure} at {at}, after {bound}");
        }
    }

    fn follow_ping(&mut self, at: u64) {
        assert!(self.out.is_empty(), "a second ping at {at}");
        let early = self.ping_at.saturating_sub(at);
        assert!(
            !self.was_pinged || early <= self.tick,
            "a ping at {at}, before {}",
            self.ping_at
        );
        self.was_pinged = true;
        self.wait_until(at + self.pong_timeout);
    }

    fn hear(&mut self, at: u64) {
        self.ping_at = at + self.interval;
        self.bound = Some(at + self.worst_case);
        if !self.out.is_empty() {
            self.wait_until(at + self.interval + self.pong_timeout);
        }
    }

    fn wait_until(&mut self, window_ends_at: u64) {
        self.out = vec![Out {
            window_ends_at,
            missed: 0,
            excused: false,
        }];
    }

    /// The window that runs ends no earlier than one fresh pong wait from now; once.
    fn follow_pause(&mut self, from: u64, until: u64) {
        self.bound = None;
        self.resumed_at = until;
        self.ping_at = self.ping_at.max(until);
        let fresh = until + self.pong_timeout;
        let running = self.out.iter().flat_map(|out| self.windows_at(*out, from));
        let excused = running.map(|out| match out.excused {
            false if out.window_ends_at < fresh => Out {
                window_ends_at: fresh,
                excused: true,
                ..out
            },
            _ => out,
        });
        self.out = excused.collect();
    }

    /// The window that runs at a time; two, if one ends and the next begins within a tick of it.
    fn windows_at(&self, mut out: Out, at: u64) -> Vec<Out> {
        let mut windows = Vec::new();
        loop {
            if out.window_ends_at + self.tick >= at {
                windows.push(out);
            }
            let goes_on = out.window_ends_at > at + self.tick;
            if goes_on || out.missed + 1 == self.max_missed {
                return windows;
            }
            out = Out {
                window_ends_at: out.window_ends_at + self.pong_timeout,
                missed: out.missed + 1,
                excused: false,
            };
        }
    }

    fn dies_at(&self) -> impl Iterator<Item = u64> {
        self.out.iter().map(|out| {
            let windows_left = self.max_missed - out.missed - 1;
            let dies_at = out.window_ends_at + windows_left * self.pong_timeout;
            dies_at.max(self.resumed_at)
        })
    }

    fn idle_ends_at(&self) -> Option<u64> {
        let ends_at = self.idle_since + self.idle_timeout?;
        (self.in_flight == 0).then_some(ends_at.max(self.resumed_at))
    }

    fn assert_nothing_overlooked(&self, at: u64) {
        if let Some(dies_at) = self.dies_at().max() {
            let by = dies_at + self.tick;
            assert!(at <= by, "{at}: was to die at {dies_at}");
        } else {
            let by = self.ping_at + self.tick;
            assert!(at <= by, "{at}: no ping came at {}", self.ping_at);
        }
        if let Some(ends_at) = self.idle_ends_at() {
            assert!(at <= ends_at + self.tick, "{at}: idle until {ends_at}");
        }
    }
}

/// What the runtime's timer rounds up: for the look which dates a sign of life, the ping, the limit.
const TIMER: u64 = 3;

fn millis_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).expect("no test is that long")
}
