//! Each fault under each client: what the client is told, and when.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tower_heartbeat::{Failure, Handle, Stage, State};
use turmoil::{Builder, hold, partition, partition_oneway, release, repair};

use super::{
    client::{Client, Stack, config, open},
    server::{HOST, SLOW, serve},
    support::{millis, secs},
};

const STACKS: [Stack; 4] = [
    Stack::Http1Idle,
    Stack::Http1Busy,
    Stack::Http2,
    Stack::Grpc,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Hold,
    Partition,
    NothingGets {
        to: &'static str,
        from: &'static str,
    },
    HoldWithinThePongWait,
}

impl Fault {
    pub(crate) fn begin(self) {
        match self {
            Fault::Hold | Fault::HoldWithinThePongWait => hold(CLIENT, HOST),
            Fault::Partition => partition(CLIENT, HOST),
            Fault::NothingGets { to, from } => partition_oneway(from, to),
        }
    }

    pub(crate) fn end(self) {
        match self {
            Fault::Hold | Fault::HoldWithinThePongWait => release(CLIENT, HOST),
            Fault::Partition | Fault::NothingGets { .. } => repair(CLIENT, HOST),
        }
    }
}

pub(crate) const TO_THE_SERVER: Fault = Fault::NothingGets {
    to: HOST,
    from: CLIENT,
};
pub(crate) const TO_THE_CLIENT: Fault = Fault::NothingGets {
    to: CLIENT,
    from: HOST,
};
pub(crate) const CLIENT: &str = "client";

/// What happened, and when.
pub(crate) type Log = Vec<(Duration, String)>;

pub(crate) const LATENCY: Duration = millis(20);

/// A client that tells what happens to it, and a server.
pub(crate) fn simulate<C, F>(stack: Stack, seed: u64, client: C) -> Log
where
    C: FnOnce(Teller) -> F,
    F: Future<Output = turmoil::Result> + 'static,
{
    let teller = Teller::default();
    let mut simulation = Builder::new()
        .rng_seed(seed)
        .simulation_duration(secs(30))
        .min_message_latency(millis(1))
        .max_message_latency(LATENCY)
        .build();
    simulation.host(HOST, move || serve(stack));
    simulation.client(CLIENT, client(teller.clone()));
    if let Err(error) = simulation.run() {
        panic!("{stack:?}, {seed}, after {teller:?}: {error}");
    }
    teller.take()
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Teller(Arc<Mutex<Log>>);

impl Teller {
    pub(crate) fn tell(&self, what: String) {
        let entry = (turmoil::elapsed(), what);
        self.0.lock().expect("no panic").push(entry);
    }

    pub(crate) fn take(&self) -> Log {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

#[test]
fn a_link_that_holds_is_found_in_time_and_a_new_connection_works_after_it() {
    for stack in STACKS {
        assert_dies(stack, &run(stack, Fault::Hold, 1));
    }
}

#[test]
fn a_link_that_loses_everything_is_found_in_time() {
    for stack in STACKS {
        assert_dies(stack, &run(stack, Fault::Partition, 2));
    }
}

#[test]
fn a_link_on_which_nothing_gets_to_the_server_is_found_in_time() {
    for stack in [Stack::Http1Idle, Stack::Http2, Stack::Grpc] {
        assert_dies(stack, &run(stack, TO_THE_SERVER, 3));
    }
}

#[test]
fn an_answer_that_still_comes_is_taken_before_nothing_gets_to_the_server() {
    let log = run(Stack::Http1Busy, TO_THE_SERVER, 3);
    let told: Vec<_> = log.iter().map(|(_, told)| told.as_str()).collect();
    let again = "again: Err(Some((PongTimeout, NotSent)))";
    assert_eq!(
        told,
        [
            "fault",
            "dead: PongTimeout",
            "slow: Ok(())",
            again,
            "new connection"
        ]
    );
    assert!(log[1].0 - log[0].0 <= SLOW + config().worst_case_detection());
}

#[test]
fn a_link_on_which_nothing_gets_to_the_client_is_found_in_time() {
    for stack in STACKS {
        assert_dies(stack, &run(stack, TO_THE_CLIENT, 4));
    }
}

#[test]
fn a_link_that_holds_for_less_than_the_pong_wait_costs_nothing() {
    for stack in STACKS {
        let log = run(stack, Fault::HoldWithinThePongWait, 5);
        let told: Vec<_> = log.iter().map(|(_, told)| told.as_str()).collect();
        assert_eq!(
            told,
            ["fault", "over", "alive", "slow: Ok(())", "again: Ok(())"],
            "{stack:?}"
        );
    }
}

#[test]
fn the_same_seed_has_the_same_outcome_to_the_millisecond() {
    for stack in STACKS {
        for fault in [Fault::Hold, Fault::Partition, Fault::HoldWithinThePongWait] {
            let first = run(stack, fault, 6);
            assert_eq!(first, run(stack, fault, 6), "{stack:?}, {fault:?}");
        }
    }
    // The log would show a difference.
    let first = run(Stack::Http2, Fault::Hold, 6);
    assert!((7..17).any(|seed| run(Stack::Http2, Fault::Hold, seed) != first));
}

fn run(stack: Stack, fault: Fault, seed: u64) -> Log {
    simulate(stack, seed, |teller| async move {
        let client = open(stack).await?;
        sleep(millis(500)).await;
        if stack != Stack::Http1Busy {
            ponged(&client.handle).await;
        }
        suffer(stack, fault, client, |what| teller.tell(what)).await;
        Ok(())
    })
}

async fn suffer(stack: Stack, fault: Fault, client: Client, tell: impl Fn(String)) {
    tell("fault".into());
    fault.begin();
    let handle = &client.handle;
    if fault == Fault::HoldWithinThePongWait {
        match stack {
            // Nothing pings it, and the quiet limit is far.
            Stack::Http1Busy => sleep(secs(1)).await,
            Stack::Http1Idle | Stack::Http2 | Stack::Grpc => suspected(handle).await,
        }
        fault.end();
        tell("over".into());
        sleep(secs(1)).await;
        assert_eq!(handle.state(), State::Alive);
        tell("alive".into());
        let slow = match stack {
            Stack::Http1Idle => Ok(()),
            Stack::Http1Busy | Stack::Http2 | Stack::Grpc => client.slow.await.expect("no panic"),
        };
        tell(format!("slow: {slow:?}"));
        tell(format!("again: {:?}", (client.again)().await));
        return;
    }
    tell(format!("dead: {:?}", handle.closed().await));
    if stack != Stack::Http1Idle {
        let slow = timeout(LATENCY, client.slow).await.expect("at once");
        tell(format!("slow: {:?}", slow.expect("no panic")));
    }
    tell(format!("again: {:?}", (client.again)().await));

    fault.end();
    let next = open(stack).await.expect("a connection");
    assert!(next.handle.is_alive());
    tell("new connection".into());
}

/// Waits for a pong: a peer that vanishes right after it is the last to be found.
pub(crate) async fn ponged(handle: &Handle) {
    let before = handle.pongs();
    while handle.pongs() == before {
        sleep(millis(1)).await;
    }
}

/// Waits for the first miss.
pub(crate) async fn suspected(handle: &Handle) {
    while handle.state() != State::Suspect {
        sleep(millis(1)).await;
    }
}

#[track_caller]
fn assert_dies(stack: Stack, log: &Log) {
    let failure = match stack {
        Stack::Http1Busy => Failure::ReadTimeout,
        Stack::Http1Idle | Stack::Http2 | Stack::Grpc => Failure::PongTimeout,
    };
    let slow = Err::<(), _>(Some((failure, Stage::AwaitingResponse)));
    let again = Err::<(), _>(Some((failure, Stage::NotSent)));
    let mut expected = vec![
        "fault".to_string(),
        format!("dead: {failure:?}"),
        format!("slow: {slow:?}"),
        format!("again: {again:?}"),
        "new connection".to_string(),
    ];
    if stack == Stack::Http1Idle {
        expected.remove(2);
    }
    let told: Vec<_> = log.iter().map(|(_, told)| told.clone()).collect();
    assert_eq!(told, expected, "{stack:?}");

    let took = log[1].0 - log[0].0;
    let config = config();
    let (least, most) = match stack {
        Stack::Http1Busy => (SLOW, config.quiet_timeout().expect("on") + config.tick()),
        Stack::Http1Idle | Stack::Http2 | Stack::Grpc => (
            config.interval() + 2 * config.pong_timeout(),
            config.worst_case_detection(),
        ),
    };
    // Timers of a millisecond, and the simulation's steps.
    let margin = millis(4);
    assert!(took + margin >= least, "{stack:?}: {took:?}");
    assert!(took <= most + margin, "{stack:?}: {took:?}");
}
