//! Random connections, freezes, thaws, requests, ends and clock jumps under one layer, against the
//! naive oracle.
//!
//! # What keeps the oracle simple
//!
//! A peer answers at once or, what it keeps while frozen (or mute, as to pings), when it thaws. Pings go out at once. Pauses of this process are
//! either none or so long that no driver can overlook them, and begin when nothing has happened for
//! some ticks. Everything that a script does has a millisecond of its own.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use tokio::{
    task::JoinHandle,
    time::{Instant, advance, sleep},
};
use tower_heartbeat::{Config, ConfigBuilder, Failure, Handle, Heartbeat};

use crate::{
    oracle::Oracle,
    support::{
        Connection, Fact, Mood, Outcome, Peer, TestLayer, Watched, alive_tasks, call, layer,
        millis, ms, paused_runtime, settle,
    },
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn connections_of_one_driver_fare_as_with_a_naive_timer_each(
        config in configs(),
        script in vec((gaps(), steps()), 1..60),
    ) {
        paused_runtime().block_on(run(config, &script));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Freeze(usize),
    /// Pings are kept, requests answered.
    Mute(usize),
    Thaw(usize),
    Request(usize),
    Close(usize),
    Leave(usize),
    /// This process stands still, so many pong waits longer than the driver has to notice.
    Jump(u32),
}

/// The time before a step, in percent of an interval.
fn gaps() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..20_u32, 3 => 0..150_u32, 1 => 100..500_u32]
}

/// Which of the connections is meant, counted round and round.
fn steps() -> impl Strategy<Value = Step> {
    let which = 0..64_usize;
    prop_oneof![
        4 => Just(Step::Connect),
        4 => which.clone().prop_map(Step::Freeze),
        2 => which.clone().prop_map(Step::Mute),
        3 => which.clone().prop_map(Step::Thaw),
        6 => which.clone().prop_map(Step::Request),
        1 => which.clone().prop_map(Step::Close),
        1 => which.prop_map(Step::Leave),
        1 => (0..8_u32).prop_map(Step::Jump),
    ]
}

fn configs() -> impl Strategy<Value = ConfigBuilder> {
    let idle_timeout = option::weighted(0.4, 1..10_u64);
    let settings = (100..2_000_u64, 20..500_u64, 1..=4_u32, idle_timeout);
    settings.prop_map(|(interval, pong_timeout, max_missed, idle)| {
        let builder = Config::builder()
            .interval(ms(interval))
            .pong_timeout(ms(pong_timeout))
            .max_missed(max_missed)
            .ready_timeout(Duration::ZERO);
        match idle {
            Some(intervals) => builder.idle_timeout(ms(interval * intervals / 2)),
            None => builder,
        }
    })
}

async fn run(config: ConfigBuilder, script: &[(u32, Step)]) {
    let layer = layer(config);
    let config = *layer.config();
    let mut cases = vec![Case::under(&layer)];
    for (gap, step) in script {
        sleep(config.interval() * *gap / 100 + ms(1)).await;
        settle().await;
        if let Step::Jump(pong_waits) = step {
            jump(&config, *pong_waits, &cases).await;
        } else {
            act(*step, &layer, &mut cases);
        }
        settle().await;
    }
    // Whoever is frozen dies, or proves to be overlooked.
    sleep(config.worst_case_detection() * 2).await;
    for case in cases {
        case.judge(&config).await;
    }
    settle().await;
    assert_eq!(alive_tasks(), 0);
}

fn act(step: Step, layer: &TestLayer, cases: &mut Vec<Case>) {
    let count = cases.len();
    match step {
        Step::Connect if count < MOST => cases.push(Case::under(layer)),
        Step::Connect | Step::Jump(_) => {}
        Step::Freeze(which) => cases[which % count].peer.be(Mood::Frozen),
        Step::Mute(which) => cases[which % count].peer.be(Mood::KeepsPings),
        Step::Thaw(which) => cases[which % count].peer.be(Mood::Answers),
        Step::Request(which) => cases[which % count].request(),
        Step::Close(which) => cases[which % count].close(),
        Step::Leave(which) => cases[which % count].leave(),
    }
}

/// This process stands still, so long that no driver can overlook it.
async fn jump(config: &Config, pong_waits: u32, cases: &[Case]) {
    // Traffic that was not dated yet would be dated to the other side of it.
    sleep(config.tick() * 3).await;
    settle().await;
    let least = config.max_local_pause() * 3 + config.tick() * 2 + ms(10);
    let pause = least + config.pong_timeout() * pong_waits;
    for case in cases {
        // Before what happens at its end.
        let (from, until) = (case.now(), case.start.elapsed() + pause);
        case.peer.note_at(millis(until), Fact::Paused { from });
    }
    advance(pause).await;
}

const MOST: usize = 12;

/// One connection, its calls, and when it ended.
struct Case {
    service: Option<Heartbeat<Connection>>,
    handle: Handle,
    peer: Arc<Peer>,
    start: Instant,
    calls: Vec<JoinHandle<Outcome>>,
    end: JoinHandle<(u64, Failure)>,
}

impl Case {
    fn under(layer: &TestLayer) -> Case {
        let watched = Watched::under(layer);
        let (start, handle) = (watched.start, watched.handle.clone());
        Case {
            end: tokio::spawn(async move {
                let failure = handle.closed().await;
                (millis(start.elapsed()), failure)
            }),
            service: Some(watched.service),
            handle: watched.handle,
            peer: watched.peer,
            start,
            calls: Vec::new(),
        }
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    fn request(&mut self) {
        let service = self.service.iter();
        self.calls.extend(service.map(call));
    }

    fn close(&mut self) {
        if self.handle.failure().is_none() {
            self.peer.note(Fact::Closed);
        }
        self.handle.close();
    }

    /// The last user goes. With requests in flight it would not be the last one.
    fn leave(&mut self) {
        let over = self.calls.iter().all(JoinHandle::is_finished);
        if over && self.service.take().is_some() && self.handle.failure().is_none() {
            self.peer.note(Fact::Closed);
        }
    }

    async fn judge(self, config: &Config) {
        let now = self.now();
        let end = if self.end.is_finished() {
            Some(self.end.await.unwrap())
        } else {
            self.end.abort();
            None
        };
        let log = self.peer.log();
        let mut oracle = Oracle::new(config);
        for (at, fact) in log {
            let by_script = matches!(fact, Fact::Closed | Fact::Paused { .. });
            // What the peer saw in the moment of the end came before it and changed nothing.
            match end {
                Some((end, _)) if at == end && !by_script => {}
                Some((end, _)) if at > end => assert!(by_script, "{fact:?} after {end}"),
                Some(_) | None => oracle.follow(at, fact),
            }
        }
        oracle.judge(end, now);
        let failure = end.map(|(_, failure)| failure);
        assert_eq!(self.handle.failure(), failure);
        for call in self.calls {
            assert!(call.is_finished(), "a call hangs");
            if let Err(error) = call.await.unwrap() {
                let error = error.heartbeat().expect("the heartbeat's");
                assert_eq!(Some(error.failure()), failure);
            }
        }
    }
}
