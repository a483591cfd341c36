//! What many idle message transports cost.
//!
//! `cargo bench --bench idle --features websocket`: memory and CPU of 10,000 WebSockets in memory that are pinged every
//! second, beside those that nobody pings and those with the recipe that people write by hand, in about forty
//! seconds. A number after `--` is how many.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, Stream, StreamExt};
use nix::time::ClockId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Runtime,
    sync::Notify,
    task::yield_now,
    time::{interval, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};
use tower_heartbeat::{
    BoxError, Config,
    transport::{HeartbeatStream, WebSocket},
};

fn main() -> Result<(), BoxError> {
    // cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1);
    let count = arguments.find(|argument| !argument.starts_with("--"));
    idle(count.map_or(Ok(CONNECTIONS), |count| count.parse())?);
    Ok(())
}

const CONNECTIONS: usize = 10_000;
const EVERY: Duration = Duration::from_secs(1);
const PONG_TIMEOUT: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);

/// Pings that the far ends have answered.
static PONGS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinged {
    Never,
    ByHeartbeat,
    ByHand,
}

/// Each connection has a task that reads it. The far end is the same for all.
fn idle(count: usize) {
    println!("{count} idle WebSockets in memory, a ping every {EVERY:?}; CPU over {WINDOW:?}");
    println!(
        "{:12}{:>12}{:>8}{:>11}{:>10}{:>14}",
        "pinged", "bytes each", "tasks", "CPU share", "pings", "CPU a ping"
    );
    let [never, heartbeat, _] = [Pinged::Never, Pinged::ByHeartbeat, Pinged::ByHand].map(|how| {
        let cost = cost(how, count);
        let (name, bytes) = (format!("{how:?}"), cost.bytes as f64 / count as f64);
        let share = 100.0 * cost.cpu.as_secs_f64() / WINDOW.as_secs_f64();
        print!("{name:12}{bytes:12.0}{:8}{share:10.2}%", cost.tasks);
        match cost.pings {
            0 => println!("{:>10}", "none"),
            pings => {
                let each = cost.cpu.as_secs_f64() * 1e6 / pings as f64;
                println!("{pings:10}{each:11.2} µs");
            }
        }
        cost
    });
    assert_eq!(heartbeat.tasks, never.tasks, "a heartbeat is no task");
}

struct Cost {
    bytes: i64,
    tasks: usize,
    cpu: Duration,
    pings: u64,
}

fn cost(how: Pinged, count: usize) -> Cost {
    let runtime = runtime();
    let far = runtime.block_on(one_by_one(count, || {
        let (near, far) = duplex(256);
        tokio::spawn(answer(far));
        near
    }));
    let bytes = allocation_counter::measure(|| {
        runtime.block_on(async {
            let mut near = far.into_iter();
            one_by_one(count, || connect(how, near.next().expect("as many"))).await;
            sleep(EVERY * 3).await;
        });
    })
    .bytes_current;
    let tasks = runtime.metrics().num_alive_tasks();
    let (cpu, pings) = (process_cpu(), PONGS.load(Ordering::Relaxed));
    runtime.block_on(async { sleep(WINDOW).await });
    Cost {
        bytes,
        tasks,
        cpu: process_cpu() - cpu,
        pings: PONGS.load(Ordering::Relaxed) - pings,
    }
}

async fn one_by_one<T>(count: usize, mut make: impl FnMut() -> T) -> Vec<T> {
    let mut all = Vec::with_capacity(count);
    for i in 0..count {
        all.push(make());
        // Or the runtime's queue of new tasks would grow and be counted.
        if i.is_multiple_of(50) {
            yield_now().await;
        }
    }
    all
}

fn connect(how: Pinged, near: DuplexStream) {
    tokio::spawn(async move {
        let small = WebSocketConfig::default().read_buffer_size(256);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, Some(small)).await;
        match how {
            Pinged::Never => read(near).await,
            Pinged::ByHeartbeat => {
                let config = Config::builder()
                    .interval(EVERY)
                    .pong_timeout(PONG_TIMEOUT)
                    .build()
                    .expect("legal settings");
                read(HeartbeatStream::new(near, WebSocket::new(), config)).await;
            }
            Pinged::ByHand => by_hand(near).await,
        }
    });
}

async fn read<C: Stream + Unpin>(mut connection: C) {
    while connection.next().await.is_some() {}
}

/// The recipe: a second task, with an interval and a timeout.
async fn by_hand(near: WebSocketStream<DuplexStream>) {
    let (mut writer, mut reader) = near.split();
    let pongs = Arc::new(Notify::new());
    let pong = Arc::clone(&pongs);
    tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        for nonce in 0_u64.. {
            ticks.tick().await;
            let ping = Message::Ping(nonce.to_be_bytes().to_vec().into());
            writer.send(ping).await.expect("alive");
            let pong = timeout(PONG_TIMEOUT, pong.notified()).await;
            pong.expect("alive");
        }
    });
    while let Some(Ok(message)) = reader.next().await {
        if message.is_pong() {
            pongs.notify_one();
        }
    }
}

/// The far end, in bytes: masked pings of eight bytes come in, and pongs go out.
async fn answer(mut far: DuplexStream) -> io::Result<()> {
    let mut ping = [0; 14];
    loop {
        far.read_exact(&mut ping).await?;
        let mut pong = [0x8a, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        for i in 0..8 {
            pong[2 + i] = ping[6 + i] ^ ping[2 + i % 4];
        }
        far.write_all(&pong).await?;
        PONGS.fetch_add(1, Ordering::Relaxed);
    }
}

fn process_cpu() -> Duration {
    let now = ClockId::CLOCK_PROCESS_CPUTIME_ID.now();
    now.expect("every Unix has it").into()
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime")
}
