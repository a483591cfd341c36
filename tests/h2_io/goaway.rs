//! What the peer says when it leaves.

use std::error::Error;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tower::{Layer, ServiceExt, service_fn};
use tower_heartbeat::{
    Config, Failure, HeartbeatError, State,
    h2_io::{GoAway, PingLayer},
};

use crate::support::{
    Side,
    frames::{DATA, GOAWAY, frame, go_away, opening},
    peer::{client, live, millis, nothing_for, pings, second},
    random::Random,
    socket::{Manners, socket},
};

/// A peer that sends these bytes, `size` at a time, and closes. Returns how the connection ended.
async fn left_with(bytes: &[u8], size: usize, pinged: bool) -> HeartbeatError {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    if pinged {
        nothing_for(&mut io, 460).await;
    }
    assert_eq!(pings(&far), usize::from(pinged));
    let mut read = Vec::new();
    for part in bytes.chunks(size) {
        far.send(part);
        while far.unread() > 0 {
            drop(timeout(millis(0), io.read_buf(&mut read)).await);
        }
    }
    far.finish();
    io.read_to_end(&mut read)
        .await
        .expect("no error but the end");
    assert_eq!(read, bytes, "it is h2's, too");
    handle.error().expect("it has ended")
}

fn word(error: &HeartbeatError) -> Option<&GoAway> {
    error
        .source()
        .map(|source| source.downcast_ref().expect("a GOAWAY"))
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_peer_is_the_source_of_the_end_however_it_is_split() {
    let bytes = [frame(DATA, 1, 1, b"more"), go_away(7, 2, b"oops")].concat();
    for size in [1, 3, 8, 9, 17, 20, 100] {
        for pinged in [true, false] {
            let error = left_with(&bytes, size, pinged).await;
            assert_eq!(error.failure(), Failure::Transport);
            let word = word(&error).expect("it said why");
            assert_eq!((word.last_stream_id(), word.code()), (7, 2));
            assert_eq!(word.debug_data(), b"oops");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_in_good_order_has_said_nothing_wrong() {
    for pinged in [true, false] {
        let error = left_with(&go_away(7, 0, b"too_many_pings"), 5, pinged).await;
        assert_eq!(error.failure(), Failure::Transport);
        assert_eq!(word(&error), None);
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_calm_down_about_pings_from_a_peer_that_was_pinged_is_too_many_pings() {
    let about_pings = go_away(7, 11, b"too_many_pings");
    let others = [
        (go_away(7, 11, b""), true),
        (go_away(7, 11, b"too_many_internal_resets"), true),
        (go_away(7, 2, b"too_many_pings"), true),
        (about_pings.clone(), false),
    ];
    for (bytes, pinged) in others {
        let error = left_with(&bytes, 4, pinged).await;
        assert_eq!(error.failure(), Failure::Transport);
        assert!(word(&error).is_some());
    }
    for size in [1, 4, 100] {
        let error = left_with(&about_pings, size, true).await;
        assert_eq!(error.failure(), Failure::TooManyPings);
        assert_eq!(
            word(&error).expect("it said so").debug_data(),
            b"too_many_pings"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_in_one_read_none_is_lost() {
    let about_pings = [go_away(7, 11, b"too_many_pings"), go_away(7, 0, b"")].concat();
    let error = left_with(&about_pings, 100, true).await;
    assert_eq!(error.failure(), Failure::TooManyPings);
    let error = left_with(
        &[go_away(7, 2, b"oops"), go_away(7, 0, b"")].concat(),
        100,
        true,
    )
    .await;
    assert_eq!(word(&error).expect("it said why").code(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_too_short_says_nothing_and_of_a_long_one_the_beginning_is_kept() {
    let error = left_with(&frame(GOAWAY, 0, 0, &[0; 7]), 2, true).await;
    assert_eq!(word(&error), None);
    let error = left_with(&go_away(7, 2, &[b'o'; 70_000]), 1_000, true).await;
    assert_eq!(word(&error).expect("it said why").debug_data(), [b'o'; 256]);
}

#[tokio::test(start_paused = true)]
async fn who_is_pinged_less_often_after_a_complaint_is_not_suspected_sooner() {
    let config = Config::builder()
        .interval(millis(1_000))
        .suspect_after(millis(1_500))
        .build()
        .expect("legal settings");
    let layer = PingLayer::new(config);
    for complains in [true, true, false] {
        let (near, far) = socket(Manners::EASY, Random::new(0));
        far.send(&opening(Side::Server));
        let mut near = Some(near);
        let connector = service_fn(move |_: &'static str| {
            std::future::ready(near.take().ok_or("there is one"))
        });
        let connecting = layer.layer(connector).oneshot("target");
        let mut io = connecting.await.expect("a connection");
        let handle = io.handle();
        io.write_all(&opening(Side::Client))
            .await
            .expect("it is taken");
        io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
        if complains {
            while pings(&far) == 0 {
                nothing_for(&mut io, 10).await;
                assert_eq!(handle.state(), State::Alive);
            }
            far.send(&go_away(0, 11, b"too_many_pings"));
            far.finish();
            io.read_to_end(&mut Vec::new()).await.expect("its word");
            assert_eq!(handle.failure(), Some(Failure::TooManyPings));
        } else {
            tokio::spawn(live(far.clone(), millis(20)));
            for _ in 0..2_000 {
                nothing_for(&mut io, 10).await;
                assert_eq!(handle.state(), State::Alive);
            }
            assert!((3..=5).contains(&pings(&far)), "one each four seconds");
        }
    }
}
