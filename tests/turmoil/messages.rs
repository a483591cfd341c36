//! Message transports: a client that pings, and the server's half.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    spawn,
    time::{sleep, timeout},
};
use tower::BoxError;
use tower_heartbeat::State;
use turmoil::Builder;

use super::{
    client::config,
    faults::{
        CLIENT, Fault, LATENCY, Log, TO_THE_CLIENT, TO_THE_SERVER, Teller, ponged, suspected,
    },
    server::{HOST, SLOW},
    support::{millis, secs},
    wire::{OfLines, OfWebSocket, Pings, Served, Wire, failure, open, serve},
};

#[test]
fn a_link_that_holds_is_found_in_time_at_both_ends_and_the_next_connection_works() {
    assert_both_find::<OfLines>(Fault::Hold, 1);
    assert_both_find::<OfWebSocket>(Fault::Hold, 1);
}

#[test]
fn a_link_that_loses_everything_is_found_in_time_at_both_ends() {
    assert_both_find::<OfLines>(Fault::Partition, 2);
    assert_both_find::<OfWebSocket>(Fault::Partition, 2);
}

#[test]
fn a_link_on_which_nothing_gets_to_the_server_is_found_in_time_by_whoever_is_first() {
    for log in [
        run::<OfLines>(TO_THE_SERVER, 3),
        run::<OfWebSocket>(TO_THE_SERVER, 3),
    ] {
        assert_in_time(&log, "served: Err(Some(PongTimeout))");
        // The server's end may get there before the client's own verdict.
        let left = log
            .iter()
            .any(|(_, told)| told == "client: the server left");
        let first = ["client: Some(PongTimeout)", "client: the server left"];
        assert_in_time(&log, first[usize::from(left)]);
        assert_eq!(log.last().expect("an end").1, "again: Ok(())");
    }
}

#[test]
fn a_link_on_which_nothing_gets_to_the_client_is_found_in_time_and_the_server_told() {
    for log in [
        run::<OfLines>(TO_THE_CLIENT, 4),
        run::<OfWebSocket>(TO_THE_CLIENT, 4),
    ] {
        assert_in_time(&log, "client: Some(PongTimeout)");
        // It heard the client's pings, then its end: there is nobody for the slow answer any more.
        let (_, told) = log
            .iter()
            .find(|(_, told)| told.starts_with("served"))
            .expect("an end");
        assert!(!told.contains("PongTimeout"), "{told}");
        assert_eq!(log.last().expect("an end").1, "again: Ok(())");
    }
}

#[test]
fn a_link_that_holds_for_less_than_the_pong_wait_costs_nothing() {
    for log in [
        run::<OfLines>(Fault::HoldWithinThePongWait, 5),
        run::<OfWebSocket>(Fault::HoldWithinThePongWait, 5),
    ] {
        let told: Vec<_> = log.iter().map(|(_, told)| told.as_str()).collect();
        assert_eq!(told, ["fault", "over", "alive", "client: slow"]);
    }
}

#[test]
fn the_same_seed_has_the_same_outcome_to_the_millisecond() {
    for fault in [Fault::Hold, Fault::Partition, TO_THE_CLIENT] {
        let first = run::<OfLines>(fault, 6);
        assert_eq!(first, run::<OfLines>(fault, 6), "{fault:?}");
    }
}

#[test]
fn two_ends_that_ping_at_equal_intervals_live_and_neither_starves_the_other() {
    for seed in 0..2 {
        live_together::<OfLines>(seed);
        live_together::<OfWebSocket>(seed);
    }
}

/// Twenty seconds of heartbeats, then silence.
fn live_together<W: Wire>(seed: u64) {
    let served = Served::default();
    let log = simulate::<W, _>(Pings::OfBoth, &served.clone(), seed, async move |teller| {
        let mut connection = open::<W>().await?;
        let (near, far) = (connection.handle(), served.first());
        let reading = spawn(async move { connection.next().await });
        let begin = (near.pings(), far.pings());
        for _ in 0..200 {
            sleep(millis(100)).await;
            assert_eq!((near.missed(), far.missed()), (0, 0), "{seed}");
            // Each hears of the other once an interval, whoever of them pings.
            let quiet = near.last_heard().min(far.last_heard()).elapsed();
            assert!(
                quiet <= config().interval() + config().tick() + 2 * LATENCY,
                "{quiet:?}"
            );
        }
        // Both together ping as often as one would, and not much more.
        let pings = near.pings() + far.pings() - begin.0 - begin.1;
        assert!((47..=107).contains(&pings), "{pings}");
        teller.tell("fault".into());
        Fault::Partition.begin();
        let item = reading.await?.ok_or("no verdict")?;
        let error = item.expect_err("nobody sends");
        teller.tell(format!("client: {:?}", failure(&error.into())));
        sleep(secs(1)).await;
        assert_eq!(served.count(), 1);
        Ok(())
    });
    assert_in_time(&log, "client: Some(PongTimeout)");
    assert_in_time(&log, "served: Err(Some(PongTimeout))");
    assert_eq!(log.len(), 3, "{log:?}");
}

#[track_caller]
fn assert_both_find<W: Wire>(fault: Fault, seed: u64) {
    let log = run::<W>(fault, seed);
    assert_in_time(&log, "client: Some(PongTimeout)");
    assert_in_time(&log, "served: Err(Some(PongTimeout))");
    assert_eq!(log[3].1, "again: Ok(())");
    assert_eq!(log.len(), 4, "{log:?}");
}

/// From the fault on.
#[track_caller]
fn assert_in_time(log: &Log, what: &str) {
    let find = |what: &str| log.iter().find(|(_, told)| told == what);
    let (began, _) = find("fault").expect("it is told");
    let Some((at, _)) = find(what) else {
        panic!("no \"{what}\" in {log:?}")
    };
    let took = *at - *began;
    let config = config();
    // Timers of a millisecond, and the simulation's steps; what was on its way may still come.
    let margin = millis(4);
    // Whoever was pinged right before the fault counts from there.
    let least = 2 * config.pong_timeout();
    assert!(took + margin >= least, "{what}: {took:?}");
    let most = config.worst_case_detection() + LATENCY;
    assert!(took <= most + margin, "{what}: {took:?}");
}

/// A client with a slow request in flight, and what it and the server are told.
fn run<W: Wire>(fault: Fault, seed: u64) -> Log {
    let client = async move |teller| suffer::<W>(fault, teller).await;
    simulate::<W, _>(Pings::OfTheClient, &Served::default(), seed, client)
}

async fn suffer<W: Wire>(fault: Fault, teller: Teller) -> Result<(), BoxError> {
    let mut connection = open::<W>().await?;
    let handle = connection.handle();
    connection.send(W::message("slow")).await?;
    let reading = spawn(async move {
        match connection.next().await {
            Some(Ok(message)) if W::is(&message, "slow") => "slow".to_string(),
            // WebSocket's has words.
            Some(Ok(_)) | None => "the server left".into(),
            Some(Err(error)) => format!("{:?}", failure(&error.into())),
        }
    });
    sleep(millis(500)).await;
    ponged(&handle).await;
    teller.tell("fault".into());
    fault.begin();
    if fault == Fault::HoldWithinThePongWait {
        suspected(&handle).await;
        fault.end();
        teller.tell("over".into());
        sleep(secs(1)).await;
        assert_eq!(handle.state(), State::Alive);
        teller.tell("alive".into());
        let end = timeout(SLOW, reading).await??;
        teller.tell(format!("client: {end}"));
        return Ok(());
    }
    let end = reading.await?;
    teller.tell(format!("client: {end}"));
    // Until the server has found out as well, and its slow answer is there.
    sleep(SLOW).await;
    fault.end();
    let again = open::<W>().await.map(drop);
    teller.tell(format!("again: {again:?}"));
    Ok(())
}

fn simulate<W, C>(pings: Pings, served: &Served, seed: u64, client: C) -> Log
where
    W: Wire,
    C: AsyncFnOnce(Teller) -> Result<(), BoxError> + 'static,
{
    let teller = Teller::default();
    let mut simulation = Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(120))
        .min_message_latency(millis(1))
        .max_message_latency(LATENCY)
        .build();
    let (kept, told) = (served.clone(), teller.clone());
    simulation.host(HOST, move || serve::<W>(pings, kept.clone(), told.clone()));
    let told = teller.clone();
    simulation.client(CLIENT, async move {
        client(told).await.map_err(|error| error as _)
    });
    if let Err(error) = simulation.run() {
        panic!("{pings:?}, {seed}, after {teller:?}: {error}");
    }
    teller.take()
}
