//! The clients: a flood of them in a child process, and one on a thread of its own.

use std::{
    env,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub(crate) const FLOOD: usize = 10_000;

/// Whom the flood is for, in the process that is the flood.
const TARGET: &str = "HEARTBEAT_TEST_FLOOD";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of SETTINGS that are long, and of which a byte comes now and then.
const SETTINGS: &[u8] = b"\0\x17\x70\x04\0\0\0\0\0";

/// Is the flood, to its end, if that is what this process is for.
pub(crate) fn are_here() -> bool {
    let Ok(target) = env::var(TARGET) else {
        return false;
    };
    flood(target.parse().expect("an address"));
    true
}

/// Another process that is the test, and the flood in it.
pub(crate) struct Flood(Child);

impl Flood {
    pub(crate) fn start(test: &str, target: SocketAddr) -> Flood {
        let child = Command::new("timeout")
            .arg("60")
            .arg(env::current_exe().expect("it runs"))
            .args(["--exact", test, "--nocapture"])
            .env(TARGET, target.to_string())
            .stdout(Stdio::piped())
            .spawn();
        Flood(child.expect("it can be started"))
    }

    /// Resolves when each of them has been sent off.
    pub(crate) async fn wait(self) {
        let output = tokio::task::spawn_blocking(|| self.0.wait_with_output());
        let output = output.await.expect("no panic").expect("readable");
        let told = String::from_utf8_lossy(&output.stdout);
        print!("{told}");
        assert!(output.status.success() && told.contains("1 passed"));
    }
}

fn flood(target: SocketAddr) {
    let begun = Instant::now();
    let mut sockets = Vec::new();
    for number in 0..FLOOD {
        let mut socket = TcpStream::connect(target).expect("a connection");
        let (first, drip): (&[&[u8]], &[u8]) = match number % 4 {
            0 => (&[], b""),
            1 => (&[b"GET / HT"], b""),
            2 => (&[b"GET / HTTP/1.1\r\nloris: "], b"x"),
            _ => (&[PREFACE, SETTINGS], b"\0"),
        };
        socket.write_all(&first.concat()).expect("room");
        socket.set_nonblocking(true).expect("a socket");
        sockets.push((socket, drip));
        // Two seconds for all of them, so that their ends are not all at once.
        if number % 100 == 0 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    println!("all came within {:.3?}", begun.elapsed());
    while !sockets.is_empty() {
        sockets.retain_mut(|(socket, drip)| {
            // The next read tells whether it is over.
            let _ = socket.write(drip);
            !is_over(socket)
        });
        thread::sleep(Duration::from_millis(500));
    }
    println!("all were sent off within {:.3?}", begun.elapsed());
}

fn is_over(socket: &mut TcpStream) -> bool {
    match socket.read(&mut [0; 1024]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// One that asks, and asks again, on a connection that it keeps and on new ones.
pub(crate) struct WellBehaved {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) count: u32,
    pub(crate) slowest: Duration,
}

impl WellBehaved {
    pub(crate) fn start(target: SocketAddr) -> WellBehaved {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut answers = Answers::default();
            let mut kept = connect(target);
            while !stopped.load(Ordering::Relaxed) {
                answers.ask(|| ask(&mut kept));
                answers.ask(|| ask(&mut connect(target)));
                thread::sleep(Duration::from_millis(50));
            }
            answers
        });
        WellBehaved { stop, thread }
    }

    pub(crate) async fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        let answers = tokio::task::spawn_blocking(|| self.thread.join());
        answers.await.expect("no panic").expect("all were answered")
    }
}

impl Answers {
    fn ask(&mut self, ask: impl FnOnce()) {
        let begun = Instant::now();
        ask();
        self.count += 1;
        self.slowest = self.slowest.max(begun.elapsed());
    }
}

fn connect(target: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(target).expect("a connection");
    let patience = Some(Duration::from_secs(30));
    socket.set_read_timeout(patience).expect("a socket");
    socket
}

fn ask(socket: &mut TcpStream) {
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .expect("room");
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut more = [0; 1024];
        let read = socket.read(&mut more).expect("an answer");
        assert_ne!(read, 0, "the connection was closed");
        answer.extend_from_slice(&more[..read]);
    }
}
