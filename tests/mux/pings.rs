//! The heartbeat beside the requests.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt, stream::SplitStream};
use tokio::{
    io::{AsyncWriteExt, duplex},
    time::{Instant, sleep, timeout, timeout_at},
};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    Config, Error, Evidence, Failure, HeartbeatLayer, Stage, State,
    mux::{self, MuxError},
    transport::{Beats, Lines, hear},
};

use crate::support::{
    Codec, Watched, WithPushes, at_most, by_id, call, config, connect, in_order, line, lines,
    millis, settings, settle, soon, tell, watch,
};

/// Answers pings until the connection ends; returns what else it read.
async fn live(mut far: Codec) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(Ok(line)) = far.next().await {
        if line == "ping" {
            tell(&mut far, "pong").await;
        } else {
            read.push(line);
        }
    }
    read
}

async fn ask(service: &mut Watched, line: &str) -> Result<String, Error<MuxError>> {
    service.ready().await?.call(line.into()).await
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_dead_within_the_bound_and_the_transport_is_closed_at_once() {
    let (mut service, handle, mut far) = watch(&by_id(), config());
    let begin = Instant::now();
    let mut other = service.clone();
    let asked = async { ask(&mut other, "0 hello").await };
    let end = async {
        let mut read = Vec::new();
        while let Some(Ok(line)) = far.next().await {
            read.push(line);
        }
        (read, begin.elapsed())
    };
    let (error, (read, closed_after)) = soon("an end", async { tokio::join!(asked, end) }).await;
    let error = error.expect_err("silent");
    let error = error.heartbeat().expect("the heartbeat's own");
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    assert_eq!(read, ["1 hello", "ping"]);
    assert!(begin.elapsed() <= config().worst_case_detection());
    assert!(closed_after <= config().worst_case_detection());
    let error = ask(&mut service, "0 again").await.expect_err("dead");
    let error = error.heartbeat().expect("the heartbeat's own");
    assert_eq!(error.stage(), Stage::NotSent);
    assert_eq!(handle.state(), State::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_peer_is_dead_within_the_bound_whatever_the_transport_holds() {
    let bound = millis(1_000);
    let config = Config::detect_within(bound).expect("legal");
    for capacity in [8, 65_536] {
        for pause in [None, Some(millis(100)), Some(millis(1))] {
            for frozen_at in (1_000..2_000).step_by(190) {
                let (near, far) = duplex(capacity);
                let builder = by_id().max_in_flight(at_most(10_000));
                let (mux, connection) = builder.pair(lines(near));
                let mut service = HeartbeatLayer::new(config, mux::ping()).layer(mux);
                let handle = service.handle();
                tokio::spawn(mux::drive(connection, handle.clone()));
                service.ready().await.expect("open");
                let _asking = pause.map(|pause| {
                    let mut service = service.clone();
                    tokio::spawn(async move {
                        let mut calls = Vec::new();
                        while let Ok(ready) = service.ready().await {
                            calls.push(ready.call(format!("0 {}", "x".repeat(50))));
                            sleep(pause).await;
                        }
                    })
                });
                let (last, mut far) = live_until(lines(far), millis(frozen_at)).await;
                soon("an end", handle.closed()).await;
                assert!(last.elapsed() <= bound, "{:?}", last.elapsed());
                settle().await;
                let dead_for = Instant::now();
                while let Some(Ok(_)) = soon("the end", far.next()).await {}
                assert_eq!(dead_for.elapsed(), millis(0), "the transport is open");
            }
        }
    }
}

/// Answers everything for so long, then nothing; returns when it last did.
async fn live_until(mut far: Codec, frozen_at: Duration) -> (Instant, Codec) {
    let mut last = Instant::now();
    let frozen_at = last + frozen_at;
    while let Ok(Some(Ok(line))) = timeout_at(frozen_at, far.next()).await {
        let answer = if line == "ping" { "pong".into() } else { line };
        tell(&mut far, &answer).await;
        last = Instant::now();
    }
    (last, far)
}

#[tokio::test(start_paused = true)]
async fn slow_requests_hold_up_no_ping_and_a_peer_that_answers_those_lives() {
    // As many as may be in flight, and in order.
    let (mut service, handle, far) = watch(&in_order().max_in_flight(at_most(3)), config());
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(service.ready().await.expect("open").call("slow".into()));
    }
    assert!(timeout(millis(10), service.ready()).await.is_err());
    let peer = tokio::spawn(live(far));
    sleep(millis(20_000)).await;
    assert_eq!(handle.state(), State::Alive);
    assert!(handle.pongs() >= 40, "{}", handle.pongs());
    assert_eq!((handle.pings(), handle.missed()), (handle.pongs(), 0));
    drop((service, calls));
    assert_eq!(soon("the end", peer).await.expect("no panic").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_peers_pings_are_answered_at_once_also_while_the_queue_is_full() {
    let (near, far) = duplex(64);
    let builder = in_order().max_in_flight(at_most(2)).max_queued(at_most(1));
    let (mut mux, connection) = builder.pair(lines(near));
    let _running = tokio::spawn(connection);
    let mut far = lines(far);
    let _calls = [call(&mut mux, "a").await, call(&mut mux, "b").await];
    assert!(timeout(millis(10), mux.ready()).await.is_err());
    assert_eq!(line(&mut far).await, "a");
    assert_eq!(line(&mut far).await, "b");
    let begin = Instant::now();
    for _ in 0..10 {
        tell(&mut far, "ping").await;
        assert_eq!(line(&mut far).await, "pong");
    }
    far.get_mut()
        .write_all(b"ping\nping\nping\n")
        .await
        .expect("open");
    for _ in 0..3 {
        assert_eq!(line(&mut far).await, "pong");
    }
    assert_eq!(begin.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn a_ping_overtakes_the_requests_in_the_queue() {
    let (near, far) = duplex(8);
    let (mux, connection) = in_order().pair(lines(near));
    let mut service = HeartbeatLayer::new(config(), mux::ping()).layer(mux);
    tokio::spawn(mux::drive(connection, service.handle()));
    let mut far = lines(far);
    // Framed takes 8 KiB before it says that it is full; the rest waits in the queue.
    let mut calls = Vec::new();
    for _ in 0..180 {
        let ready = service.ready().await.expect("open");
        calls.push(ready.call("x".repeat(60)));
        settle().await;
    }
    // Past the interval and a tick.
    sleep(millis(480)).await;
    let mut read = Vec::new();
    for _ in 0..181 {
        read.push(line(&mut far).await);
    }
    let place = read.iter().position(|line| line == "ping");
    assert!(place.is_some_and(|place| place < 150), "{place:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_answers_by_itself_is_flushed() {
    /// Brings one beat.
    struct Once {
        beat: Option<String>,
        flushes: Arc<AtomicU32>,
    }
    impl Stream for Once {
        type Item = io::Result<String>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            match self.beat.take() {
                Some(beat) => Poll::Ready(Some(Ok(beat))),
                None => Poll::Pending,
            }
        }
    }
    impl Sink<String> for Once {
        type Error = io::Error;
        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn start_send(self: Pin<&mut Self>, _: String) -> io::Result<()> {
            Ok(())
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    let beats = Beats::new("beat".to_string(), millis(10_000)).expect("legal");
    for (beat, flushed) in [(None, 0), (Some("beat".to_string()), 1)] {
        let flushes = Arc::new(AtomicU32::new(0));
        let transport = Once {
            beat,
            flushes: Arc::clone(&flushes),
        };
        let (_mux, connection) = mux::in_order(beats.clone()).pair(transport);
        tokio::spawn(connection);
        settle().await;
        assert_eq!(flushes.load(Ordering::Relaxed), flushed);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_in_is_a_sign_of_life() {
    for heard in ["!news", "ping", "answer to nobody", "pong"] {
        let (_service, handle, mut far) = watch(&mux::in_order(WithPushes(Lines::new())), config());
        for _ in 0..100 {
            sleep(millis(300)).await;
            tell(&mut far, heard).await;
        }
        assert_eq!(handle.state(), State::Alive, "{heard}");
        assert_eq!(handle.pings(), 0, "{heard}: it was never quiet");
        assert_eq!(soon("an end", handle.closed()).await, Failure::PongTimeout);
    }
}

#[tokio::test(start_paused = true)]
async fn each_byte_of_a_long_message_is_one_if_the_connection_has_an_ear() {
    let (near, mut far) = duplex(4_096);
    let (near, ear) = hear(near);
    let codec = tokio_util::codec::LinesCodec::new();
    let (mux, connection) = in_order().pair(tokio_util::codec::Framed::new(near, codec));
    let service = HeartbeatLayer::new(config(), mux::ping()).layer(mux);
    let handle = service.handle();
    tokio::spawn(mux::drive(connection.hear_bytes(&ear), handle.clone()));
    for _ in 0..100 {
        sleep(millis(300)).await;
        far.write_all(b"x").await.expect("open");
    }
    assert_eq!(handle.state(), State::Alive);
    assert_eq!(soon("an end", handle.closed()).await, Failure::PongTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_is_no_pong_and_a_later_pong_answers_earlier_pings() {
    let config = settings().evidence(Evidence::PongOnly).build();
    let config = config.expect("legal settings");
    let numbered = mux::in_order(Lines::new().numbered());
    let (_service, handle, mut far) = watch(&numbered, config);
    let first = line(&mut far).await;
    tell(&mut far, &first.replace("ping", "pong")).await;
    settle().await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 1));

    let _second = line(&mut far).await;
    for wrong in ["pong", "pong 0", &first.replace("ping", "pong")] {
        tell(&mut far, wrong).await;
    }
    assert_eq!(soon("an end", handle.closed()).await, Failure::PongTimeout);
    assert_eq!((handle.pings(), handle.pongs()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_other_traffic_has_rescued_may_be_answered_late() {
    let (_service, handle, mut far) = watch(&mux::in_order(WithPushes(Lines::new())), config());
    assert_eq!(line(&mut far).await, "ping");
    for _ in 0..10 {
        tell(&mut far, "!news").await;
        sleep(millis(399)).await;
    }
    assert_eq!((handle.pings(), handle.pongs()), (1, 0));
    tell(&mut far, "pong").await;
    settle().await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn pings_that_were_called_off_before_they_were_out_do_not_pile_up() {
    let (near, far) = duplex(4);
    let (mux, connection) = mux::in_order(WithPushes(Lines::new())).pair(lines(near));
    let mut service = HeartbeatLayer::new(config(), mux::ping()).layer(mux);
    let handle = service.handle();
    tokio::spawn(mux::drive(connection, handle.clone()));
    let asked = service.ready().await.expect("open").call("hello".into());
    let mut far = lines(far);
    for _ in 0..20 {
        // One is due, and stuck behind `hello`.
        sleep(millis(450)).await;
        tell(&mut far, "!n").await;
    }
    assert_eq!((handle.state(), handle.pings()), (State::Alive, 0));
    assert_eq!(line(&mut far).await, "hello");
    assert_eq!(line(&mut far).await, "ping");
    assert!(timeout(millis(200), far.next()).await.is_err());
    tell(&mut far, "answer").await;
    assert_eq!(soon("an answer", asked).await.expect("alive"), "answer");
    assert_eq!(line(&mut far).await, "ping");
    tell(&mut far, "pong").await;
    settle().await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_does_not_get_out_is_blocked_and_its_peer_not_convicted() {
    let (near, _far) = duplex(4);
    let (mux, connection) = in_order().pair(lines(near));
    let mut service = HeartbeatLayer::new(config(), mux::ping()).layer(mux);
    let handle = service.handle();
    tokio::spawn(mux::drive(connection, handle.clone()));
    // It does not fit into the transport, nor does what comes behind it.
    let error = ask(&mut service, "hello").await.expect_err("blocked");
    let error = error.heartbeat().expect("the heartbeat's own");
    assert_eq!(error.failure(), Failure::PingBlocked);
    assert_eq!(handle.pings(), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_without_end_do_not_keep_a_ping_from_being_out() {
    let config = settings().ready_timeout(millis(2_000));
    let config = config.pong_timeout(millis(2_000)).build().expect("legal");
    let (near, far) = duplex(512);
    let builder = by_id().max_in_flight(at_most(10_000));
    let (mux, connection) = builder.pair(lines(near));
    let mut service = HeartbeatLayer::new(config, mux::ping()).layer(mux);
    let handle = service.handle();
    tokio::spawn(mux::drive(connection, handle.clone()));
    let asking = tokio::spawn(async move {
        let mut calls = Vec::new();
        while let Ok(ready) = service.ready().await {
            calls.push(ready.call(format!("0 {}", "x".repeat(50))));
        }
    });
    // It reads less than there is to write all the time, answers no request, and thinks about a ping.
    let (mut writer, mut reader) = lines(far).split();
    let mut pongs = 0;
    while pongs < 5 {
        if line_of(&mut reader).await == "ping" {
            sleep(millis(2_500)).await;
            writer.send("pong".to_string()).await.expect("it lives");
            pongs += 1;
        }
        sleep(millis(5)).await;
    }
    assert_eq!(handle.state(), State::Alive);
    assert!(!asking.is_finished());
    asking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_pings_faster_than_it_reads_gets_requests_between_the_answers() {
    let (near, far) = duplex(64);
    let (mut mux, connection) = in_order().max_in_flight(at_most(10_000)).pair(lines(near));
    tokio::spawn(connection);
    let (mut writer, mut reader) = lines(far).split();
    let flooding = tokio::spawn(async move {
        while writer.send("ping\nping\nping".to_string()).await.is_ok() {
            sleep(millis(1)).await;
        }
    });
    let asking = tokio::spawn(async move {
        let mut calls = Vec::new();
        while let Ok(ready) = mux.ready().await {
            calls.push(ready.call("x".repeat(50)));
        }
    });
    let (mut requests, mut answers) = (0, 0);
    for _ in 0..2_000 {
        if line_of(&mut reader).await == "pong" {
            answers += 1;
        } else {
            requests += 1;
        }
        sleep(millis(1)).await;
    }
    assert!(requests > 500 && answers > 500, "{requests}, {answers}");
    flooding.abort();
    asking.abort();
}

async fn line_of(reader: &mut SplitStream<Codec>) -> String {
    let line = reader.next().await.expect("it lives");
    line.expect("a line")
}

#[tokio::test(start_paused = true)]
async fn an_idle_or_closed_connection_says_goodbye_and_a_dead_one_too_if_that_goes_at_once() {
    let idle = settings().idle_timeout(millis(300)).build().expect("legal");
    for (config, failure) in [
        (idle, Failure::IdleTimeout),
        (config(), Failure::Closed),
        (config(), Failure::PongTimeout),
    ] {
        let (mut service, handle, mut far) =
            watch(&mux::in_order(WithPushes(Lines::new())), config);
        settle().await;
        if failure == Failure::Closed {
            handle.close();
        }
        let mut read = Vec::new();
        while let Some(Ok(line)) = soon("a line", far.next()).await {
            read.push(line);
        }
        assert_eq!(read.pop().expect("a farewell"), format!("bye: {failure}"));
        let error = ask(&mut service, "hello").await.expect_err("over");
        let error = error.heartbeat().expect("the heartbeat's own");
        assert_eq!((error.failure(), error.stage()), (failure, Stage::NotSent));
    }
}

#[tokio::test(start_paused = true)]
async fn beats_go_out_by_themselves_and_a_peer_that_sends_none_is_dead() {
    let beats = Beats::new("beat".to_string(), millis(200)).expect("legal");
    let (service, handle, mut far) = watch(&mux::in_order(beats), config());
    let mut beats = 0;
    while let Some(Ok(line)) = soon("a beat", far.next()).await {
        assert_eq!(line, "beat");
        beats += 1;
        if beats < 50 {
            tell(&mut far, "beat").await;
        }
    }
    assert!(beats >= 52, "{beats}");
    assert_eq!(handle.failure(), Some(Failure::PongTimeout));
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_a_ping_where_the_protocol_has_none() {
    let (near, far) = duplex(4_096);
    let (mux, connection) = in_order().pair(lines(near));
    let source = tower_heartbeat::ping::request(|| "PING".to_string());
    let service = HeartbeatLayer::new(config(), source).layer(mux);
    let handle = service.handle();
    let running = tokio::spawn(mux::drive(connection, handle.clone()));
    let mut far = lines(far);
    for _ in 0..3 {
        assert_eq!(line(&mut far).await, "PING");
        tell(&mut far, "PONG").await;
    }
    settle().await;
    assert_eq!((handle.pings(), handle.pongs()), (3, 3));
    // The ping's own clone does not keep the connection.
    drop(service);
    running.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn without_a_task_the_ping_fails_and_says_so() {
    let (mux, running, _far) = connect(&in_order());
    let service = HeartbeatLayer::new(Config::default(), mux::ping()).layer(mux);
    running.abort();
    let failure = soon("an end", service.handle().closed()).await;
    assert_eq!(failure, Failure::PingFailed);
}
