//! When a heartbeat pings, misses, convicts and closes, in virtual time.
//!
//! The runtime's clock stands still until every task waits, then jumps to the next timer. A jump
//! by `tokio::time::advance` is a pause of this process, which the driver notices.

#![allow(
    clippy::disallowed_methods,
    reason = "tests read the virtual clock and sleep on it"
)]

use std::{
    cell::RefCell,
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, consume_budget, yield_now},
    time::{Instant, advance, sleep, sleep_until, timeout},
};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    Config, ConfigBuilder, Driver, Error, Evidence, Failure, Handle, Heartbeat, HeartbeatError,
    HeartbeatLayer, InFlight, PingWhen, Stage, State, TrackCompletion, ping,
};

// The interval

#[tokio::test(start_paused = true)]
async fn nothing_is_pinged_while_something_is_heard_within_the_interval() {
    let connection = Watched::new(classic());
    for _ in 0..25 {
        sleep(ms(999)).await;
        connection.call(Answer::AtOnce).await.expect("alive");
    }
    assert_eq!(connection.peer.pings(), []);
    assert_eq!(connection.handle.state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn the_first_ping_goes_out_one_interval_after_connect() {
    let connection = Watched::new(classic());
    connection.at(999).await;
    assert_eq!(connection.handle.pings(), 0);
    connection.at(3_500).await;
    assert_eq!(connection.peer.pings(), [1_000, 2_000, 3_000]);
    assert_eq!(connection.handle.pings(), 3);
    assert_eq!(connection.handle.pongs(), 3);
}

#[tokio::test(start_paused = true)]
async fn sparse_traffic_postpones_the_next_ping_to_one_interval_after_it() {
    let connection = Watched::new(classic());
    connection.at(730).await;
    connection.call(Answer::AtOnce).await.expect("alive");
    connection.at(1_001).await;
    connection.call(Answer::AtOnce).await.expect("alive");
    connection.at(2_500).await;
    assert_eq!(connection.peer.pings(), [2_001]);
}

#[tokio::test(start_paused = true)]
async fn dense_traffic_postpones_the_next_ping_to_the_precision_of_a_tick() {
    let config = classic().build().unwrap();
    let connection = Watched::new(classic());
    let last_at = connection.traffic_until(4_321, 7).await;
    assert_eq!(connection.peer.pings(), []);
    connection.at(6_000).await;
    let ping_at = ms(connection.peer.pings()[0]);
    assert!(ping_at >= last_at + ms(1_000), "{ping_at:?}");
    assert!(
        ping_at <= last_at + ms(1_000) + config.tick(),
        "{ping_at:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_no_sign_of_life() {
    let connection = Watched::new(classic());
    connection.at(500).await;
    let _request = connection.start(Answer::Never);
    connection.at(1_100).await;
    assert_eq!(connection.peer.pings(), [1_000]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_is_no_sign_of_life() {
    let connection = Watched::new(classic());
    connection.at(500).await;
    let error = connection.call(Answer::Error).await.expect_err("refused");
    assert!(matches!(error, Error::Inner(e) if e.kind() == io::ErrorKind::ConnectionReset));
    connection.at(1_100).await;
    assert_eq!(connection.peer.pings(), [1_000]);
}

#[tokio::test(start_paused = true)]
async fn every_part_of_a_body_postpones_the_next_ping() {
    let (mut service, peer) = streaming(classic());
    let start = Instant::now();
    let body = service.ready().await.unwrap().call(work(Answer::AtOnce));
    let body = body.await.unwrap();
    for _ in 0..10 {
        sleep(ms(800)).await;
        body.part();
    }
    assert_eq!(peer.pings(), []);
    sleep_until(start + ms(9_200)).await;
    settle().await;
    // The last part came at 8,000, and is dated to a tick of 125 ms.
    assert!((9_000..=9_125).contains(&peer.pings()[0]));
}

// Misses and recovery

#[tokio::test(start_paused = true)]
async fn every_pong_timeout_without_a_sign_of_life_is_one_more_miss() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    for (at, missed, state) in [
        (1_000, 0, State::Alive),
        (1_199, 0, State::Alive),
        (1_200, 1, State::Suspect),
        (1_399, 1, State::Suspect),
        (1_400, 2, State::Suspect),
        (1_599, 2, State::Suspect),
    ] {
        connection.at(at).await;
        assert_eq!(connection.handle.missed(), missed, "at {at}");
        assert_eq!(connection.handle.state(), state, "at {at}");
    }
    connection.at(1_600).await;
    assert_eq!(connection.handle.state(), State::Dead);
    assert_eq!(connection.peer.pings(), [1_000], "it is not sent again");
}

#[tokio::test(start_paused = true)]
async fn a_late_pong_takes_the_misses_back() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(599)));
    connection.at(1_598).await;
    assert_eq!(connection.handle.missed(), 2);
    connection.at(1_599).await;
    assert_eq!(connection.handle.missed(), 0);
    assert_eq!(connection.handle.state(), State::Alive);
    connection.at(30_000).await;
    assert_eq!(connection.peer.pings()[..2], [1_000, 2_599]);
    assert_eq!(connection.handle.state(), State::Suspect, "late again");
    assert_eq!(connection.handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn any_traffic_takes_the_misses_back_while_the_ping_stays_out() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_450).await;
    assert_eq!(connection.handle.state(), State::Suspect);
    connection.call(Answer::AtOnce).await.expect("alive");
    settle().await;
    assert_eq!(connection.handle.missed(), 0);
    assert_eq!(connection.handle.state(), State::Alive);

    let (died_at, failure) = connection.death().await;
    assert_eq!(failure, Failure::PongTimeout);
    assert_eq!(died_at, ms(1_450 + 1_000 + 3 * 200));
    assert_eq!(connection.peer.pings(), [1_000], "one ping is out, no more");
}

#[tokio::test(start_paused = true)]
async fn a_request_answered_while_a_ping_is_out_rescues_the_connection() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(900).await;
    let request = connection.start(Answer::After(ms(650)));
    request.await.unwrap().expect("alive at 1,550");
    settle().await;
    sleep(ms(126)).await;
    assert_eq!(connection.handle.state(), State::Alive);
    connection.at(2_000).await;
    assert_eq!(connection.handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_lives_for_ever() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(199)));
    connection.at(1_000_000).await;
    assert_eq!(connection.handle.state(), State::Alive);
    assert_eq!(connection.handle.missed(), 0);
    assert_eq!(connection.handle.pongs(), 834, "one in 1,199 ms");
}

// Death

#[tokio::test(start_paused = true)]
async fn death_comes_at_the_last_window_and_not_a_millisecond_before() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_599).await;
    assert_eq!(connection.handle.failure(), None);
    let (died_at, failure) = connection.death().await;
    assert_eq!((died_at, failure), (ms(1_600), Failure::PongTimeout));
}

#[tokio::test(start_paused = true)]
async fn death_counts_from_the_last_sign_of_life() {
    for heard_at in [1, 350, 999] {
        let connection = Watched::new(classic());
        connection.peer.answer_pings(Answer::Never);
        connection.at(heard_at).await;
        connection.call(Answer::AtOnce).await.expect("alive");
        let (died_at, _) = connection.death().await;
        assert_eq!(died_at, ms(heard_at + 1_600));
    }
}

#[tokio::test(start_paused = true)]
async fn death_comes_within_the_bound_whatever_the_traffic_was() {
    for (config, name) in [
        (classic(), "classic"),
        (Config::builder().detect_within(ms(1_000)), "front door"),
        (classic().jitter(25), "jitter"),
        (classic().max_missed(1), "one miss"),
        (classic().idle_timeout(ms(200_000)), "idle"),
        (classic().verify_after_idle(ms(333)), "verify"),
    ] {
        let bound = config.build().unwrap().worst_case_detection();
        for (until, step) in [(10, 3), (1_777, 7), (2_000, 41), (1_003, 1), (3_100, 310)] {
            let connection = Watched::new(config);
            connection.peer.answer_pings(Answer::Never);
            let last_at = connection.traffic_until(until, step).await;
            let pending = connection.start(Answer::Never);
            let (died_at, failure) = connection.death().await;
            assert_eq!(failure, Failure::PongTimeout, "{name}");
            assert!(
                died_at <= last_at + bound,
                "{name} {until}/{step}: {died_at:?}"
            );
            assert!(
                name == "jitter" || died_at >= last_at + bound * 3 / 4,
                "{name} {until}/{step}: {died_at:?}, too early"
            );
            let error = pending.await.unwrap().expect_err("dead");
            assert_eq!(
                error.heartbeat().map(HeartbeatError::failure),
                Some(failure)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn death_comes_within_the_bound_when_the_ping_just_made_it_out() {
    let config = classic().ready_timeout(ms(300));
    let connection = Watched::new(config);
    connection.peer.answer_pings(Answer::Never);
    connection.at(1).await;
    connection.peer.block();
    connection.at(1_299).await;
    connection.peer.unblock();
    let (died_at, failure) = connection.death().await;
    // The pong wait begins when the ping is out.
    assert_eq!((died_at, failure), (ms(1_899), Failure::PongTimeout));
    assert!(died_at <= config.build().unwrap().worst_case_detection());
}

#[tokio::test(start_paused = true)]
async fn after_death_every_call_is_refused_unsent() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.death().await;
    assert!(!connection.service.is_alive());
    let error = connection.call(Answer::AtOnce).await.expect_err("dead");
    let error = error.heartbeat().expect("the verdict");
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.stage(), Stage::NotSent);
    assert_eq!(connection.peer.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_death_what_the_inner_service_says_is_explained_by_it() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    let mut service = connection.service.clone();
    let request = service.ready().await.unwrap().call(work(Answer::Error));
    connection.death().await;
    let error = request.await.expect_err("dead");
    assert_eq!(
        error.heartbeat().map(HeartbeatError::failure),
        Some(Failure::PongTimeout)
    );
}

// Ties and pauses

#[tokio::test(start_paused = true)]
async fn a_pong_at_the_very_deadline_wins() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(600)));
    connection.at(1_700).await;
    assert_eq!(connection.handle.failure(), None);
    assert_eq!(connection.handle.pongs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_takes_some_turns_of_the_runtime_at_the_very_deadline_wins() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Turns(ms(600), 4));
    connection.at(1_700).await;
    assert_eq!(connection.handle.failure(), None);
    assert_eq!(connection.handle.pongs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_at_the_very_instant_of_death_wins() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    let mut service = connection.service.clone();
    let request = service.ready().await.unwrap().call(work(Answer::AtOnce));
    connection.death().await;
    // Complete since the start, but polled only now.
    request.await.expect("the response that was there");
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_this_process_does_not_convict() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_050).await;
    // The lid is closed for an hour while a ping is out.
    advance(ms(3_600_000)).await;
    settle().await;
    assert_eq!(connection.handle.failure(), None, "elapsed time alone");
    sleep(ms(199)).await;
    connection.call(Answer::AtOnce).await.expect("alive");
    settle().await;
    assert_eq!(connection.handle.state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_found_after_a_pause_too() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_050).await;
    advance(ms(60_000)).await;
    let resumed_at = connection.elapsed();
    let (died_at, failure) = connection.death().await;
    assert_eq!(failure, Failure::PongTimeout);
    assert!(died_at >= resumed_at + ms(200), "one fresh pong wait");
    assert!(died_at <= resumed_at + ms(600), "{:?}", died_at);
}

#[tokio::test(start_paused = true)]
async fn pauses_again_and_again_do_not_keep_a_dead_peer_alive() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_000).await;
    let mut pauses = 0;
    while connection.handle.failure().is_none() {
        sleep(ms(50)).await;
        advance(ms(220)).await;
        settle().await;
        pauses += 1;
        assert!(pauses < 10, "one fresh chance for each window");
    }
    assert_eq!(connection.handle.failure(), Some(Failure::PongTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_pause_up_to_max_local_pause_does_not_stretch_the_wait() {
    let connection = Watched::new(classic().max_local_pause(ms(100)));
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_001).await;
    advance(ms(150)).await;
    let (died_at, _) = connection.death().await;
    assert_eq!(died_at, ms(1_600));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_looked_at_late_ends_when_it_was_to_end() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_150).await;
    advance(ms(99)).await;
    settle().await;
    assert_eq!(connection.handle.missed(), 1, "49 ms late");
    let (died_at, _) = connection.death().await;
    assert_eq!(died_at, ms(1_600));
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_the_middle_of_a_wait_is_noticed_though_its_end_is_hardly_late() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_410).await;
    advance(ms(240)).await;
    settle().await;
    assert_eq!(connection.handle.failure(), None, "1,600 is just over");
    let (died_at, _) = connection.death().await;
    assert_eq!(died_at, ms(1_850), "one fresh pong wait");
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_convict_a_blocked_ping_either() {
    let connection = Watched::new(classic().ready_timeout(ms(300)));
    connection.peer.block();
    connection.at(1_010).await;
    advance(ms(5_000)).await;
    settle().await;
    assert_eq!(connection.handle.failure(), None);
    sleep(ms(100)).await;
    connection.peer.unblock();
    settle().await;
    assert_eq!(connection.handle.pongs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_convict_a_quiet_peer_either() {
    let config = classic().quiet_timeout(ms(2_000));
    let connection = Watched::without_pings(config);
    let request = connection.start(Answer::After(ms(10_150)));
    connection.at(100).await;
    advance(ms(10_000)).await;
    request.await.unwrap().expect("a fresh pong wait for it");
}

#[tokio::test(start_paused = true)]
async fn an_old_pause_does_not_use_up_the_chance_after_a_new_one() {
    let connection = Watched::without_pings(classic().quiet_timeout(ms(2_000)));
    connection.call(Answer::AtOnce).await.expect("alive");
    settle().await;
    advance(ms(10_000)).await;
    connection.at(60_000).await;
    let request = connection.start(Answer::After(ms(10_150)));
    sleep(ms(100)).await;
    advance(ms(10_000)).await;
    request.await.unwrap().expect("a fresh pong wait for it");

    let connection = Watched::new(classic().ready_timeout(ms(300)));
    connection.call(Answer::AtOnce).await.expect("alive");
    connection.peer.block();
    settle().await;
    advance(ms(800)).await;
    connection.at(1_050).await;
    assert_eq!(connection.peer.reservations(), 1, "a ping waits its turn");
    advance(ms(10_000)).await;
    settle().await;
    assert_eq!(connection.handle.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_brings_back_the_chance_after_the_next_pause() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_050).await;
    for _ in 0..3 {
        advance(ms(10_000)).await;
        settle().await;
        connection.call(Answer::AtOnce).await.expect("alive");
        // Into the one window that follows: an interval and a pong wait.
        sleep(ms(1_150)).await;
    }
    assert_eq!(connection.peer.pings(), [1_000]);

    let connection = Watched::without_pings(classic().quiet_timeout(ms(2_000)));
    let request = connection.start(Answer::Never);
    for _ in 0..3 {
        sleep(ms(1_900)).await;
        advance(ms(10_000)).await;
        settle().await;
        connection.call(Answer::AtOnce).await.expect("alive");
        settle().await;
    }
    assert!(!request.is_finished());
}

// The idle limit

#[tokio::test(start_paused = true)]
async fn idle_counts_from_connect_and_pings_are_no_use() {
    let connection = Watched::new(classic().idle_timeout(ms(5_500)));
    connection.at(5_499).await;
    assert_eq!(connection.handle.failure(), None);
    assert_eq!(connection.handle.idle_for(), ms(5_499));
    let (closed_at, failure) = connection.death().await;
    assert_eq!((closed_at, failure), (ms(5_500), Failure::IdleTimeout));
    assert_eq!(connection.handle.state(), State::IdleClosed);
    assert_eq!(connection.peer.pings(), [1_000, 2_000, 3_000, 4_000, 5_000]);
    let error = connection.handle.error().expect("ended");
    assert_eq!(error.waited(), ms(5_500));
    assert_eq!(error.quiet_for(), ms(500));
    assert_eq!(error.missed(), 0);
}

#[tokio::test(start_paused = true)]
async fn idle_counts_from_the_end_of_the_last_request() {
    let config = classic().idle_timeout(ms(3_000));
    let tick = config.build().unwrap().tick();
    for length in [0, 1, 63, 900, 20_000] {
        let connection = Watched::new(config);
        connection.at(2_900).await;
        connection
            .call(Answer::After(ms(length)))
            .await
            .expect("served");
        let ended_at = connection.elapsed();
        let (closed_at, failure) = connection.death().await;
        assert_eq!(failure, Failure::IdleTimeout);
        assert!(closed_at >= ended_at + ms(3_000), "{length}: {closed_at:?}");
        assert!(
            closed_at <= ended_at + ms(3_000) + tick,
            "{length}: {closed_at:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn idle_counts_from_the_end_of_the_body() {
    let config = classic().idle_timeout(ms(3_000));
    let (mut service, _peer) = streaming(config);
    let handle = service.handle();
    let body = service.ready().await.unwrap().call(work(Answer::AtOnce));
    let body = body.await.unwrap();
    sleep(ms(10_000)).await;
    assert_eq!(handle.state(), State::Alive);
    assert_eq!(handle.in_flight(), 1);
    assert_eq!(handle.idle_for(), Duration::ZERO);
    drop(body);
    let dropped_at = Instant::now();
    assert_eq!(in_time(handle.closed()).await, Failure::IdleTimeout);
    let tick = config.build().unwrap().tick();
    let after = dropped_at.elapsed();
    assert!((ms(3_000)..=ms(3_000) + tick).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_is_no_longer_in_flight() {
    let config = classic().idle_timeout(ms(3_000));
    let connection = Watched::new(config);
    let request = connection.start(Answer::Never);
    connection.at(5_000).await;
    assert_eq!(connection.handle.in_flight(), 1);
    request.abort();
    settle().await;
    assert_eq!(connection.handle.in_flight(), 0);
    let (closed_at, _) = connection.death().await;
    let tick = config.build().unwrap().tick();
    assert!((ms(8_000)..=ms(8_000) + tick).contains(&closed_at));
}

#[tokio::test(start_paused = true)]
async fn a_request_at_the_very_end_of_the_idle_time_is_served_or_refused_unsent() {
    for first in [2_999, 3_000, 3_001] {
        let connection = Watched::new(classic().idle_timeout(ms(3_000)));
        sleep_until(connection.start + ms(first)).await;
        match connection.call(Answer::After(ms(50))).await {
            Ok(()) => assert_eq!(connection.peer.calls(), 1),
            Err(error) => {
                let error = error.heartbeat().expect("the idle limit");
                assert_eq!(error.failure(), Failure::IdleTimeout);
                assert_eq!(error.stage(), Stage::NotSent);
                assert_eq!(connection.peer.calls(), 0);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_call_leaves_with_the_idle_limit_at_once() {
    let connection = Watched::new(classic().idle_timeout(ms(3_000)));
    connection.at(2_500).await;
    connection.peer.block();
    let mut service = connection.service.clone();
    let mut ready = task::spawn(poll_fn(move |cx| service.poll_ready(cx)));
    assert_pending!(ready.poll());
    connection.at(3_001).await;
    assert!(ready.is_woken());
    let Poll::Ready(Err(Error::Heartbeat(error))) = ready.poll() else {
        panic!("refused");
    };
    assert_eq!(error.failure(), Failure::IdleTimeout);
    assert_eq!(error.stage(), Stage::NotSent);
}

// When pings are made

#[tokio::test(start_paused = true)]
async fn while_busy_pings_sleep_while_idle_and_begin_at_once_on_waking() {
    let connection = Watched::new(classic().ping_when(PingWhen::WhileBusy));
    connection.peer.answer_pings(Answer::Never);
    connection.at(60_000).await;
    assert_eq!(connection.peer.pings(), []);
    assert_eq!(connection.handle.state(), State::Alive);

    let request = connection.start(Answer::Never);
    let (died_at, failure) = connection.death().await;
    assert_eq!(connection.peer.pings(), [60_000]);
    assert_eq!((died_at, failure), (ms(60_600), Failure::PongTimeout));
    assert!(request.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn while_busy_pings_wait_for_the_interval_after_a_short_quiet() {
    let connection = Watched::new(classic().ping_when(PingWhen::WhileBusy));
    connection.at(400).await;
    let request = connection.start(Answer::After(ms(1_800)));
    request.await.unwrap().expect("answered at 2,200");
    connection.at(60_000).await;
    assert_eq!(connection.peer.pings(), [1_000, 2_000], "and none after it");
}

#[tokio::test(start_paused = true)]
async fn not_busy_pings_sleep_while_a_request_is_in_flight() {
    let connection = Watched::new(classic().ping_when(PingWhen::NotBusy));
    connection.at(500).await;
    let request = connection.start(Answer::After(ms(10_000)));
    request.await.unwrap().expect("answered at 10,500");
    assert_eq!(connection.peer.pings(), []);
    connection.at(11_700).await;
    let pings = connection.peer.pings();
    // The answer and the end of the request are dated to a tick of 125 ms.
    assert!((11_500..=11_625).contains(&pings[0]), "{pings:?}");
}

#[tokio::test(start_paused = true)]
async fn always_pings_at_every_interval_whatever_is_heard() {
    let connection = Watched::new(classic().ping_when(PingWhen::Always));
    connection.traffic_until(4_500, 13).await;
    assert_eq!(connection.peer.pings(), [1_000, 2_000, 3_000, 4_000]);
}

#[tokio::test(start_paused = true)]
async fn always_still_takes_any_traffic_for_a_sign_of_life() {
    let connection = Watched::new(classic().ping_when(PingWhen::Always));
    connection.peer.answer_pings(Answer::Never);
    let last_at = connection.traffic_until(5_000, 13).await;
    assert_eq!(connection.handle.state(), State::Alive);
    assert_eq!(connection.peer.pings(), [1_000]);
    let bound = connection.handle.config().worst_case_detection();
    let (died_at, _) = connection.death().await;
    assert!(died_at <= last_at + bound);
}

#[tokio::test(start_paused = true)]
async fn pong_only_evidence_is_not_impressed_by_traffic() {
    let connection = Watched::new(classic().evidence(Evidence::PongOnly));
    connection.peer.answer_pings(Answer::Never);
    connection.traffic_until(1_590, 10).await;
    assert_eq!(connection.peer.pings(), [1_000]);
    assert_eq!(connection.handle.missed(), 2);
    assert_eq!(connection.handle.last_heard(), connection.start);
    let (died_at, failure) = connection.death().await;
    assert_eq!((died_at, failure), (ms(1_600), Failure::PongTimeout));
    let error = connection.handle.error().expect("ended");
    assert_eq!(error.quiet_for(), ms(1_600));
}

#[tokio::test(start_paused = true)]
async fn pong_only_evidence_is_content_with_pongs() {
    let connection = Watched::new(classic().evidence(Evidence::PongOnly));
    connection.traffic_until(10_500, 10).await;
    assert_eq!(connection.handle.pongs(), 10);
    assert_eq!(connection.handle.state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn jitter_only_shortens_and_by_its_percentage_at_most() {
    let connection = Watched::new(classic().jitter(25));
    connection.at(200_000).await;
    let pings = connection.peer.pings();
    let gaps: Vec<u64> = std::iter::once(&0)
        .chain(&pings)
        .zip(&pings)
        .map(|(before, after)| after - before)
        .collect();
    assert!(gaps.iter().all(|gap| (750..=1_000).contains(gap)));
    // A uniform draw of 200 leaves each of these empty once in 10^12 runs.
    assert!(gaps.iter().any(|gap| *gap < 800), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap > 950), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_with_jitter_do_not_ping_together() {
    let connections: Vec<_> = (0..50)
        .map(|_| Watched::new(classic().jitter(25)))
        .collect();
    connections[0].at(1_001).await;
    let mut first: Vec<u64> = connections
        .iter()
        .map(|connection| connection.peer.pings()[0])
        .collect();
    first.sort_unstable();
    first.dedup();
    assert!(first.len() > 20, "{first:?}");
}

// Verification and the soft limit

#[tokio::test(start_paused = true)]
async fn after_long_quiet_poll_ready_waits_for_one_pong() {
    let connection = Watched::new(classic().verify_after_idle(ms(500)));
    connection.peer.answer_pings(Answer::After(ms(50)));
    connection.at(499).await;
    let mut service = connection.service.clone();
    let mut ready = task::spawn(poll_fn(move |cx| service.poll_ready(cx)));
    assert_ready_ok!(ready.poll(), "not yet that long");

    connection.at(700).await;
    let mut service = connection.service.clone();
    let mut ready = task::spawn(service.ready());
    assert_pending!(ready.poll());
    connection.at(749).await;
    assert_eq!(connection.peer.pings(), [700], "sent at once");
    assert!(!ready.is_woken());
    assert_eq!(connection.handle.state(), State::Alive);
    connection.at(750).await;
    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
}

#[tokio::test(start_paused = true)]
async fn verification_lets_everybody_through_after_one_ping() {
    let connection = Watched::new(classic().verify_after_idle(ms(500)));
    connection.peer.answer_pings(Answer::After(ms(50)));
    connection.at(800).await;
    let calls: Vec<_> = (0..10).map(|_| connection.start(Answer::AtOnce)).collect();
    for call in calls {
        call.await.unwrap().expect("verified");
    }
    assert_eq!(connection.elapsed(), ms(850));
    assert_eq!(connection.peer.pings(), [800]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_that_has_to_be_verified_costs_no_request() {
    for max_missed in [1, 3] {
        let config = classic().max_missed(max_missed);
        let connection = Watched::new(config.verify_after_idle(ms(500)));
        connection.peer.answer_pings(Answer::Never);
        connection.at(700).await;
        let error = connection.call(Answer::AtOnce).await.expect_err("dead");
        assert_eq!(connection.peer.calls(), 0, "held through the misses too");
        assert_eq!(connection.elapsed(), ms(700 + u64::from(max_missed) * 200));
        let error = error.heartbeat().expect("the verdict");
        assert_eq!(error.failure(), Failure::PongTimeout);
        assert_eq!(error.stage(), Stage::NotSent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_already_missed_a_ping_has_to_be_verified_all_the_more() {
    let connection = Watched::new(classic().verify_after_idle(ms(500)));
    connection.peer.answer_pings(Answer::After(ms(450)));
    connection.at(1_250).await;
    assert_eq!(connection.handle.state(), State::Suspect);
    connection.call(Answer::AtOnce).await.expect("verified");
    assert_eq!(connection.elapsed(), ms(1_450));
    assert_eq!(connection.peer.pings(), [1_000], "by the ping that was out");
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_flight_verifies_as_well_as_a_pong() {
    let connection = Watched::new(classic().verify_after_idle(ms(500)));
    connection.peer.answer_pings(Answer::Never);
    connection.at(100).await;
    let in_flight = connection.start(Answer::After(ms(550)));
    connection.at(610).await;
    let held = connection.start(Answer::AtOnce);
    in_flight.await.unwrap().expect("answered at 650");
    held.await.unwrap().expect("verified by it");
    // Dated to a tick of 500 / 8 ms.
    assert!(connection.elapsed() <= ms(713));
}

#[tokio::test(start_paused = true)]
async fn a_ready_instance_needs_no_verification() {
    let connection = Watched::new(classic().verify_after_idle(ms(500)));
    connection.peer.answer_pings(Answer::Never);
    let mut service = connection.service.clone();
    service.ready().await.expect("fresh");
    connection.at(700).await;
    service.ready().await.expect("it was told so");
    service.call(work(Answer::AtOnce)).await.expect("served");
    assert_eq!(connection.elapsed(), ms(700));
}

#[tokio::test(start_paused = true)]
async fn while_busy_pings_verify_after_any_quiet() {
    let config = classic()
        .ping_when(PingWhen::WhileBusy)
        .verify_after_idle(ms(5_000));
    let connection = Watched::new(config);
    connection.peer.answer_pings(Answer::After(ms(20)));
    connection.at(4_000).await;
    connection.call(Answer::AtOnce).await.expect("served");
    assert_eq!(connection.elapsed(), ms(4_000));
    connection.at(10_000).await;
    connection.call(Answer::AtOnce).await.expect("served");
    assert_eq!(connection.elapsed(), ms(10_020));
}

#[tokio::test(start_paused = true)]
async fn a_suspect_connection_holds_new_calls_back_until_a_sign_of_life() {
    let connection = Watched::new(classic().suspect_after(ms(1_150)));
    connection.peer.answer_pings(Answer::After(ms(450)));
    connection.at(900).await;
    let in_flight = connection.start(Answer::After(ms(900)));
    let mut told = connection.service.clone();
    told.ready().await.expect("fresh");

    connection.at(1_149).await;
    assert!(connection.service.is_alive());
    connection.at(1_151).await;
    assert_eq!(connection.handle.state(), State::Suspect);
    assert!(!connection.service.is_alive());
    let mut service = connection.service.clone();
    let mut held = task::spawn(service.ready());
    assert_pending!(held.poll());
    told.ready().await.expect("it was told so");

    connection.at(1_449).await;
    assert!(!held.is_woken());
    connection.at(1_450).await;
    assert!(held.is_woken());
    assert_ready_ok!(held.poll());
    assert_eq!(connection.handle.state(), State::Alive);
    in_flight.await.unwrap().expect("calls in flight went on");
}

#[tokio::test(start_paused = true)]
async fn a_miss_holds_new_calls_back_where_there_is_a_soft_limit() {
    let connection = Watched::new(classic().suspect_after(ms(1_500)));
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_201).await;
    assert_eq!(connection.handle.state(), State::Suspect);
    let error = connection.call(Answer::AtOnce).await.expect_err("dead");
    assert_eq!(connection.elapsed(), ms(1_600));
    assert_eq!(
        error.heartbeat().map(HeartbeatError::stage),
        Some(Stage::NotSent)
    );
    assert_eq!(connection.peer.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_soft_limit_a_suspect_connection_takes_calls() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(1_300).await;
    assert_eq!(connection.handle.state(), State::Suspect);
    assert!(connection.service.is_alive());
    connection.call(Answer::AtOnce).await.expect("served");
}

// A ping that can't go out

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_stuck_on_this_side_ends_as_blocked() {
    let connection = Watched::new(classic().ready_timeout(ms(300)));
    connection.at(200).await;
    connection.call(Answer::AtOnce).await.expect("alive");
    connection.at(250).await;
    connection.peer.block();
    connection.at(1_499).await;
    assert_eq!(connection.handle.failure(), None);
    let (died_at, failure) = connection.death().await;
    assert_eq!((died_at, failure), (ms(1_500), Failure::PingBlocked));
    assert_eq!(connection.handle.state(), State::Dead);
    assert_eq!(connection.handle.pings(), 0);
    let error = connection.handle.error().expect("ended");
    assert_eq!(error.waited(), ms(300));
    assert_eq!(error.quiet_for(), ms(1_300));
    assert_eq!(error.missed(), 0);
    assert_eq!(error.smoothed_rtt(), None);
}

#[tokio::test(start_paused = true)]
async fn any_traffic_rescues_a_blocked_ping_which_is_called_off() {
    let connection = Watched::new(classic().ready_timeout(ms(300)));
    let request = connection.start(Answer::After(ms(1_250)));
    connection.at(900).await;
    connection.peer.block();
    connection.at(1_100).await;
    assert_eq!(connection.peer.reservations(), 1, "the ping waits its turn");
    request.await.unwrap().expect("answered at 1,250");
    connection.at(1_400).await;
    assert_eq!(connection.handle.state(), State::Alive);
    assert_eq!(
        connection.peer.reservations(),
        0,
        "what it had goes back at once"
    );

    let tick = connection.handle.config().tick();
    let (died_at, failure) = connection.death().await;
    assert_eq!(failure, Failure::PingBlocked);
    assert!((ms(2_550)..=ms(2_550) + tick).contains(&died_at));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_ping_that_gets_out_in_time_waits_for_its_pong_from_then() {
    let connection = Watched::new(classic().ready_timeout(ms(300)));
    connection.peer.answer_pings(Answer::After(ms(190)));
    connection.at(900).await;
    connection.peer.block();
    connection.at(1_299).await;
    connection.peer.unblock();
    connection.at(1_488).await;
    assert_eq!(connection.handle.missed(), 0);
    connection.at(1_489).await;
    assert_eq!(connection.handle.pongs(), 1);
    assert_eq!(connection.handle.rtt().expect("a pong").last(), ms(190));
}

#[tokio::test(start_paused = true)]
async fn without_a_ready_timeout_a_ping_goes_out_at_once_or_never() {
    let connection = Watched::new(classic());
    connection.at(3_500).await;
    assert_eq!(connection.handle.pongs(), 3);
    connection.peer.block();
    let (died_at, failure) = connection.death().await;
    assert_eq!((died_at, failure), (ms(4_000), Failure::PingBlocked));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_ping_nobody_needs_any_more_is_called_off() {
    let config = classic()
        .ready_timeout(ms(300))
        .ping_when(PingWhen::NotBusy);
    let connection = Watched::new(config);
    connection.at(900).await;
    let mut service = connection.service.clone();
    service.ready().await.expect("fresh");
    connection.peer.block();
    connection.at(1_100).await;
    assert_eq!(connection.peer.reservations(), 2, "the ping's and ours");
    let request = tokio::spawn(service.call(work(Answer::After(ms(10_000)))));
    settle().await;
    assert_eq!(connection.peer.reservations(), 0, "both are given back");
    request.await.unwrap().expect("served undisturbed");
}

// Pinging by hand

#[tokio::test(start_paused = true)]
async fn ping_now_returns_the_round_trip_time() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(30)));
    connection.at(123).await;
    assert_eq!(connection.ping_now().await.expect("alive"), ms(30));
    assert_eq!(connection.elapsed(), ms(153));
    connection.at(1_152).await;
    assert_eq!(connection.peer.pings(), [123], "it counts as heard");
    connection.at(1_153).await;
    assert_eq!(connection.peer.pings(), [123, 1_153]);
}

#[tokio::test(start_paused = true)]
async fn ping_now_is_shared_by_all_who_ask_at_once() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(30)));
    let asked = (0..10).map(|_| {
        let handle = connection.handle.clone();
        tokio::spawn(async move { in_time(handle.ping_now()).await })
    });
    for asked in asked.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().expect("alive"), ms(30));
    }
    assert_eq!(connection.peer.pings(), [0]);
}

#[tokio::test(start_paused = true)]
async fn ping_now_takes_a_ping_that_is_out_already() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(100)));
    connection.at(1_060).await;
    assert_eq!(connection.ping_now().await.expect("alive"), ms(100));
    assert_eq!(connection.elapsed(), ms(1_100));
    connection.at(1_900).await;
    assert_eq!(connection.peer.pings(), [1_000]);
}

#[tokio::test(start_paused = true)]
async fn ping_now_again_is_another_ping() {
    let connection = Watched::new(classic());
    for _ in 0..5 {
        connection.ping_now().await.expect("alive");
    }
    assert_eq!(connection.peer.pings(), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn ping_now_is_not_called_off_by_a_caller_who_leaves() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(30)));
    let mut asked = task::spawn(connection.handle.ping_now());
    assert_pending!(asked.poll());
    drop(asked);
    connection.at(100).await;
    assert_eq!(connection.peer.pings(), [0]);
    assert_eq!(connection.handle.pongs(), 1);
    assert_eq!(connection.ping_now().await.expect("alive"), ms(30));
}

#[tokio::test(start_paused = true)]
async fn ping_now_fails_with_the_verdict() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    connection.at(100).await;
    let error = connection.ping_now().await.expect_err("dead");
    assert_eq!(connection.elapsed(), ms(700));
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.waited(), ms(600));

    let error = connection.ping_now().await.expect_err("still dead");
    assert_eq!(connection.elapsed(), ms(700), "known at once");
    assert_eq!(error.failure(), Failure::PongTimeout);
}

#[tokio::test(start_paused = true)]
async fn ping_now_is_unsupported_without_a_source_of_pings() {
    let connection = Watched::without_pings(classic());
    let error = connection.ping_now().await.expect_err("no way");
    assert_eq!(error.failure(), Failure::Unsupported);
    assert_eq!(connection.handle.state(), State::Alive, "it ends nothing");
}

#[tokio::test(start_paused = true)]
async fn ping_now_pings_a_sleeping_connection_too() {
    let connection = Watched::new(classic().ping_when(PingWhen::WhileBusy));
    connection.peer.answer_pings(Answer::After(ms(30)));
    connection.at(5_000).await;
    assert_eq!(connection.ping_now().await.expect("alive"), ms(30));
    connection.at(60_000).await;
    assert_eq!(connection.peer.pings(), [5_000], "and back to sleep");
}

#[tokio::test(start_paused = true)]
async fn ping_now_finds_a_dead_peer_on_a_sleeping_connection() {
    let connection = Watched::new(classic().ping_when(PingWhen::WhileBusy));
    connection.peer.answer_pings(Answer::Never);
    connection.at(5_000).await;
    let error = connection.ping_now().await.expect_err("dead");
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(connection.elapsed(), ms(5_600));
}

#[tokio::test(start_paused = true)]
async fn ping_now_waits_for_the_request_on_a_serial_transport() {
    let connection = Watched::new(classic().ping_when(PingWhen::NotBusy));
    connection.peer.answer_pings(Answer::After(ms(30)));
    let request = connection.start(Answer::After(ms(5_000)));
    settle().await;
    assert_eq!(connection.ping_now().await.expect("alive"), ms(30));
    request.await.unwrap().expect("served");
    let pings = connection.peer.pings();
    assert_eq!(pings.len(), 1);
    assert!((5_000..=5_125).contains(&pings[0]), "{pings:?}");
}

// A peer that cannot be pinged

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_pinged_lives_on_and_is_asked_once() {
    for ping_when in [PingWhen::Quiet, PingWhen::Always, PingWhen::WhileBusy] {
        let config = classic().ping_when(ping_when);
        let connection = Watched::with(config, unsupported());
        let long = connection.start(Answer::After(ms(30_000)));
        connection.at(999).await;
        assert!(connection.handle.can_ping());
        connection.at(1_001).await;
        assert!(!connection.handle.can_ping());
        // From here on it rests between its calls, and comes back from there.
        for at in [40_000, 50_000] {
            connection.at(at).await;
            connection.call(Answer::AtOnce).await.expect("alive");
        }
        connection.at(60_000).await;
        long.await.unwrap().expect("alive");
        assert_eq!(connection.peer.pings(), [1_000]);
        let handle = &connection.handle;
        assert_eq!((handle.pings(), handle.pongs()), (1, 0));
        assert_eq!((handle.rtt(), handle.state()), (None, State::Alive));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_peer_cannot_be_pinged_is_a_sign_of_life() {
    let connection = Watched::with(classic(), unsupported());
    connection.peer.answer_pings(Answer::After(ms(300)));
    connection.at(1_299).await;
    assert_eq!(connection.handle.state(), State::Suspect);
    connection.at(1_301).await;
    assert_eq!(connection.handle.state(), State::Alive);
    assert_eq!(connection.handle.missed(), 0);
    assert_eq!(connection.handle.last_heard() - connection.start, ms(1_300));

    let unheard = Watched::with(classic(), ping::out_of_band(Unpingable));
    unheard.at(1_001).await;
    assert!(!unheard.handle.can_ping());
    assert_eq!(unheard.handle.last_heard(), unheard.start, "nobody spoke");
}

#[tokio::test(start_paused = true)]
async fn a_ping_by_hand_that_waits_learns_that_the_peer_cannot_be_pinged() {
    let connection = Watched::with(classic(), unsupported());
    connection.peer.answer_pings(Answer::After(ms(30)));
    let error = connection.ping_now().await.expect_err("no pong");
    assert_eq!(connection.elapsed(), ms(30));
    assert_eq!(error.failure(), Failure::Unsupported);
    assert_eq!(error.stage(), Stage::NotSent);

    let error = connection.ping_now().await.expect_err("no way");
    assert_eq!(connection.elapsed(), ms(30), "known at once");
    assert_eq!(error.failure(), Failure::Unsupported);
    assert_eq!(connection.peer.pings(), [0]);
    assert_eq!(connection.handle.failure(), None, "it ends nothing");

    let unheard = Watched::with(classic(), ping::out_of_band(Unpingable));
    let error = unheard.ping_now().await.expect_err("no way");
    assert_eq!(unheard.elapsed(), ms(0));
    assert_eq!(error.failure(), Failure::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn calls_held_back_for_a_pong_are_let_go_when_the_peer_cannot_be_pinged() {
    let verified = classic().verify_after_idle(ms(500));
    let connection = Watched::with(verified, unsupported());
    connection.peer.answer_pings(Answer::After(ms(50)));
    connection.at(700).await;
    connection.call(Answer::AtOnce).await.expect("alive");
    assert_eq!(connection.elapsed(), ms(750));
    connection.at(5_000).await;
    connection.call(Answer::AtOnce).await.expect("alive");
    assert_eq!(connection.elapsed(), ms(5_000), "nothing to verify with");

    let unheard = Watched::with(verified, ping::out_of_band(Unpingable));
    unheard.at(700).await;
    unheard.call(Answer::AtOnce).await.expect("let through");
    assert_eq!(unheard.elapsed(), ms(700));

    let suspected = Watched::with(classic().suspect_after(ms(1_500)), unsupported());
    suspected.peer.answer_pings(Answer::After(ms(450)));
    suspected.at(1_201).await;
    assert!(!suspected.service.is_alive());
    suspected.call(Answer::AtOnce).await.expect("alive");
    assert_eq!(suspected.elapsed(), ms(1_450));
}

#[tokio::test(start_paused = true)]
async fn idle_and_quiet_limits_watch_a_peer_that_cannot_be_pinged() {
    let limits = classic().idle_timeout(ms(3_000)).quiet_timeout(ms(4_000));
    let connection = Watched::with(limits, unsupported());
    assert_eq!(connection.death().await, (ms(3_000), Failure::IdleTimeout));

    let connection = Watched::with(limits, unsupported());
    let call = connection.start(Answer::Never);
    assert_eq!(connection.death().await, (ms(5_000), Failure::ReadTimeout));
    let error = call.await.unwrap().expect_err("dead");
    let error = error.heartbeat().expect("the verdict");
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    assert_eq!(connection.peer.pings(), [1_000], "and it was heard then");
}

#[tokio::test(start_paused = true)]
async fn pings_that_stopped_hold_nothing_of_the_connection() {
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let pings = pings().check(move |()| {
        let _held = &held;
        async { Err(ping::PingError::unsupported("no such method")) }
    });
    let connection = Watched::with(classic(), pings);
    assert_eq!(Arc::strong_count(&token), 2);
    connection.at(1_001).await;
    assert_eq!(Arc::strong_count(&token), 1);
    assert_eq!(connection.handle.state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_that_it_cannot_be_pinged_is_not_missing() {
    let wary = classic().local_fault_share(50).local_fault_connections(4);
    let layer = HeartbeatLayer::new(wary.build().unwrap(), unsupported());
    let peers = [(); 10].map(|()| Peer::new());
    let services = peers
        .each_ref()
        .map(|peer| layer.layer(Connection::to(peer)));
    let (dead, alive) = peers.split_at(4);
    for peer in dead {
        peer.answer_pings(Answer::Never);
    }
    for peer in alive {
        peer.answer_pings(Answer::After(ms(590)));
    }
    let asked = services.each_ref().map(|service| {
        let handle = service.handle();
        tokio::spawn(async move { in_time(handle.ping_now()).await })
    });
    for (n, asked) in asked.into_iter().enumerate() {
        let error = asked.await.unwrap().expect_err("no pong");
        if n < dead.len() {
            assert_eq!(error.failure(), Failure::PongTimeout);
            assert_eq!(error.missed(), 3, "no window more for a fault here");
        } else {
            assert_eq!(error.failure(), Failure::Unsupported);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_figures_of_a_handle_follow_the_connection() {
    let connection = Watched::new(classic());
    let handle = &connection.handle;
    connection.peer.answer_pings(Answer::After(ms(100)));
    assert_eq!(handle.rtt(), None);
    assert_eq!(handle.last_heard(), connection.start);
    assert_eq!((handle.pings(), handle.pongs()), (0, 0));

    connection.at(1_050).await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 0));
    assert_eq!(handle.rtt(), None);
    connection.at(1_100).await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 1));
    assert_eq!(handle.last_heard(), connection.start + ms(1_100));
    let rtt = handle.rtt().expect("a pong");
    assert_eq!(
        (rtt.last(), rtt.min(), rtt.smoothed(), rtt.variation()),
        (ms(100), ms(100), ms(100), ms(50))
    );
    assert_eq!(handle.idle_for(), ms(1_100), "a ping is no use");

    connection.peer.answer_pings(Answer::After(ms(180)));
    connection.at(2_280).await;
    let rtt = handle.rtt().expect("two pongs");
    assert_eq!(
        (rtt.last(), rtt.min(), rtt.smoothed()),
        (ms(180), ms(100), ms(110))
    );

    connection.at(2_300).await;
    let first = connection.start(Answer::After(ms(300)));
    let second = connection.start(Answer::After(ms(400)));
    settle().await;
    assert_eq!(handle.in_flight(), 2);
    assert_eq!(handle.idle_for(), Duration::ZERO);
    first.await.unwrap().expect("served");
    assert_eq!(handle.in_flight(), 1);
    second.await.unwrap().expect("served");
    assert_eq!(handle.in_flight(), 0);
    let unlooked = Instant::now();
    assert_eq!(handle.last_heard(), unlooked, "before the driver looked");
    connection.at(3_200).await;
    let heard = handle.last_heard();
    assert!(heard >= unlooked && heard <= unlooked + ms(125));
    let idle_for = handle.idle_for();
    assert!(
        idle_for <= ms(500) && idle_for >= ms(375),
        "dated to a tick: {idle_for:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_in_use_from_the_very_moment_of_the_call() {
    let connection = Watched::new(classic());
    connection.at(5_500).await;
    assert_eq!(connection.handle.idle_for(), ms(5_500));
    let mut service = connection.service.clone();
    service.ready().await.unwrap();
    let call = service.call(work(Answer::Never));
    assert_eq!(connection.handle.in_flight(), 1);
    assert_eq!(connection.handle.idle_for(), Duration::ZERO);
    drop(call);
    assert_eq!(connection.handle.in_flight(), 0);
    assert_eq!(connection.handle.idle_for(), Duration::ZERO, "just now");
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_has_no_misses_and_no_failure() {
    let connection = Watched::without_pings(classic());
    connection.at(1_000_000).await;
    assert_eq!(connection.handle.state(), State::Alive);
    assert_eq!(connection.handle.failure(), None);
    assert!(connection.handle.error().is_none());
    assert_eq!(connection.handle.missed(), 0);
}

// The limit on quiet

#[tokio::test(start_paused = true)]
async fn the_quiet_limit_acts_while_a_request_is_in_flight() {
    let connection = Watched::without_pings(classic().quiet_timeout(ms(2_000)));
    connection.at(60_000).await;
    assert_eq!(connection.handle.state(), State::Alive, "idle");

    let request = connection.start(Answer::Never);
    connection.at(61_999).await;
    assert_eq!(connection.handle.failure(), None);
    let (died_at, failure) = connection.death().await;
    assert_eq!((died_at, failure), (ms(62_000), Failure::ReadTimeout));
    let error = request.await.unwrap().expect_err("dead");
    let error = error.heartbeat().expect("the verdict");
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    assert_eq!(error.waited(), ms(2_000));
    assert_eq!(error.quiet_for(), ms(62_000));
}

#[tokio::test(start_paused = true)]
async fn the_quiet_limit_counts_from_the_last_sign_of_life() {
    let connection = Watched::without_pings(classic().quiet_timeout(ms(2_000)));
    let stuck = connection.start(Answer::Never);
    let last_at = connection.traffic_until(10_000, 500).await;
    assert_eq!(connection.handle.failure(), None);
    let (died_at, failure) = connection.death().await;
    assert_eq!(failure, Failure::ReadTimeout);
    let tick = connection.handle.config().tick();
    assert!((last_at + ms(2_000)..=last_at + ms(2_000) + tick).contains(&died_at));
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_quiet_limit_does_not_act_between_requests() {
    let connection = Watched::without_pings(classic().quiet_timeout(ms(2_000)));
    for _ in 0..5 {
        connection
            .call(Answer::After(ms(1_999)))
            .await
            .expect("in time");
        sleep(ms(10_000)).await;
    }
    assert_eq!(connection.handle.state(), State::Alive);
}

// What the caller is told

#[tokio::test(start_paused = true)]
async fn the_error_has_the_figures_of_that_moment() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(80)));
    connection.at(1_500).await;
    connection.peer.answer_pings(Answer::Never);
    let (died_at, _) = connection.death().await;
    assert_eq!(died_at, ms(1_080 + 1_600));
    let error = connection.handle.error().expect("ended");
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.waited(), ms(600), "since the ping was out");
    assert_eq!(error.missed(), 3);
    assert_eq!(error.quiet_for(), ms(1_600));
    assert_eq!(error.smoothed_rtt(), Some(ms(80)));
    assert_eq!(
        error.to_string(),
        "peer did not answer a ping (waited 600.000ms, missed 3; nothing heard for 1.600s)"
    );
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_close_has_the_figures_of_that_moment_too() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(80)));
    connection.at(1_500).await;
    connection.peer.answer_pings(Answer::Never);
    connection.at(2_500).await;
    connection.handle.close();
    let error = connection.handle.error().expect("ended");
    assert_eq!(error.failure(), Failure::Closed);
    assert_eq!(error.waited(), Duration::ZERO, "no limit ran out");
    assert_eq!(error.missed(), 2);
    assert_eq!(error.quiet_for(), ms(2_500 - 1_080));
    assert_eq!(error.smoothed_rtt(), Some(ms(80)));
}

#[tokio::test(start_paused = true)]
async fn the_error_tells_how_far_the_request_had_got() {
    let (mut service, peer) = streaming(classic());
    peer.answer_pings(Answer::Never);
    let body = service.ready().await.unwrap().call(work(Answer::AtOnce));
    let mut body = body.await.unwrap();
    let mut waiting = service.clone();
    let waiting = waiting.ready().await.unwrap().call(work(Answer::Never));
    peer.block();
    let mut held = service.clone();
    let mut held = task::spawn(held.ready());
    assert_pending!(held.poll());
    peer.unblock();
    let mut waiting = task::spawn(waiting);
    assert_pending!(waiting.poll());

    let streaming = in_time(body.end()).await;
    assert_eq!(streaming.stage(), Stage::Streaming);
    let Poll::Ready(Err(Error::Heartbeat(waiting))) = waiting.poll() else {
        panic!("dead");
    };
    assert_eq!(waiting.stage(), Stage::AwaitingResponse);
    let Poll::Ready(Err(Error::Heartbeat(held))) = held.poll() else {
        panic!("dead");
    };
    assert_eq!(held.stage(), Stage::NotSent);
    for error in [streaming, waiting, held] {
        assert_eq!(error.failure(), Failure::PongTimeout);
        assert_eq!(error.missed(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_is_told_at_the_same_instant() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    let calls: Vec<_> = (0..1_000)
        .map(|_| connection.start(Answer::Never))
        .collect();
    let closed: Vec<_> = (0..10)
        .map(|_| {
            let handle = connection.handle.clone();
            tokio::spawn(async move { in_time(handle.closed()).await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().expect_err("dead");
        assert!(error.heartbeat().is_some());
    }
    for closed in closed {
        assert_eq!(closed.await.unwrap(), Failure::PongTimeout);
    }
    assert_eq!(connection.elapsed(), ms(1_600));
    assert_eq!(connection.handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_hook_runs_once_before_anybody_is_woken_and_at_once_when_late() {
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut service = connection.service.clone();
    let mut call = pin!(service.ready().await.unwrap().call(work(Answer::Never)));
    assert!(call.as_mut().poll(&mut cx).is_pending());
    let mut closed = pin!(connection.handle.closed());
    assert!(closed.as_mut().poll(&mut cx).is_pending());

    let ran = Arc::new(AtomicUsize::new(0));
    let (count, handle, early) = (
        Arc::clone(&ran),
        connection.handle.clone(),
        Arc::clone(&woken),
    );
    // A panic of the hook would be caught, and it would not have counted.
    connection.handle.on_end(move |error| {
        assert_eq!(error.failure(), Failure::PongTimeout);
        assert_eq!(handle.failure(), Some(Failure::PongTimeout), "known by now");
        assert_eq!(early.0.load(Ordering::Relaxed), 0, "nobody is woken yet");
        count.fetch_add(1, Ordering::Relaxed);
    });
    connection.at(1_600).await;
    assert_eq!(ran.load(Ordering::Relaxed), 1);
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(call.poll(&mut cx).is_ready());
    assert!(closed.poll(&mut cx).is_ready());

    let count = Arc::clone(&ran);
    connection.handle.on_end(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(ran.load(Ordering::Relaxed), 2);
}

// Where the driver runs

#[test]
fn a_layer_applied_outside_a_runtime_starts_its_driver_at_the_first_poll() {
    let peer = Peer::new();
    let mut service = layer(classic()).layer(Connection::to(&peer));
    let mut clone = service.clone();
    let handle = service.handle();
    let runtime = paused_runtime();
    runtime.block_on(async {
        peer.restart();
        sleep(ms(5_000)).await;
        assert_eq!(peer.pings(), [], "nobody polled it");
        service.ready().await.expect("alive");
        sleep(ms(1_010)).await;
        assert_eq!(
            peer.pings(),
            [6_000],
            "all limits count from the first poll"
        );
        clone.ready().await.expect("alive");
        sleep(ms(1_000)).await;
        assert_eq!(peer.pings(), [6_000, 7_000]);
        assert_eq!(handle.state(), State::Alive);
    });
}

#[test]
fn a_connection_is_neither_idle_nor_quiet_before_its_first_poll() {
    let peer = Peer::new();
    let config = classic().idle_timeout(ms(3_000)).verify_after_idle(ms(500));
    let mut service = layer(config).layer(Connection::to(&peer));
    let handle = service.handle();
    paused_runtime().block_on(async {
        sleep(ms(10_000)).await;
        let start = Instant::now();
        service.ready().await.expect("alive");
        assert_eq!(start.elapsed(), Duration::ZERO, "nothing to verify yet");
        assert_eq!(in_time(handle.closed()).await, Failure::IdleTimeout);
        assert_eq!(start.elapsed(), ms(3_000));
    });
}

#[test]
fn without_any_runtime_the_monitor_is_gone_and_nothing_panics() {
    let peer = Peer::new();
    let mut service = layer(classic()).layer(Connection::to(&peer));
    let handle = service.handle();
    assert_eq!(handle.state(), State::Alive);
    let mut ready = task::spawn(poll_fn(|cx| service.poll_ready(cx)));
    let Poll::Ready(Err(Error::Heartbeat(error))) = ready.poll() else {
        panic!("nobody watches it");
    };
    assert_eq!(error.failure(), Failure::MonitorGone);
    drop(ready);
    assert_eq!(handle.state(), State::Dead);
    assert_eq!(handle.failure(), Some(Failure::MonitorGone));

    let Poll::Ready(Err(error)) = task::spawn(service.call(work(Answer::AtOnce))).poll() else {
        panic!("nobody watches it");
    };
    assert!(error.heartbeat().is_some());
    assert_eq!(peer.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_hook_on_connect_gets_the_handle_of_each_connection() {
    let handles = Arc::new(Mutex::new(Vec::<Handle>::new()));
    let shared = Arc::clone(&handles);
    let layer = layer(classic()).on_connect(move |handle| {
        assert_eq!(handle.state(), State::Alive);
        assert_eq!(handle.in_flight(), 0);
        shared.lock().unwrap().push(handle.clone());
    });
    let peers = [Peer::new(), Peer::new()];
    let services = [
        layer.layer(Connection::to(&peers[0])),
        layer.layer(Connection::to(&peers[1])),
    ];
    peers[1].answer_pings(Answer::Never);
    sleep(ms(1_700)).await;
    let handles = handles.lock().unwrap().clone();
    assert_eq!(handles.len(), 2);
    assert_eq!(handles[0].state(), State::Alive);
    assert_eq!(handles[1].failure(), Some(Failure::PongTimeout));
    drop(services);
    assert_eq!(in_time(handles[0].closed()).await, Failure::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_custom_executor_runs_the_driver() {
    let drivers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&drivers);
    let runtime = tokio::runtime::Handle::current();
    let layer = layer(classic()).executor(move |driver| {
        count.fetch_add(1, Ordering::Relaxed);
        drop(runtime.spawn(driver));
    });
    let peers = [Peer::new(), Peer::new()];
    let services = [
        layer.layer(Connection::to(&peers[0])),
        layer.layer(Connection::to(&peers[1])),
    ];
    sleep(ms(1_010)).await;
    assert_eq!(drivers.load(Ordering::Relaxed), 1, "one for both");
    assert_eq!(peers[0].pings(), [1_000]);
    // Connections that were made together don't ping together.
    assert!(peers[1].pings()[0] < 1_000);
    drop(services);
}

#[tokio::test(start_paused = true)]
async fn a_driver_by_hand_completes_when_the_connection_ends() {
    let peer = Peer::new();
    let (service, driver) = layer(classic()).pair(Connection::to(&peer));
    peer.answer_pings(Answer::Never);
    let start = Instant::now();
    in_time(driver).await;
    assert_eq!(start.elapsed(), ms(1_600));
    assert_eq!(service.handle().failure(), Some(Failure::PongTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_driver_by_hand_runs_where_nothing_is_send() {
    let peer = Peer::new();
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let pings = std::rc::Rc::clone(&count);
    let source = ping::out_of_band(LocalPing(pings));
    let config = classic().build().unwrap();
    let (service, driver) = HeartbeatLayer::new(config, source).pair(Connection::to(&peer));
    tokio::task::LocalSet::new()
        .run_until(async {
            tokio::task::spawn_local(driver);
            sleep(ms(3_500)).await;
        })
        .await;
    assert_eq!(count.get(), 3);
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn a_driver_in_a_task_that_has_spent_its_budget_sees_its_pongs() {
    let peer = Peer::new();
    peer.answer_pings(Answer::After(ms(600)));
    let (service, mut driver) = layer(classic()).pair(Connection::to(&peer));
    let handle = service.handle();
    tokio::spawn(poll_fn(move |cx| {
        // Other work in the same task, which tokio then lets wait for everything of its own.
        let mut unheard = Context::from_waker(Waker::noop());
        while pin!(consume_budget()).poll(&mut unheard).is_ready() {}
        Pin::new(&mut driver).poll(cx)
    }));
    sleep(ms(5_000)).await;
    assert_eq!(handle.failure(), None);
    assert_eq!(handle.pongs(), 3, "1,600, 3,200, 4,800");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_is_looked_at_only_for_its_pings() {
    let (service, peer, polls) = counted(classic());
    sleep(ms(1_000_100)).await;
    assert_eq!(peer.pings().len(), 1_000);
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls <= 2_010, "{polls} looks for 1,000 pings");
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn dense_traffic_has_the_connection_looked_at_less_than_twice_a_tick() {
    let (mut service, _peer, polls) = counted(classic());
    for _ in 0..10_000 {
        sleep(ms(1)).await;
        let call = service.ready().await.unwrap().call(work(Answer::AtOnce));
        call.await.expect("alive");
    }
    let polls = polls.load(Ordering::Relaxed);
    // Eight in five ticks: what is left of a tick is for those that are due together.
    assert!(polls <= 10_000 / 78 + 5, "{polls} looks in 80 ticks");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_begins_while_the_driver_looks_is_not_overlooked() {
    let service = Arc::new(Mutex::new(None::<Heartbeat<Connection>>));
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (shared, made) = (Arc::clone(&service), Arc::clone(&calls));
    let source = ping::out_of_band(ping::from_fn(move || {
        // The first ping has a request begin in the middle of the driver's work.
        let first = shared.lock().unwrap().take();
        let is_first = first.is_some();
        if let Some(mut service) = first {
            made.lock().unwrap().push(service.call(work(Answer::Never)));
        }
        async move {
            if is_first {
                return Ok(());
            }
            pending::<io::Result<()>>().await
        }
    }));
    let connection = Watched::with(classic().ping_when(PingWhen::WhileBusy), source);
    *service.lock().unwrap() = Some(connection.service.clone());
    connection.ping_now().await.expect("alive");
    assert_eq!(connection.handle.in_flight(), 1);
    let (died_at, failure) = connection.death().await;
    assert_eq!((died_at, failure), (ms(1_600), Failure::PongTimeout));
}

// Events

#[tokio::test(start_paused = true)]
async fn a_ping_and_its_pong_are_traced_in_the_span_of_the_connection() {
    let events = Events::record();
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::After(ms(40)));
    connection.at(1_100).await;
    assert_eq!(events.spans(), ["heartbeat"]);
    assert_eq!(
        events.take(),
        [
            "TRACE heartbeat: ping",
            "TRACE heartbeat: pong rtt=Some(40ms)"
        ]
    );
    let _second = Watched::new(classic());
    assert_eq!(events.spans(), ["heartbeat", "heartbeat"]);
}

#[tokio::test(start_paused = true)]
async fn every_miss_is_a_warning_and_death_is_one_event_with_all_figures() {
    let events = Events::record();
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Never);
    let request = connection.start(Answer::Never);
    connection.death().await;
    assert!(request.await.unwrap().is_err());
    assert!(connection.call(Answer::AtOnce).await.is_err());
    connection.handle.close();
    drop(connection);
    settle().await;
    assert_eq!(
        events.take(),
        [
            "TRACE heartbeat: ping",
            "WARN heartbeat: ping missed missed=1 max_missed=3",
            "DEBUG heartbeat: connection is suspect",
            "WARN heartbeat: ping missed missed=2 max_missed=3",
            "WARN heartbeat: connection is dead failure=PongTimeout waited=600ms missed=3 \
             quiet_for=1.6s smoothed_rtt=None",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_local_fault_is_told_once() {
    let events = Events::record();
    let wary = classic().local_fault_share(50).local_fault_connections(4);
    let layer = layer(wary);
    let peers = [(); 10].map(|()| Peer::new());
    let services = peers
        .each_ref()
        .map(|peer| layer.layer(Connection::to(peer)));
    for peer in &peers {
        peer.answer_pings(Answer::Never);
    }
    for service in &services {
        in_time(service.handle().closed()).await;
    }
    let events = events.take();
    let told = events.iter().filter(|event| event.contains("local fault"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{events:?}");
    assert!(
        told[0].contains("local fault suspected missed="),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_ping_tells_its_reason_in_the_event() {
    let events = Events::record();
    let connection = Watched::new(classic());
    connection.peer.answer_pings(Answer::Error);
    connection.death().await;
    let events = events.take();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(
        events[1],
        "WARN heartbeat: connection is dead failure=PingFailed waited=0ns missed=0 quiet_for=1s \
         smoothed_rtt=None source=reset by the peer"
    );
}

#[tokio::test(start_paused = true)]
async fn that_a_peer_cannot_be_pinged_is_told_once_with_the_reason() {
    let events = Events::record();
    let connection = Watched::with(classic(), unsupported());
    connection.at(1_500).await;
    assert!(connection.ping_now().await.is_err());
    connection.call(Answer::AtOnce).await.expect("alive");
    connection.at(60_000).await;
    assert_eq!(
        events.take(),
        [
            "TRACE heartbeat: ping",
            "WARN heartbeat: peer cannot be pinged source=no such method",
        ]
    );
    let _unheard = Watched::with(classic(), ping::out_of_band(Unpingable));
    connection.at(120_000).await;
    assert_eq!(
        events.take(),
        ["WARN heartbeat: peer cannot be pinged source=no pings on this transport"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_close_is_no_warning() {
    let events = Events::record();
    let connection = Watched::new(classic().idle_timeout(ms(900)));
    connection.death().await;
    drop(connection);
    settle().await;
    assert_eq!(
        events.take(),
        ["DEBUG heartbeat: connection closed failure=IdleTimeout waited=900ms"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_on_this_side_is_no_warning() {
    let events = Events::record();
    let connection = Watched::new(classic());
    connection.handle.close();
    let dropped = Watched::new(classic());
    let handle = dropped.handle.clone();
    drop(dropped);
    assert_eq!(in_time(handle.closed()).await, Failure::Closed);
    let events = events.take();
    assert_eq!(events.len(), 2, "{events:?}");
    for event in events {
        assert!(
            event.starts_with("DEBUG heartbeat: connection closed failure=Closed"),
            "{event}"
        );
    }
}

// The settings most tests share, and a connection with them.

/// `interval` 1 s, `pong_timeout` 200 ms, three misses: dead after 1,600 ms, tick 125 ms.
fn classic() -> ConfigBuilder {
    Config::builder()
        .interval(ms(1_000))
        .pong_timeout(ms(200))
        .max_missed(3)
        .ready_timeout(Duration::ZERO)
}

fn layer(config: ConfigBuilder) -> HeartbeatLayer<ping::RequestSource<fn() -> Request>> {
    HeartbeatLayer::new(config.build().unwrap(), pings())
}

fn pings() -> ping::RequestSource<fn() -> Request> {
    ping::request(|| Request::Ping)
}

/// Pings to whose answer the peer says that it knows no such thing.
fn unsupported()
-> impl ping::PingSource<Connection, Ping = impl ping::Ping<Pong: Send> + Send + use<>> {
    pings().check(|()| async { Err(ping::PingError::unsupported("no such method")) })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn work(answer: Answer) -> Request {
    Request::Work(answer)
}

fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Lets everybody run who can without time going by.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

/// Turns a test that would hang into one that fails.
async fn in_time<F: Future>(future: F) -> F::Output {
    let age = Duration::from_secs(20_000);
    timeout(age, future).await.expect("it would hang")
}

/// A wrapped connection, its handle and its peer.
struct Watched {
    service: Heartbeat<Connection>,
    handle: Handle,
    peer: Arc<Peer>,
    start: Instant,
}

impl Watched {
    fn new(config: ConfigBuilder) -> Self {
        Self::with(config, pings())
    }

    fn without_pings(config: ConfigBuilder) -> Self {
        Self::with(config, ping::none())
    }

    fn with<P>(config: ConfigBuilder, source: P) -> Self
    where
        P: ping::PingSource<Connection>,
        P::Ping: Send + 'static,
        <P::Ping as ping::Ping>::Pong: Send,
    {
        let peer = Peer::new();
        let layer = HeartbeatLayer::new(config.build().unwrap(), source);
        let service = layer.layer(Connection::to(&peer));
        Watched {
            handle: service.handle(),
            service,
            peer,
            start: Instant::now(),
        }
    }

    /// Sleeps to a moment after connect, and has everything done that is due then.
    async fn at(&self, at: u64) {
        sleep_until(self.start + ms(at)).await;
        settle().await;
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    async fn call(&self, answer: Answer) -> Result<(), Error<io::Error>> {
        let mut service = self.service.clone();
        in_time(async { service.ready().await?.call(work(answer)).await }).await
    }

    fn start(&self, answer: Answer) -> JoinHandle<Result<(), Error<io::Error>>> {
        let mut service = self.service.clone();
        let call = async move { service.ready().await?.call(work(answer)).await };
        tokio::spawn(in_time(call))
    }

    async fn ping_now(&self) -> Result<Duration, HeartbeatError> {
        in_time(self.handle.ping_now()).await
    }

    /// Calls every `step` ms; returns when the last answer came.
    async fn traffic_until(&self, until: u64, step: u64) -> Duration {
        loop {
            self.call(Answer::AtOnce).await.expect("alive");
            if self.elapsed() + ms(step) > ms(until) {
                return self.elapsed();
            }
            sleep(ms(step)).await;
        }
    }

    async fn death(&self) -> (Duration, Failure) {
        let failure = in_time(self.handle.closed()).await;
        (self.elapsed(), failure)
    }
}

/// A connection whose requests are over with their bodies.
fn streaming(config: ConfigBuilder) -> (Heartbeat<Connection, Streamed>, Arc<Peer>) {
    let peer = Peer::new();
    let layer = layer(config).completion(Streamed);
    let service = layer.layer(Connection::to(&peer));
    (service, peer)
}

/// A connection, and how often its driver was polled.
fn counted(config: ConfigBuilder) -> (Heartbeat<Connection>, Arc<Peer>, Arc<AtomicUsize>) {
    let peer = Peer::new();
    let (service, mut driver): (_, Driver<_>) = layer(config).pair(Connection::to(&peer));
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    tokio::spawn(poll_fn(move |cx| {
        count.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut driver).poll(cx)
    }));
    (service, peer, polls)
}

// The peer.

enum Request {
    Ping,
    Work(Answer),
}

/// How the peer answers one request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    AtOnce,
    After(Duration),
    /// After a time, and so many turns of the runtime.
    Turns(Duration, u32),
    Error,
    Never,
}

#[derive(Debug)]
struct Peer {
    start: Mutex<Instant>,
    pings: Mutex<Vec<Instant>>,
    calls: AtomicUsize,
    answer: Mutex<Answer>,
    blocked: AtomicBool,
    unready: Mutex<Vec<Waker>>,
    reservation: Arc<()>,
}

impl Peer {
    fn new() -> Arc<Peer> {
        Recorder::install();
        Arc::new(Peer {
            start: Mutex::new(Instant::now()),
            pings: Mutex::new(Vec::new()),
            calls: AtomicUsize::new(0),
            answer: Mutex::new(Answer::AtOnce),
            blocked: AtomicBool::new(false),
            unready: Mutex::new(Vec::new()),
            reservation: Arc::new(()),
        })
    }

    /// Takes this moment for the zero of `pings`.
    fn restart(&self) {
        *self.start.lock().unwrap() = Instant::now();
    }

    fn answer_pings(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// When pings came, in ms.
    fn pings(&self) -> Vec<u64> {
        let start = *self.start.lock().unwrap();
        let pings = self.pings.lock().unwrap();
        pings
            .iter()
            .map(|at| u64::try_from((*at - start).as_millis()).unwrap())
            .collect()
    }

    /// How many requests came, pings apart.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Lets no instance become ready.
    fn block(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    fn unblock(&self) {
        self.blocked.store(false, Ordering::Relaxed);
        for waker in self.unready.lock().unwrap().drain(..) {
            waker.wake();
        }
    }

    /// How many instances hold a place for their next call.
    fn reservations(&self) -> usize {
        Arc::strong_count(&self.reservation) - 1
    }
}

/// As with a `ConcurrencyLimit`, an instance holds a place from `poll_ready` to `call`.
#[derive(Debug)]
struct Connection {
    peer: Arc<Peer>,
    reservation: Option<Arc<()>>,
    ready: bool,
}

impl Connection {
    fn to(peer: &Arc<Peer>) -> Self {
        Connection {
            peer: Arc::clone(peer),
            reservation: None,
            ready: false,
        }
    }
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Connection::to(&self.peer)
    }
}

impl Service<Request> for Connection {
    type Response = ();
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reservation
            .get_or_insert_with(|| Arc::clone(&self.peer.reservation));
        // Told ready once is ready until `call`.
        if !self.ready && self.peer.blocked.load(Ordering::Relaxed) {
            self.peer.unready.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.reservation = None;
        self.ready = false;
        let answer = match request {
            Request::Ping => {
                self.peer.pings.lock().unwrap().push(Instant::now());
                *self.peer.answer.lock().unwrap()
            }
            Request::Work(answer) => {
                self.peer.calls.fetch_add(1, Ordering::Relaxed);
                answer
            }
        };
        Box::pin(async move {
            match answer {
                Answer::AtOnce => Ok(()),
                Answer::After(time) => {
                    sleep(time).await;
                    Ok(())
                }
                Answer::Turns(time, turns) => {
                    sleep(time).await;
                    for _ in 0..turns {
                        yield_now().await;
                    }
                    Ok(())
                }
                Answer::Error => Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "reset by the peer",
                )),
                Answer::Never => pending().await,
            }
        })
    }
}

/// Keeps a request in flight until its [`Body`] is dropped.
#[derive(Clone)]
struct Streamed;

#[derive(Debug)]
struct Body(InFlight);

impl TrackCompletion<()> for Streamed {
    type Output = Body;

    fn track_completion(&self, in_flight: InFlight, (): ()) -> Body {
        Body(in_flight)
    }
}

impl Body {
    /// Another part of it came in.
    fn part(&self) {
        self.0.heard();
    }

    async fn end(&mut self) -> HeartbeatError {
        poll_fn(|cx| self.0.poll_ended(cx, Stage::Streaming)).await
    }
}

/// Answers at once and counts, on one thread only.
#[derive(Clone)]
struct LocalPing(std::rc::Rc<std::cell::Cell<u32>>);

impl ping::Ping for LocalPing {
    type Pong = std::future::Ready<Result<(), ping::PingError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ping::PingError>> {
        Poll::Ready(Ok(()))
    }

    fn ping(&mut self) -> Self::Pong {
        self.0.set(self.0.get() + 1);
        std::future::ready(Ok(()))
    }
}

/// Finds out that there is no way to ping before anything is sent.
#[derive(Clone)]
struct Unpingable;

impl ping::Ping for Unpingable {
    type Pong = std::future::Ready<Result<(), ping::PingError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ping::PingError>> {
        let reason = "no pings on this transport";
        Poll::Ready(Err(ping::PingError::unsupported(reason)))
    }

    fn ping(&mut self) -> Self::Pong {
        unreachable!("it is never ready")
    }
}

/// How often a task was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

// A subscriber that writes down what it is told, for each thread (so for each test) apart. It is
// the process's, and there before the first connection: one for each test would now and then miss
// an event whose place in the code another test reaches for the first time in the same instant.

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Record {
    spans: Vec<String>,
    entered: Vec<u64>,
    events: Vec<String>,
}

/// What this thread's connections say from now on.
struct Events;

impl Events {
    fn record() -> Events {
        Recorder::install();
        RECORD.set(Some(Record::default()));
        Events
    }

    fn spans(&self) -> Vec<String> {
        RECORD.with_borrow(|record| record.as_ref().unwrap().spans.clone())
    }

    fn take(&self) -> Vec<String> {
        RECORD.with_borrow_mut(|record| std::mem::take(&mut record.as_mut().unwrap().events))
    }
}

struct Recorder;

impl Recorder {
    fn install() {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        INSTALLED.get_or_init(|| {
            tracing::subscriber::set_global_default(Recorder).expect("the only one");
        });
    }

    fn note(note: impl FnOnce(&mut Record)) {
        // Nothing is recorded while the thread ends, or where no test asked for it.
        let _ = RECORD.try_with(|record| record.borrow_mut().as_mut().map(note));
    }
}

impl tracing::Subscriber for Recorder {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("tower_heartbeat")
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut id = u64::MAX;
        Recorder::note(|record| {
            record.spans.push(span.metadata().name().to_owned());
            id = record.spans.len() as u64;
        });
        tracing::span::Id::from_u64(id)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level();
        Recorder::note(|record| {
            let span = match record.entered.last() {
                Some(id) => record.spans[usize::try_from(*id).unwrap() - 1].as_str(),
                None => "no span",
            };
            let line = format!("{level} {span}: {}{}", fields.message, fields.others);
            record.events.push(line);
        });
    }

    fn enter(&self, span: &tracing::span::Id) {
        Recorder::note(|record| record.entered.push(span.into_u64()));
    }

    fn exit(&self, _: &tracing::span::Id) {
        Recorder::note(|record| {
            record.entered.pop();
        });
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        if field.name() == "message" {
            write!(self.message, "{value:?}").unwrap();
        } else {
            write!(self.others, " {}={value:?}", field.name()).unwrap();
        }
    }
}
