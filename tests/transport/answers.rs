//! The peer's pings, where nobody reads.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    spawn,
    time::{Instant, sleep, timeout},
};
use tower_heartbeat::{
    Config,
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
