//! Whether so many peers are missing that the fault seems to be on this side.

use std::time::Duration;

use crate::{config::Config, moment::Moment};

/// What became of the pings of all connections within the last `pong_timeout`, or as long as a verdict takes
/// at least: when the first is due after a fault, no answer is that young.
pub(super) struct Faults {
    /// In percent; zero if nobody asks.
    share: u8,
    least: u32,
    window: Duration,
    /// Parts of the window, the newest in the place of the oldest.
    parts: [Part; PARTS],
    /// Which one is the newest, counted from the clock's origin.
    newest: u64,
    suspected_at: Option<Moment>,
}

#[derive(Clone, Copy, Default)]
struct Part {
    missed: u32,
    answered: u32,
}

const PARTS: usize = 8;

impl Faults {
    pub(super) fn of(config: &Config) -> Faults {
        Faults {
            share: config.local_fault_share,
            least: config.local_fault_connections,
            window: (config.pong_floor.saturating_mul(config.max_missed)).min(config.pong_timeout),
            parts: [Part::default(); PARTS],
            newest: 0,
            suspected_at: None,
        }
    }

    pub(super) fn on_answer(&mut self, now: Moment) {
        if self.share > 0 {
            self.part(now).answered += 1;
        }
    }

    /// A connection has waited for a whole window.
    pub(super) fn on_miss(&mut self, now: Moment) {
        if self.share > 0 {
            self.part(now).missed += 1;
        }
    }

    /// Asked before each verdict on a missing pong.
    pub(super) fn is_suspected(&mut self, now: Moment) -> bool {
        if self.share == 0 {
            return false;
        }
        self.part(now);
        let sum =
            |count: fn(&Part) -> u32| self.parts.iter().map(count).map(u64::from).sum::<u64>();
        let (missed, answered) = (sum(|part| part.missed), sum(|part| part.answered));
        let asked = missed + answered;
        // The last of many that die one after the other are no fewer for that.
        let enough = asked >= u64::from(self.least) || self.is_recent(now);
        let suspected = enough && missed * 100 >= asked * u64::from(self.share);
        if suspected {
            if !self.is_recent(now) {
                tracing::warn!(parent: None, missed, asked, "local fault suspected");
            }
            self.suspected_at = Some(now);
        }
        suspected
    }

    /// Whether one was suspected so lately that whoever answers now does so together with others.
    pub(super) fn is_recent(&self, now: Moment) -> bool {
        self.suspected_at
            .is_some_and(|at| now.since(at) <= self.window * 2)
    }

    fn part(&mut self, now: Moment) -> &mut Part {
        let length = (self.window / PARTS as u32).as_nanos().max(1);
        let newest = u64::try_from(u128::from(now.as_nanos()) / length).unwrap_or(u64::MAX);
        // Parts that have passed in silence are cleared on the way, all of them at most once.
        self.newest = self.newest.max(newest.saturating_sub(PARTS as u64));
        while self.newest < newest {
            self.newest += 1;
            self.parts[(self.newest % PARTS as u64) as usize] = Part::default();
        }
        &mut self.parts[(self.newest % PARTS as u64) as usize]
    }
}
