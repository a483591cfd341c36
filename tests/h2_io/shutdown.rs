//! The end of what is written.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::Failure;

use crate::{
    half_open::{BOUND, once},
    support::{
        Side,
        frames::{DATA, frame, opening},
        peer::{client, failure_in, millis, pings, second},
        socket::Manners,
    },
};

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_ping_that_is_half_written_first() {
    let (mut io, far) = client(second());
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let before = far.accepted().len();
    // Each poll writes five bytes of it.
    far.have_manners(Manners {
        write: 5,
        ..Manners::EASY
    });
    let mut halves = 0;
    while far.accepted().len() == before {
        once(&mut io).await;
        if far.accepted().len() > before {
            halves = far.accepted().len() - before;
        }
        sleep(millis(5)).await;
    }
    assert!(halves > 0);
    io.shutdown().await.expect("it is taken");
    assert!(far.is_shut_down());
    assert_eq!(far.accepted().len(), before + 17);
    assert_eq!(pings(&far), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_after_the_verdict_returns_at_once() {
    let (mut io, far) = client(second());
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    far.block_writes(true);
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let error = io.read_u8().await.expect_err("it is frozen");
    assert_eq!(failure_in(&error), Some(Failure::PingBlocked));
    let began = Instant::now();
    io.shutdown().await.expect("nothing to wait for");
    assert_eq!(began.elapsed(), millis(0));
    assert!(!far.is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_a_frozen_peer_holds_up_ends_with_the_verdict() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    far.block_writes(true);
    let shut = timeout(millis(2 * BOUND), io.shutdown())
        .await
        .expect("it is found");
    assert!(shut.is_err());
    assert_eq!(handle.failure(), Some(Failure::PingBlocked));
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_not_convicted_of_pings_that_a_shutdown_forbids() {
    let (mut io, far) = client(second());
    let handle = io.handle();
    io.write_all(&opening(Side::Client))
        .await
        .expect("it is taken");
    io.shutdown().await.expect("it is taken");
    io.read_exact(&mut [0; 9]).await.expect("SETTINGS");
    let late = frame(DATA, 0, 1, b"at last");
    let slow = late.clone();
    tokio::spawn(async move {
        sleep(millis(10_000)).await;
        far.send(&slow);
    });
    let mut read = vec![0; late.len()];
    io.read_exact(&mut read).await.expect("it lives");
    assert_eq!(read, late);
    assert_eq!(handle.pings(), 0);
}
