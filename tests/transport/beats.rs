//! Heartbeats that go one way.

use std::{num::NonZeroU64, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::duplex,
    spawn,
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    ConfigError, Failure, Setting, State,
    transport::{Beats, HeartbeatStream, Kind, Protocol},
};

use crate::support::{Codec, config, lines, millis};

type Beating = HeartbeatStream<Codec, Beats<String>>;

fn beating(interval: u64) -> (Beating, Codec) {
    let (near, far) = duplex(4_096);
    let beats = Beats::new("beat".to_string(), millis(interval)).expect("legal");
    let near = HeartbeatStream::new(lines(near), beats, config());
    (near, lines(far))
}

#[tokio::test(start_paused = true)]
async fn beats_go_out_at_their_interval_whatever_comes_in_or_goes_out() {
    let (mut near, mut far) = beating(100);
    spawn(async move {
        loop {
            near.send("news".into()).await.expect("it is taken");
            drop(timeout(millis(0), near.next()).await);
            sleep(millis(30)).await;
        }
    });
    let began = Instant::now();
    let mut beats = 0;
    while began.elapsed() < millis(1_050) {
        let line = far.next().await.expect("a line").expect("text");
        beats += usize::from(line == "beat");
        // The peer talks.
        far.send("news").await.expect("it is taken");
    }
    assert_eq!(beats, 10);
}

#[tokio::test(start_paused = true)]
async fn beats_that_a_pause_swallowed_are_not_made_up_for() {
    let (mut near, mut far) = beating(100);
    drop(timeout(millis(110), near.next()).await);
    // Nobody polls it.
    sleep(millis(5_000)).await;
    far.send("beat").await.expect("it is taken");
    drop(timeout(millis(50), near.next()).await);
    drop(near);
    let beats: Vec<_> = far.collect().await;
    assert_eq!(beats.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_ends_that_beat_live_and_see_no_beats() {
    let (a, b) = duplex(4_096);
    let beats = |interval| Beats::new("beat".to_string(), millis(interval)).expect("legal");
    // Their intervals differ, as STOMP has it.
    let mut a = HeartbeatStream::new(lines(a), beats(50), config());
    let mut b = HeartbeatStream::new(lines(b), beats(390), config());
    let handles = [a.handle(), b.handle()];
    let both = async { tokio::join!(a.next(), b.next()) };
    timeout(millis(60_000), both).await.expect_err("both live");
    for handle in handles {
        assert_eq!((handle.state(), handle.missed()), (State::Alive, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_beats_is_dead_in_time_and_was_never_asked() {
    let (mut near, mut far) = beating(100);
    let began = Instant::now();
    let item = near.next().await.expect("an item").expect_err("no line");
    assert_eq!(crate::support::failure(&item), Failure::PongTimeout);
    assert!(began.elapsed() <= config().worst_case_detection());
    while let Some(line) = far.next().await {
        assert_eq!(line.expect("text"), "beat");
    }
}

#[tokio::test(start_paused = true)]
async fn anything_is_life_and_answers_who_asks() {
    let (mut near, mut far) = beating(100);
    let handle = near.handle();
    spawn(async move { near.next().await.is_none() });
    spawn(async move {
        sleep(millis(30)).await;
        far.send("beat").await.expect("it is taken");
        sleep(millis(30_000)).await;
    });
    assert_eq!(handle.ping_now().await.expect("a beat"), millis(30));
}

#[tokio::test(start_paused = true)]
async fn a_protocol_that_beats_without_a_pause_does_so_each_millisecond() {
    let (near, far) = duplex(4_096);
    let mut near = HeartbeatStream::new(lines(near), Restless, config());
    drop(timeout(millis(20), near.next()).await);
    drop(near);
    let beats = lines(far).count().await;
    assert!((15..=20).contains(&beats), "{beats}");
}

struct Restless;

impl Protocol for Restless {
    type Message = String;

    fn classify(&self, _: &String) -> Kind {
        Kind::Data
    }

    fn ping(&mut self, _: NonZeroU64) -> Option<String> {
        None
    }

    fn pong(&mut self, _: &String) -> Option<String> {
        None
    }

    fn beat(&mut self) -> Option<String> {
        Some("beat".into())
    }

    fn beat_interval(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

#[test]
fn an_interval_that_no_timer_keeps_is_refused() {
    let error = Beats::new(1, millis(0)).expect_err("too short");
    assert_eq!(error.setting(), Setting::BeatInterval);
    assert_eq!(error.to_string(), "`beat_interval` must be at least 1ms");
    let error = Beats::new(1, millis(u64::MAX)).expect_err("too long");
    assert!(matches!(error, ConfigError::TooLong { .. }), "{error:?}");
}
