//! Ten thousand clients that never get to a request, over real sockets, and one that does.
//!
//! They are a process of their own, since each connection takes a file in either. Real time and wide margins; skipped aloud
//! where so many files may not be open, unless `REQUIRED_PEERS` names `files`.

#![cfg(all(target_os = "linux", feature = "server"))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "server_flood/clients.rs"]
mod clients;
#[path = "real_peers/skip.rs"]
mod skip;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{net::TcpListener, time::sleep};
use tower_heartbeat::server::{Connections, Ended, Event, Limits, Reason, RequestBody};

use clients::{Flood, WellBehaved};

const HANDSHAKE: Duration = Duration::from_secs(10);

#[test]
fn clients_that_never_begin_are_gone_in_time_with_their_memory_and_others_are_served() {
    let files = raise_file_limit();
    if clients::are_here() {
        return;
    }
    if files < 11_000 {
        return skip::skip("files", &format!("only {files} may be open"));
    }
    // One thread does everything that is measured.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let server = Server::new();
    let address = runtime.block_on(async {
        let address = server.listen().await;
        // What is made once, is made now.
        let client = WellBehaved::start(address);
        sleep(Duration::from_millis(500)).await;
        client.stop().await;
        server.is_left().await;
        address
    });
    server.ends.lock().expect("no panic").clear();
    let info = allocation_counter::measure(|| runtime.block_on(server.is_flooded(address)));

    let ends = server.ends.lock().expect("no panic");
    let (cut, left): (Vec<&Ended>, Vec<_>) = ends.iter().partition(|end| end.was_forced());
    let ages: Vec<Duration> = cut.iter().map(|end| end.age()).collect();
    println!(
        "{} were cut off, {:.3?} to {:.3?} after they came; {} bytes at most, {} after",
        cut.len(),
        ages.iter().min(),
        ages.iter().max(),
        info.bytes_max,
        info.bytes_current
    );
    assert_eq!(cut.len(), clients::FLOOD);
    assert!(cut.iter().all(|end| end.reason() == Reason::Handshake));
    let in_time = HANDSHAKE..=HANDSHAKE * 11 / 10;
    assert!(ages.iter().all(|age| in_time.contains(age)));
    assert!(left.iter().all(|end| end.reason() == Reason::ClientClosed));
    let each = info.bytes_current / i64::try_from(cut.len()).expect("it fits");
    assert!(each <= 100, "{each} bytes of each are still there");
}

struct Server {
    connections: Connections,
    ends: Arc<Mutex<Vec<Ended>>>,
}

impl Server {
    fn new() -> Server {
        let limits = Limits::builder().handshake_timeout(HANDSHAKE);
        let ends = Arc::new(Mutex::new(Vec::with_capacity(2 * clients::FLOOD)));
        let told = Arc::clone(&ends);
        let connections =
            Connections::new(limits.build().expect("legal")).on_event(move |_, event| {
                if let Event::Ended(ended) = event {
                    told.lock().expect("no panic").push(ended.clone());
                }
            });
        Server { connections, ends }
    }

    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let connections = self.connections.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a client");
                let io = TokioIo::new(socket);
                tokio::spawn(connections.serve_connection(io, service_fn(answer)));
            }
        });
        address
    }

    async fn is_flooded(&self, address: SocketAddr) {
        let well_behaved = WellBehaved::start(address);
        let test =
            "clients_that_never_begin_are_gone_in_time_with_their_memory_and_others_are_served";
        Flood::start(test, address).wait().await;
        let answers = well_behaved.stop().await;
        println!("meanwhile {answers:?}");
        assert!(answers.count >= 100 && answers.slowest < Duration::from_secs(5));
        self.is_left().await;
    }

    async fn is_left(&self) {
        for _ in 0..1_000 {
            if self.connections.count() == 0 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.connections);
    }
}

async fn answer(_: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("hello".into()))
}

/// As far as it may be raised. Returns how far that was.
fn raise_file_limit() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("it has one");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("no more than it may");
    most
}
