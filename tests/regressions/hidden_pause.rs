//! A pause in the middle of the driver's own poll.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{advance, sleep},
};
use tower::{Layer, service_fn};
use tower_heartbeat::{Config, HeartbeatLayer, ping};

use crate::support::{ms, settle};

const COUNT: usize = 16;

/// One closure (or the scheduler of the machine) holds the process up for a second. Nobody's ping
/// has left it before that, and every peer answers 50 ms after it has.
#[tokio::test(start_paused = true)]
async fn a_pause_within_one_poll_of_the_driver_convicts_nobody() {
    let (socket, mut peer) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    tokio::spawn(async move {
        while let Some(pong) = peer.recv().await {
            tokio::spawn(async move {
                sleep(ms(50)).await;
                let _unheard = pong.send(());
            });
        }
    });
    let pings = Arc::new(AtomicUsize::new(0));
    let ping = ping::from_fn(move || {
        if pings.fetch_add(1, Ordering::Relaxed) == 3 {
            // A second passes in here, without the runtime.
            let mut second = pin!(advance(ms(1_000)));
            let _polled = second
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        }
        let (pong, answer) = oneshot::channel();
        let _sent = socket.send(pong);
        async move { answer.await.map_err(io::Error::other) }
    });
    let config = Config::builder()
        .interval(ms(60_000))
        .pong_timeout(ms(200))
        .max_missed(1)
        .build()
        .unwrap();
    let layer = HeartbeatLayer::new(config, ping::out_of_band(ping));
    let services: Vec<_> = (0..COUNT)
        .map(|_| layer.layer(service_fn(|(): ()| async { Ok::<_, io::Error>(()) })))
        .collect();
    settle().await;
    let handles: Vec<_> = services.iter().map(|service| service.handle()).collect();
    for handle in &handles {
        let handle = handle.clone();
        tokio::spawn(async move { handle.ping_now().await });
    }
    sleep(ms(5_000)).await;
    let dead = handles.iter().filter(|handle| !handle.is_alive()).count();
    assert_eq!(dead, 0, "of {COUNT} living peers");
}
