//! A server's process, that a test freezes and thaws.

use std::{
    env, fs,
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::TcpStream, time::sleep};
use tower::{Service, service_fn, util::BoxCloneSyncService};

use super::{
    skip::skip,
    support::{millis, secs},
};

/// Busy machines are late, and a late judge waits once more.
pub(crate) const MARGIN: Duration = secs(10);

pub(crate) struct Peer {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: Option<PathBuf>,
}

impl Peer {
    /// grpcio's health service, if it is installed.
    pub(crate) fn grpcio() -> Option<Peer> {
        has_grpcio().then(|| Peer::python("health_server.py", &[]))
    }

    /// An echo of Python's websockets, which pings at this interval in seconds, if it is installed.
    #[cfg(feature = "websocket")]
    pub(crate) fn websockets(ping_interval: f64) -> Option<Peer> {
        if !has_python_with("import websockets.asyncio.server") {
            skip("websockets", "no Python with websockets");
            return None;
        }
        let argument = ping_interval.to_string();
        Some(Peer::python("websockets_server.py", &[&argument]))
    }

    /// A script beside this file, which tells its port first.
    fn python(script: &str, arguments: &[&str]) -> Peer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real_peers");
        let mut child = Command::new(python())
            .arg(format!("{folder}/{script}"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it ran before");
        let output = child.stdout.take().expect("piped");
        let mut peer = Peer {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            folder: None,
        };
        let mut port = String::new();
        let told = BufReader::new(output).read_line(&mut port);
        told.expect("readable");
        peer.address
            .set_port(port.trim().parse().expect("it tells its port"));
        peer
    }

    /// nginx with HTTP/1 on one port and HTTP/2 without TLS on the next, if it is installed. The
    /// address is the first's.
    pub(crate) async fn nginx() -> Option<Peer> {
        if !runs(Command::new("nginx").arg("-v")) {
            skip("nginx", "no nginx");
            return None;
        }
        let address = address_of_its_own();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "nginx-{}-{}",
            std::process::id(),
            address.port()
        ));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("file"), vec![b'7'; 10_000_000]).expect("writable");
        fs::write(folder.join("nginx.conf"), config(address)).expect("writable");
        let child = Command::new("nginx")
            .args(["-c", "nginx.conf", "-e", "error.log", "-p"])
            .arg(&folder)
            .stdin(Stdio::null())
            .spawn()
            .expect("it ran before");
        let mut peer = Peer {
            child,
            address,
            folder: Some(folder),
        };
        peer.listens_at(peer.http2()).await;
        Some(peer)
    }

    /// redis-server, which keeps nothing, if it is installed.
    #[cfg(feature = "transport")]
    pub(crate) async fn redis() -> Option<Peer> {
        if !runs(Command::new("redis-server").arg("--version")) {
            skip("redis", "no redis-server");
            return None;
        }
        let address = address_of_its_own();
        let child = Command::new("redis-server")
            .args(["--bind", &address.ip().to_string()])
            .args(["--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it ran before");
        let mut peer = Peer {
            child,
            address,
            folder: None,
        };
        peer.listens_at(address).await;
        Some(peer)
    }

    pub(crate) fn http2(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.address.port() + 1)
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        // The signal is out; a thread on another core stops when it takes it.
        for _ in 0..5_000 {
            if self.has_stopped() {
                return;
            }
            thread::sleep(millis(1));
        }
        panic!("it does not stop");
    }

    fn has_stopped(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.id());
        fs::read_dir(tasks).expect("it runs").all(|task| {
            let stat = task.expect("readable").path().join("stat");
            let stat = fs::read_to_string(stat).unwrap_or_default();
            // The state follows the name, which stands in parentheses.
            let state = stat.rsplit(") ").next().unwrap_or_default();
            state.starts_with('T')
        })
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it runs");
    }

    async fn listens_at(&mut self, address: SocketAddr) {
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return;
            }
            let ended = self.child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "it ended: {}", self.log());
            sleep(millis(20)).await;
        }
        panic!("it does not listen: {}", self.log());
    }

    fn log(&self) -> String {
        let log = self.folder.as_ref().map(|folder| folder.join("error.log"));
        log.and_then(|log| fs::read_to_string(log).ok())
            .unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SIGKILL, which also ends a frozen one.
        let _ended_before = self.child.kill();
        let _ = self.child.wait();
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Which address new connections go to.
#[derive(Clone)]
pub(crate) struct Target(Arc<Mutex<SocketAddr>>);

pub(crate) type Connector = BoxCloneSyncService<(), TokioIo<TcpStream>, io::Error>;

impl Target {
    pub(crate) fn new(address: SocketAddr) -> Target {
        Target(Arc::new(Mutex::new(address)))
    }

    pub(crate) fn turn_to(&self, address: SocketAddr) {
        *self.0.lock().expect("no panic") = address;
    }

    pub(crate) fn connector(&self) -> Connector {
        let target = self.clone();
        BoxCloneSyncService::new(service_fn(move |()| {
            let address = *target.0.lock().expect("no panic");
            async move { TcpStream::connect(address).await.map(TokioIo::new) }
        }))
    }

    pub(crate) async fn connect(&self) -> TokioIo<TcpStream> {
        self.connector().call(()).await.expect("it listens")
    }
}

/// Whether Python's grpcio is installed; if not, the test is skipped.
pub(crate) fn has_grpcio() -> bool {
    let has_grpcio = has_python_with("import grpc, grpc_health.v1.health");
    if !has_grpcio {
        skip("grpcio", "no Python with grpcio and grpcio-health-checking");
    }
    has_grpcio
}

pub(crate) fn python() -> String {
    env::var("PEERS_PYTHON").unwrap_or_else(|_| "python3".into())
}

fn has_python_with(imports: &str) -> bool {
    runs(Command::new(python()).args(["-c", imports]))
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Of the addresses of the loopback interface one that no other process picks, and the sockets of
/// clients don't either: the process's number is in it.
fn address_of_its_own() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 64 | high, middle, low);
    let port = NEXT.fetch_add(2, Ordering::Relaxed);
    SocketAddr::V4(SocketAddrV4::new(address, port))
}

fn config(http1: SocketAddr) -> String {
    let (address, http1, http2) = (http1.ip(), http1.port(), http1.port() + 1);
    format!(
        "daemon off;
        master_process off;
        pid nginx.pid;
        error_log error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            server {{
                listen {address}:{http1};
                listen {address}:{http2} http2;
                root .;
                location = /hello {{ return 200 hello; }}
                location = /health {{ return 204; }}
                location = /file {{ limit_rate 20k; }}
            }}
        }}
        "
    )
}
