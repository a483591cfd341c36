//! A server of axum's whose connections are in memory, its handlers, and its clients.

#[path = "../server/support/bodies.rs"]
mod bodies;
#[path = "../server/support/client.rs"]
mod client;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body as AxumBody,
    extract::{ConnectInfo, Path, Request},
    response::Response,
    routing::{any, get as on_get},
    serve::Listener,
};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    io::DuplexStream,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    time::Instant,
};
use tower_heartbeat::server::{Connections, Ended, Event, Handle, LimitsBuilder, Reason};

pub(crate) use bodies::{Drip, Endless, Held, empty, full};
pub(crate) use client::{Client, Http1, Http2, get, post};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// How a connection ended, and when.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) ended: Ended,
    pub(crate) at: Duration,
}

impl End {
    #[track_caller]
    pub(crate) fn is(&self, reason: Reason, forced: bool, at: u64) {
        assert_eq!(
            (self.ended.reason(), self.ended.was_forced(), self.at),
            (reason, forced, ms(at)),
            "{}",
            self.ended
        );
    }
}

pub(crate) struct Server {
    pub(crate) connections: Connections,
    /// How many handlers and bodies are alive.
    pub(crate) alive: Alive,
    pub(crate) handles: Arc<Mutex<Vec<Handle>>>,
    stop: watch::Sender<bool>,
    dial: UnboundedSender<DuplexStream>,
    ends: UnboundedReceiver<End>,
    begun: Instant,
}

impl Server {
    pub(crate) fn new(limits: LimitsBuilder) -> Server {
        let (tell, ends) = unbounded_channel();
        let begun = Instant::now();
        let handles = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&handles);
        let limits = limits.build().expect("legal");
        let connections = Connections::new(limits).on_event(move |handle, event| match event {
            Event::Accepted => seen.lock().expect("not poisoned").push(handle.clone()),
            Event::Ended(ended) => {
                let ended = ended.clone();
                let at = begun.elapsed();
                let _gone = tell.send(End { ended, at });
            }
            _ => {}
        });
        let (dial, accepted) = unbounded_channel();
        let alive = Alive::default();
        let app = app(alive.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let (stop, mut stopped) = watch::channel(false);
        let serve = connections
            .serve_axum(Pipes { accepted }, app)
            .with_graceful_shutdown(async move {
                let _gone = stopped.wait_for(|stopped| *stopped).await;
            });
        tokio::spawn(async move { serve.await });
        Server {
            connections,
            alive,
            handles,
            stop,
            dial,
            ends,
            begun,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A connection with a buffer that never is full.
    pub(crate) fn connect(&self) -> DuplexStream {
        self.connect_with(1 << 20)
    }

    /// A connection with room for so many bytes each way.
    pub(crate) fn connect_with(&self, room: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(room);
        self.dial.send(near).expect("it serves");
        far
    }

    pub(crate) async fn end(&mut self) -> End {
        self.ends.recv().await.expect("it serves")
    }

    pub(crate) fn is_any_over(&self) -> bool {
        !self.ends.is_empty()
    }

    /// axum's own way.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The connection that came last.
    pub(crate) async fn handle(&self) -> Handle {
        tokio::task::yield_now().await;
        let handles = self.handles.lock().expect("not poisoned");
        handles.last().expect("there is one").clone()
    }
}

/// Connections in memory, of which each has an address.
struct Pipes {
    accepted: UnboundedReceiver<DuplexStream>,
}

pub(crate) const CLIENT: &str = "192.0.2.7:4711";

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        let address = CLIENT.parse().expect("an address");
        match self.accepted.recv().await {
            Some(io) => (io, address),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(SocketAddr::from(([192, 0, 2, 1], 80)))
    }
}

/// Counts what is alive.
#[derive(Clone, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

impl Alive {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn enter(&self) -> Guard {
        self.0.fetch_add(1, Ordering::SeqCst);
        Guard(self.clone())
    }
}

pub(crate) struct Guard(Alive);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn app(alive: Alive) -> Router {
    Router::new()
        .route("/now", on_get(|| async { "now" }))
        .route("/client", on_get(client_address))
        .route("/upgrade", on_get(upgrade))
        .route("/{name}/{number}", any(waits))
        .layer(Extension(alive))
}

async fn client_address(
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Extension(handle): Extension<Handle>,
) -> String {
    format!("{address}, {} in flight", handle.in_flight())
}

async fn waits(
    Path((name, number)): Path<(String, u64)>,
    Extension(alive): Extension<Alive>,
    request: Request,
) -> AxumBody {
    let guard = alive.enter();
    match &*name {
        "slow" => {
            sleep(number).await;
            AxumBody::from("slow")
        }
        // Reads all that it is sent, and says how much that was.
        "upload" => match request.into_body().collect().await {
            Ok(all) => AxumBody::from(all.to_bytes().len().to_string()),
            Err(_) => AxumBody::empty(),
        },
        // Does not look at what it is sent.
        "deaf" => {
            sleep(number).await;
            drop(request);
            AxumBody::from("deaf")
        }
        "endless" => AxumBody::new(Endless::new(guard)),
        "large" => AxumBody::from("x".repeat(usize::try_from(number).expect("it fits"))),
        // Says nothing for so long, after its head.
        "held" => AxumBody::new(Held::new(ms(number), guard)),
        name => panic!("no {name}"),
    }
}

async fn upgrade(request: Request) -> Response {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.expect("it is one"));
        let (mut read, mut write) = tokio::io::split(&mut io);
        let _end = tokio::io::copy(&mut read, &mut write).await;
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(AxumBody::empty())
        .expect("a response")
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) async fn sleep(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}
