//! Pings, pongs, and who sends them.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::duplex,
    spawn,
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    Config, Evidence, Failure, PingWhen, State,
    transport::{HeartbeatStream, Lines},
};

use crate::support::{self, client, config, lines, live, millis, nothing_for, settings, verdict};

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_once_and_dead_in_time() {
    let (mut near, mut far) = client(config());
    let handle = near.handle();
    let began = Instant::now();
    assert_eq!(verdict(&mut near).await, Failure::PongTimeout);
    let took = began.elapsed();
    assert!(
        took >= millis(600) && took <= config().worst_case_detection(),
        "{took:?}"
    );
    assert_eq!((handle.pings(), handle.missed()), (1, 2));
    assert_eq!(far.next().await.expect("a line").expect("text"), "ping");
    // The transport was closed actively.
    assert!(far.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_lives_and_its_pongs_are_not_seen() {
    let (mut near, far) = client(config());
    let handle = near.handle();
    spawn(live(far));
    nothing_for(&mut near, 10_000).await;
    assert!(handle.pongs() >= 20, "{}", handle.pongs());
    assert_eq!(handle.rtt().expect("pongs came").last(), millis(0));
    assert_eq!(handle.state(), State::Alive);
}

#[tokio::test(start_paused = true)]
async fn the_peers_pings_are_answered_at_once_and_not_seen() {
    let (mut near, mut far) = client(config());
    let began = Instant::now();
    let reading = spawn(async move { nothing_for(&mut near, 300).await });
    far.send("ping").await.expect("it is taken");
    assert_eq!(far.next().await.expect("a line").expect("text"), "pong");
    assert_eq!(began.elapsed(), millis(0));
    reading.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn any_message_postpones_the_ping_and_rescues_one_that_is_out() {
    let (mut near, mut far) = client(config());
    let handle = near.handle();
    for _ in 0..4 {
        nothing_for(&mut near, 350).await;
        far.send("news").await.expect("it is taken");
        assert_eq!(near.next().await.expect("a line").expect("text"), "news");
    }
    assert_eq!(handle.pings(), 0);
    // No pong ever comes, and the peer goes on sending within each wait.
    for _ in 0..8 {
        nothing_for(&mut near, 450).await;
        far.send("news").await.expect("it is taken");
        near.next().await.expect("a line").expect("text");
    }
    assert_eq!((handle.pings(), handle.pongs()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn own_messages_are_no_sign_of_life() {
    let (mut near, _far) = client(config());
    let began = Instant::now();
    let failure = loop {
        if near.send("news".into()).await.is_err() {
            break near.handle().failure();
        }
        sleep(millis(5)).await;
    };
    assert_eq!(failure, Some(Failure::PongTimeout));
    assert!(began.elapsed() <= config().worst_case_detection());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_can_be_shown() {
    let (near, mut far) = client(config());
    let mut near = near.show_heartbeats();
    far.send("ping").await.expect("it is taken");
    assert_eq!(near.next().await.expect("a line").expect("text"), "ping");
    assert_eq!(far.next().await.expect("a line").expect("text"), "pong");
    spawn(live(far));
    assert_eq!(near.next().await.expect("a line").expect("text"), "pong");
}

#[tokio::test(start_paused = true)]
async fn two_ends_that_ping_at_equal_intervals_live_and_share_the_pings() {
    for ping_when in [PingWhen::Quiet, PingWhen::Always] {
        let config = settings().ping_when(ping_when).build().expect("legal");
        let (a, b) = duplex(4_096);
        let mut a = HeartbeatStream::new(lines(a), Lines::new(), config);
        let mut b = HeartbeatStream::new(lines(b), Lines::new(), config);
        let handles = [a.handle(), b.handle()];
        let both = async { tokio::join!(a.next(), b.next()) };
        timeout(millis(60_000), both).await.expect_err("both live");
        for handle in handles {
            assert_eq!((handle.state(), handle.missed()), (State::Alive, 0));
            assert!(handle.pings() <= 150, "{}", handle.pings());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_both_ends_freeze_each_is_found_once() {
    let (a, b) = duplex(4_096);
    let mut a = HeartbeatStream::new(lines(a), Lines::new(), config());
    let b = HeartbeatStream::new(lines(b), Lines::new(), config());
    // Nobody polls `b`.
    assert_eq!(verdict(&mut a).await, Failure::PongTimeout);
    let mut b = b;
    // It has the ping to read, and the end: no verdict of its own.
    assert!(b.next().await.is_none());
    assert_eq!(b.handle().failure(), Some(Failure::Transport));
}

#[tokio::test(start_paused = true)]
async fn a_side_that_only_answers_never_pings_and_finds_a_silent_peer() {
    let (a, b) = duplex(4_096);
    let slower = settings().interval(millis(600)).build().expect("legal");
    let mut client = HeartbeatStream::new(lines(a), Lines::new(), config());
    let mut server = HeartbeatStream::new(lines(b), Lines::new(), slower).only_answer();
    let (at_client, at_server) = (client.handle(), server.handle());
    let both = async { tokio::join!(client.next(), server.next()) };
    timeout(millis(10_000), both).await.expect_err("both live");
    assert!(at_client.pongs() >= 20);
    assert_eq!(at_server.pings(), 0);
    // The client is polled no more.
    let began = Instant::now();
    assert_eq!(verdict(&mut server).await, Failure::PongTimeout);
    assert!(began.elapsed() <= slower.worst_case_detection());

    let (server, mut far) = support::client(config());
    let mut server = server.only_answer();
    assert_eq!(verdict(&mut server).await, Failure::PongTimeout);
    assert!(far.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn numbered_pongs_answer_their_own_ping_only() {
    let strict = settings()
        .evidence(Evidence::PongOnly)
        .build()
        .expect("legal");
    let (near, far) = duplex(4_096);
    let mut near = HeartbeatStream::new(lines(near), Lines::new().numbered(), strict);
    let mut far = lines(far);
    let peer = spawn(async move {
        let ping = far.next().await.expect("a line").expect("text");
        let number = ping.strip_prefix("ping ").expect("a numbered ping");
        let number: u64 = number.parse().expect("a number");
        for wrong in ["pong".to_string(), format!("pong {}", number ^ 1)] {
            far.send(wrong).await.expect("it is taken");
        }
        far
    });
    assert_eq!(verdict(&mut near).await, Failure::PongTimeout);
    assert_eq!(near.handle().pongs(), 0);
    drop(peer.await);
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_overtakes_the_end_of_its_ping_counts() {
    let config = settings().ready_timeout(millis(10_000));
    let config = config.evidence(Evidence::PongOnly).build().expect("legal");
    // The ping's last byte finds no room.
    let (near, far) = duplex(4);
    let mut near = HeartbeatStream::new(lines(near), Lines::new(), config);
    let handle = near.handle();
    let mut far = lines(far);
    let answering = spawn(async move {
        sleep(millis(450)).await;
        far.send("pong").await.expect("it is taken");
        far
    });
    nothing_for(&mut near, 500).await;
    assert_eq!((handle.pings(), handle.pongs()), (1, 1));
    drop(answering.await);
}

#[tokio::test(start_paused = true)]
async fn strict_pongs_end_the_connection_at_one_that_answers_no_ping() {
    for (strict, end) in [(false, None), (true, Some(Failure::UnexpectedPong))] {
        let (near, mut far) = client(config());
        let mut near = if strict { near.strict_pongs() } else { near };
        far.send("pong").await.expect("it is taken");
        far.send("news").await.expect("it is taken");
        // What came with it is not lost.
        assert_eq!(near.next().await.expect("a line").expect("text"), "news");
        if let Some(end) = end {
            assert_eq!(verdict(&mut near).await, end);
        }
        assert_eq!(near.handle().failure(), end);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_of_the_users_wish_goes_out_and_is_timed() {
    let (mut near, mut far) = client(Config::default());
    let handle = near.handle();
    spawn(async move { near.next().await.is_none() });
    spawn(async move {
        far.next().await.expect("a line").expect("text");
        sleep(millis(30)).await;
        far.send("pong").await.expect("it is taken");
        sleep(millis(30_000)).await;
    });
    assert_eq!(handle.ping_now().await.expect("a pong"), millis(30));
}
