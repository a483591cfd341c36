//! The peer's pings, where nobody reads.

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    spawn,
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    Config, PingPolicy,
    transport::{Lines, Protocol},
};

use crate::support::{client, millis};

#[tokio::test(start_paused = true)]
async fn who_only_writes_answers_the_peers_pings_before_it_has_one_of_its_own() {
    let config = Config::builder().interval(millis(600_000)).build();
    let (mut near, mut far) = client(config.expect("legal settings"));
    let writing = spawn(async move {
        for _ in 0..100 {
            near.send("news".into()).await.expect("alive");
            sleep(millis(20)).await;
        }
        near
    });
    for _ in 0..3 {
        sleep(millis(300)).await;
        far.send("ping").await.expect("it is taken");
        far.send("mail").await.expect("it is taken");
        let asked_at = Instant::now();
        let answered =
            async { while far.next().await.expect("a line").expect("text") != "pong" {} };
        timeout(millis(1_000), answered).await.expect("in time");
        assert!(asked_at.elapsed() <= millis(20));
    }
    let mut near = writing.await.expect("no panic");
    // Nothing is lost by that.
    for _ in 0..3 {
        assert_eq!(near.next().await.expect("a line").expect("text"), "mail");
    }
}

#[tokio::test(start_paused = true)]
async fn who_only_writes_answers_the_peers_pings_also_where_a_reader_was_and_is_gone() {
    for is_policed in [false, true] {
        let config = Config::builder().interval(millis(600_000)).build();
        let (near, mut far) = client(config.expect("legal settings"));
        let near = if is_policed {
            near.police_pings(PingPolicy::grpc())
        } else {
            near
        };
        let (mut writer, mut reader) = near.split();
        writer.send("news".into()).await.expect("alive");
        // Whatever comes next wakes a reader, and no writer.
        assert!(reader.next().now_or_never().is_none());
        drop(reader);
        far.send("ping").await.expect("it is taken");
        for _ in 0..20 {
            writer.send("news".into()).await.expect("alive");
        }
        let mut read = 0;
        while far
            .next()
            .now_or_never()
            .expect("a pong")
            .expect("a line")
            .expect("text")
            != "pong"
        {
            read += 1;
        }
        assert!(read <= 18, "{read}");
    }
}

#[test]
fn a_number_is_repeated_as_it_was_written() {
    let mut lines = Lines::new();
    for (ping, pong) in [
        ("ping", "pong"),
        ("ping 7", "pong 7"),
        ("ping 007", "pong 007"),
    ] {
        assert_eq!(lines.pong(&ping.into()), Some(pong.into()));
    }
    assert_eq!(lines.pong(&"ping x".into()), None);
}
