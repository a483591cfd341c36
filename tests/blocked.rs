//! A blocked runtime convicts nobody: real time, a real socket, a peer on a thread of its own.
//!
//! While the runtime is blocked past every deadline, the pong lies unread in the socket.

#![allow(
    clippy::disallowed_methods,
    reason = "tests read the clock and sleep on it"
)]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    Config, ConfigBuilder, Failure, Handle, Heartbeat, HeartbeatLayer, State, ping,
};

#[test]
fn a_pong_that_lies_in_the_socket_is_read_before_the_verdict() {
    for runtime in runtimes() {
        // So long that the pause goes unnoticed: only the look before the verdict is left.
        let config = quick().max_local_pause(ms(60_000));
        let (connection, peer) = connect(&runtime, config);
        for _ in 0..2 {
            block_while_a_pong_is_due(&runtime, &peer);
            assert_is_well(&runtime, &connection, &peer);
        }
    }
}

#[test]
fn a_pause_over_the_limit_does_not_convict_either() {
    for runtime in runtimes() {
        let (connection, peer) = connect(&runtime, quick());
        for _ in 0..2 {
            block_while_a_pong_is_due(&runtime, &peer);
            assert_is_well(&runtime, &connection, &peer);
        }
    }
}

#[test]
fn a_pong_that_is_still_under_way_after_the_pause_gets_its_time() {
    for runtime in runtimes() {
        let (connection, peer) = connect(&runtime, quick());
        // The ping leaves this process only after the pause, and the peer takes its time.
        connection.hold_writes(ms(150));
        block_when_a_ping_goes_out(&runtime, &connection.handle);
        connection.hold_writes(Duration::ZERO);
        assert_is_well(&runtime, &connection, &peer);
    }
}

#[test]
fn a_blocked_runtime_does_not_fail_a_request_in_flight() {
    for runtime in runtimes() {
        let (connection, peer) = connect(&runtime, quick().quiet_timeout(ms(1_000)));
        let mut service = connection.service.clone();
        let request = runtime.spawn(async move { service.ready().await?.call(()).await });
        block_while_a_pong_is_due(&runtime, &peer);
        runtime
            .block_on(request)
            .unwrap()
            .expect("its answer lay in the socket");
        assert_is_well(&runtime, &connection, &peer);
    }
}

#[test]
fn a_dead_peer_is_found_after_the_pause() {
    for runtime in runtimes() {
        let (connection, peer) = connect(&runtime, quick());
        let mut service = connection.service.clone();
        peer.freeze();
        let request = runtime.spawn(async move { service.ready().await?.call(()).await });
        block_when_a_ping_goes_out(&runtime, &connection.handle);
        let resumed_at = Instant::now();
        let failure = runtime.block_on(async {
            let closed = timeout(ms(20_000), connection.handle.closed());
            closed.await.expect("bounded")
        });
        assert_eq!(failure, Failure::PongTimeout);
        let worst_case = connection.handle.config().worst_case_detection() + ms(200);
        let took = resumed_at.elapsed();
        assert!(took < worst_case + MARGIN, "{took:?}");
        let error = runtime.block_on(request).unwrap().expect_err("dead");
        assert!(error.heartbeat().is_some());
    }
}

#[test]
fn a_peer_that_dies_while_pauses_go_on_is_found() {
    for runtime in runtimes() {
        let (connection, peer) = connect(&runtime, quick());
        peer.freeze();
        let started_at = Instant::now();
        while connection.handle.failure().is_none() {
            block(&runtime, ms(350));
            runtime.block_on(async { sleep(ms(20)).await });
            assert!(started_at.elapsed() < ms(20_000), "bounded");
        }
        assert_eq!(connection.handle.failure(), Some(Failure::PongTimeout));
    }
}

/// For schedulers that are late; the deadlines themselves are asserted in virtual time.
const MARGIN: Duration = Duration::from_secs(3);

/// `max_local_pause` is 100 ms then, and a verdict takes 400 ms of silence after a ping.
fn quick() -> ConfigBuilder {
    Config::builder()
        .interval(ms(100))
        .pong_timeout(ms(500))
        .max_missed(2)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Both have one thread for everything but `block_on`.
fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap(),
    ]
}

/// Blocks the runtime's one thread.
fn block(runtime: &Runtime, time: Duration) {
    let blocker = runtime.spawn(async move { thread::sleep(time) });
    runtime.block_on(blocker).unwrap();
}

/// Blocks it while the peer has a ping that it has not answered yet.
fn block_while_a_pong_is_due(runtime: &Runtime, peer: &Peer) {
    let (received, answered) = (Arc::clone(&peer.received), Arc::clone(&peer.answered));
    let blocker = runtime.spawn(async move {
        while received.load(Ordering::Acquire) == answered.load(Ordering::Acquire) {
            sleep(ms(1)).await;
        }
        thread::sleep(ms(1_500));
    });
    runtime.block_on(blocker).unwrap();
}

/// Blocks it as soon as a ping goes out.
fn block_when_a_ping_goes_out(runtime: &Runtime, handle: &Handle) {
    let handle = handle.clone();
    let blocker = runtime.spawn(async move {
        let before = handle.pings();
        while handle.pings() == before {
            sleep(ms(1)).await;
        }
        thread::sleep(ms(1_500));
    });
    runtime.block_on(blocker).unwrap();
}

/// Served, alive, and that for longer than a verdict takes.
fn assert_is_well(runtime: &Runtime, connection: &Connected, peer: &Peer) {
    runtime.block_on(async {
        let pongs = connection.handle.pongs();
        let mut service = connection.service.clone();
        let served = async { service.ready().await?.call(()).await };
        served.await.expect("alive");
        let next_pongs = async {
            while connection.handle.pongs() < pongs + 3 {
                assert_eq!(connection.handle.failure(), None);
                sleep(ms(5)).await;
            }
        };
        timeout(ms(20_000), next_pongs).await.expect("pings go on");
        assert_eq!(connection.handle.failure(), None);
        assert_ne!(connection.handle.state(), State::Dead);
    });
    assert!(peer.answered.load(Ordering::Relaxed) > 0);
}

/// The client's side: one task that owns the socket.
struct Connected {
    service: Heartbeat<Client>,
    handle: Handle,
    write_delay: Arc<AtomicU64>,
}

impl Connected {
    fn hold_writes(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.write_delay.store(millis, Ordering::Relaxed);
    }
}

fn connect(runtime: &Runtime, config: ConfigBuilder) -> (Connected, Peer) {
    let peer = Peer::listen();
    let write_delay = Arc::new(AtomicU64::new(0));
    let socket = runtime.block_on(TcpStream::connect(peer.address)).unwrap();
    let (calls, queue) = mpsc::unbounded_channel();
    runtime.spawn(carry(socket, queue, Arc::clone(&write_delay)));
    let _entered = runtime.enter();
    let layer = HeartbeatLayer::new(config.build().unwrap(), ping::request(|| ()));
    let service = layer.layer(Client { calls });
    let connected = Connected {
        handle: service.handle(),
        service,
        write_delay,
    };
    (connected, peer)
}

type Calls = mpsc::UnboundedReceiver<oneshot::Sender<()>>;

/// A request is one byte, and so is its answer; answers come in order.
async fn carry(socket: TcpStream, mut calls: Calls, write_delay: Arc<AtomicU64>) {
    let (mut reader, mut writer) = socket.into_split();
    let (sent, mut waiting) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    let reads = tokio::spawn(async move {
        let mut byte = [0];
        while reader.read_exact(&mut byte).await.is_ok() {
            if let Some(call) = waiting.recv().await {
                let _ = call.send(());
            }
        }
    });
    while let Some(call) = calls.recv().await {
        let millis = write_delay.load(Ordering::Relaxed);
        sleep(ms(millis)).await;
        let _ = sent.send(call);
        if writer.write_all(&[1]).await.is_err() {
            break;
        }
    }
    reads.abort();
}

#[derive(Clone)]
struct Client {
    calls: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Service<()> for Client {
    type Response = ();
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let (call, answer) = oneshot::channel();
        let sent = self.calls.send(call);
        Box::pin(async move {
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())
        })
    }
}

/// Answers every byte after 20 ms, until it freezes.
struct Peer {
    address: SocketAddr,
    frozen: Arc<AtomicBool>,
    received: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
}

impl Peer {
    fn listen() -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer {
            address: listener.local_addr().unwrap(),
            frozen: Arc::default(),
            received: Arc::default(),
            answered: Arc::default(),
        };
        let (frozen, received) = (Arc::clone(&peer.frozen), Arc::clone(&peer.received));
        let answered = Arc::clone(&peer.answered);
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_nodelay(true).unwrap();
            let mut byte = [0];
            while socket.read_exact(&mut byte).is_ok() {
                received.fetch_add(1, Ordering::Release);
                thread::sleep(ms(20));
                if !frozen.load(Ordering::Relaxed) {
                    if socket.write_all(&byte).is_err() {
                        break;
                    }
                    answered.fetch_add(1, Ordering::Release);
                }
            }
        });
        peer
    }

    /// Keeps the socket open and says nothing more.
    fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }
}
