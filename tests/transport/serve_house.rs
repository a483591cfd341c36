//! How many requests a connection may have, and what that means for its pings.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::SinkExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, service_fn, util::BoxService};
use tower_heartbeat::{
    Failure,
    transport::{HeartbeatStream, Lines, Serve},
};

use crate::{
    serve::{ended, failure, line, lines_of, server, slow_echo, start, tell},
    support::{config, lines, millis, settings},
};

#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_are_worked_on() {
    let (near, mut far) = server(config());
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (in_service, seen) = (Arc::clone(&now), Arc::clone(&most));
    let service = service_fn(move |line: String| {
        let (now, most) = (Arc::clone(&in_service), Arc::clone(&seen));
        async move {
            let count = now.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(count, Ordering::Relaxed);
            sleep(millis(100)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, BoxError>(line)
        }
    });
    let serve = Serve::new(near, service).max_concurrent_requests(3);
    let _serving = start(serve.expect("legal"));
    let began = Instant::now();
    tell(&mut far, ["1", "2", "3", "4", "5", "6", "7"]).await;
    let read = lines_of::<7>(&mut far).await;
    assert_eq!(read, ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(most.load(Ordering::Relaxed), 3);
    assert_eq!(began.elapsed().as_millis(), 300);
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_is_a_service_without_concurrency() {
    let (near, mut far) = server(config());
    let serve = Serve::new(near, slow_echo()).max_concurrent_requests(1);
    let _serving = start(serve.expect("legal"));
    let began = Instant::now();
    tell(&mut far, ["100 a", "100 b", "100 c"]).await;
    assert_eq!(lines_of::<3>(&mut far).await, ["a", "b", "c"]);
    assert_eq!(began.elapsed().as_millis(), 300);
}

#[tokio::test(start_paused = true)]
async fn in_a_full_house_pings_are_answered_behind_as_many_messages_as_are_read_ahead() {
    for (unread, is_answered) in [(0, true), (15, true), (16, false)] {
        let patient = settings().interval(millis(60_000)).build().expect("legal");
        let (near, mut far) = server(patient);
        let serve = Serve::new(near, slow_echo()).max_concurrent_requests(2);
        let _serving = start(serve.expect("legal"));
        tell(&mut far, ["5000 a", "5000 b"]).await;
        for _ in 0..unread {
            tell(&mut far, ["0 later"]).await;
        }
        for _ in 0..2 {
            sleep(millis(400)).await;
            let began = Instant::now();
            tell(&mut far, ["ping"]).await;
            let answer = timeout(millis(200), line(&mut far)).await;
            assert_eq!(
                answer.ok().is_some_and(|answer| answer == "pong"),
                is_answered,
                "{unread}"
            );
            if is_answered {
                assert_eq!(began.elapsed(), Duration::ZERO);
            }
        }
        // In either case nothing is lost, and the order is kept.
        let mut read = Vec::new();
        while read.len() < 2 + unread {
            let line = line(&mut far).await;
            if line != "pong" {
                read.push(line);
            }
        }
        assert_eq!(read[..2], ["a", "b"]);
        assert!(read[2..].iter().all(|line| line == "later"));
    }
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_while_the_service_is_not_ready() {
    let (near, mut far) = server(config());
    let (mock, mut handle) = tower_test::mock::pair::<String, String>();
    handle.allow(0);
    let _serving = start(Serve::new(near, BoxService::new(mock)));
    tell(&mut far, ["request"]).await;
    for _ in 0..10 {
        sleep(millis(400)).await;
        let began = Instant::now();
        tell(&mut far, ["ping"]).await;
        assert_eq!(line(&mut far).await, "pong");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
    handle.allow(1);
    let (request, answer) = handle.next_request().await.expect("it is called");
    assert_eq!(request, "request");
    answer.send_response("answer".into());
    assert_eq!(line(&mut far).await, "answer");
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answers_is_asked_no_more_than_the_limit() {
    let (near, mut far) = duplex(16);
    let patient = settings().interval(millis(60_000)).build().expect("legal");
    let near = HeartbeatStream::new(lines(near), Lines::new(), patient).only_answer();
    let calls = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&calls);
    let echo = service_fn(move |line: String| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, BoxError>(line) }
    });
    let serve = Serve::new(near, echo).max_concurrent_requests(2);
    let _serving = start(serve.expect("legal"));
    let request = [b"x".repeat(40), b"\n".to_vec()].concat();
    for _ in 0..4 {
        far.write_all(&request).await.expect("it is read");
        sleep(millis(10)).await;
    }
    // The transport has room for the answers, but cannot get rid of them.
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let mut answers = vec![0; 4 * request.len()];
    far.read_exact(&mut answers).await.expect("all of them");
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_closed_in_time_also_in_a_full_house() {
    let (near, mut far) = server(config());
    let serve = Serve::new(near, slow_echo()).max_concurrent_requests(1);
    let serving = start(serve.expect("legal"));
    let began = Instant::now();
    tell(&mut far, ["600000 a", "0 b"]).await;
    let error = ended(serving).await.expect_err("it is silent");
    assert_eq!(failure(&error), Failure::PongTimeout);
    assert!(began.elapsed() <= config().worst_case_detection());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answers_is_not_spared_for_what_it_left_unread() {
    let (near, mut far) = duplex(64);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config()).only_answer();
    let serve = Serve::new(near, slow_echo()).max_concurrent_requests(4);
    let serving = start(serve.expect("legal"));
    let writing = async {
        loop {
            let taken = far
                .write_all(b"0 an answer of some length to fill it\n")
                .await;
            if taken.is_err() {
                break;
            }
        }
    };
    let began = Instant::now();
    let (end, _) = tokio::join!(ended(serving), timeout(millis(60_000), writing));
    let error = end.expect_err("it is stuck");
    assert_eq!(failure(&error), Failure::PongTimeout);
    assert!(began.elapsed() <= config().worst_case_detection());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_more_than_is_read_lives_as_long_as_it_takes_its_answers() {
    let (near, far) = duplex(256);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config()).only_answer();
    let serve = Serve::new(near, slow_echo()).max_concurrent_requests(2);
    let serving = start(serve.expect("legal"));
    let (mut reading, mut writing) = tokio::io::split(far);
    let send = async {
        for _ in 0..60 {
            writing.write_all(b"1000 x\n").await.expect("it lives");
        }
        writing.shutdown().await.expect("it closes");
    };
    let read = async {
        let mut read = String::new();
        reading.read_to_string(&mut read).await.expect("text");
        read
    };
    let ((), read) = tokio::join!(send, read);
    assert_eq!(read, "x\n".repeat(60));
    ended(serving).await.expect("the peer closed");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_that_are_done_at_once_leaves_room_for_others() {
    let (near, far) = duplex(64 * 1_024);
    let near = HeartbeatStream::new(lines(near), Lines::new(), config()).only_answer();
    let echo = service_fn(|line: String| async move { Ok::<_, BoxError>(line) });
    let serving = start(Serve::new(near, echo));
    let (mut reading, mut writing) = tokio::io::split(far);
    let reader = tokio::spawn(async move {
        let mut read = Vec::new();
        reading.read_to_end(&mut read).await.expect("bytes");
        read.len()
    });
    let writer = tokio::spawn(async move {
        for _ in 0..100 {
            let some = b"x\n".repeat(1_000);
            writing.write_all(&some).await.expect("taken");
        }
        writing.shutdown().await.expect("it closes");
    });
    ended(writer).await;
    assert_eq!(ended(reader).await, 200_000);
    ended(serving).await.expect("the peer closed");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_what_is_no_request_keeps_no_request_from_the_service() {
    let (near, mut far) = server(config());
    let _serving = start(Serve::new(near.show_heartbeats(), slow_echo()));
    for _ in 0..200 {
        far.feed("ping").await.expect("it is taken");
    }
    tell(&mut far, ["0 request"]).await;
    while line(&mut far).await == "pong" {}
}
