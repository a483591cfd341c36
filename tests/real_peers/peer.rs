//! A server's process, that a test freezes and thaws.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::sleep};
use tower::{Service, service_fn, util::BoxCloneSyncService};

use super::{
    process::{Process, has_python_with, python, runs, script},
    skip::skip,
    support::{millis, secs},
};

/// Busy machines are late, and a late judge waits once more.
pub(crate) const MARGIN: Duration = secs(10);

pub(crate) struct Peer {
    process: Process,
    pub(crate) address: SocketAddr,
    // Dropped last: nobody writes there any more.
    folder: Option<Folder>,
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
    fn python(name: &str, arguments: &[&str]) -> Peer {
        let mut process = Process::start(
            Command::new(python())
                .arg(script(name))
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        );
        let output = process.child.stdout.take().expect("piped");
        let mut peer = Peer {
            process,
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
        let process = Process::start(
            Command::new("nginx")
                .args(["-c", "nginx.conf", "-e", "error.log", "-p"])
                .arg(&folder)
                .stdin(Stdio::null()),
        );
        let mut peer = Peer {
            process,
            address,
            folder: Some(Folder(folder)),
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
        let process = Process::start(
            Command::new("redis-server")
                .args(["--bind", &address.ip().to_string()])
                .args(["--port", &address.port().to_string()])
                .args(["--save", "", "--appendonly", "no"])
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        );
        let mut peer = Peer {
            process,
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
        self.process.freeze();
    }

    pub(crate) fn thaw(&self) {
        self.process.thaw();
    }

    async fn listens_at(&mut self, address: SocketAddr) {
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return;
            }
            let ended = self.process.child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "it ended: {}", self.log());
            sleep(millis(20)).await;
        }
        panic!("it does not listen: {}", self.log());
    }

    fn log(&self) -> String {
        let log = self
            .folder
            .as_ref()
            .map(|folder| folder.0.join("error.log"));
        log.and_then(|log| fs::read_to_string(log).ok())
            .unwrap_or_default()
    }
}

/// Of a peer, and gone with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
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
