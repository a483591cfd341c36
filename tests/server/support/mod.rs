//! A server of hyper's whose connections are in memory, its handlers, and its clients.

mod bodies;
mod client;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::DuplexStream,
    sync::Notify,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};
use tower_heartbeat::{
    io,
    server::{
        Connections, Ended, Event, Handle, Limits, LimitsBuilder, Reason, RequestBody, ServedIo,
    },
};

pub(crate) use bodies::{Drip, Endless, Held, empty, full};
pub(crate) use client::{Client, Http1, Http2, get, post};

pub(crate) type Handling = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

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

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) connections: Connections,
    pub(crate) events: Arc<Mutex<Vec<String>>>,
    /// How many handlers and bodies are alive.
    pub(crate) alive: Alive,
    begun: Instant,
    stop: Arc<Notify>,
}

pub(crate) struct Served {
    pub(crate) handle: Handle,
    task: JoinHandle<End>,
}

impl Served {
    pub(crate) async fn end(self) -> End {
        self.task.await.expect("it does not panic")
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) fn abort_handle(&self) -> AbortHandle {
        self.task.abort_handle()
    }
}

impl Server {
    pub(crate) fn new(limits: LimitsBuilder) -> Server {
        Server::with(limits.build().expect("legal"))
    }

    fn with(limits: Limits) -> Server {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let connections = Connections::new(limits).on_event(move |_, event| {
            told.lock().expect("not poisoned").push(match event {
                Event::Ended(ended) => format!("Ended({:?})", ended.reason()),
                event => format!("{event:?}"),
            });
        });
        Server {
            connections,
            events,
            alive: Alive::default(),
            begun: Instant::now(),
            stop: Arc::default(),
        }
    }

    /// Has whoever waits for it stop.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) async fn stopped(&self) {
        self.stop.notified().await;
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().expect("not poisoned").clone()
    }

    /// Handlers by path: `/now`, `/slow/<ms>` and so on.
    pub(crate) fn service(
        &self,
    ) -> impl hyper::service::Service<
        Request<RequestBody>,
        Response = Response<Body>,
        Error = Infallible,
        Future = Handling,
    > + use<> {
        let alive = self.alive.clone();
        service_fn(move |request| -> Handling { Box::pin(handle(request, alive.clone())) })
    }

    /// The IO of a connection that nobody serves yet, and its client's.
    pub(crate) fn watched(&self, room: usize) -> (ServedIo<TokioIo<DuplexStream>>, DuplexStream) {
        let (near, far) = tokio::io::duplex(room);
        (self.connections.watch(TokioIo::new(near)), far)
    }

    /// A connection with a buffer that never is full.
    pub(crate) fn connect(&self) -> (DuplexStream, Served) {
        self.connect_with(1 << 20)
    }

    /// A connection with room for so many bytes each way.
    pub(crate) fn connect_with(&self, room: usize) -> (DuplexStream, Served) {
        let (near, far) = tokio::io::duplex(room);
        let service = self.service();
        let connection = self
            .connections
            .serve_connection(TokioIo::new(near), service);
        let handle = connection.handle();
        let begun = self.begun;
        let task = tokio::spawn(async move {
            let ended = connection.await;
            End {
                ended,
                at: begun.elapsed(),
            }
        });
        (far, Served { handle, task })
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

async fn handle(request: Request<RequestBody>, alive: Alive) -> Result<Response<Body>, Infallible> {
    let guard = alive.enter();
    let handle = request.extensions().get::<Handle>().expect("it is there");
    assert!(handle.in_flight() > 0);
    let path = request.uri().path().to_string();
    let (name, number) = path[1..].split_once('/').unwrap_or((&path[1..], "0"));
    let number: u64 = number.parse().expect("a number");
    let body = match name {
        "now" => full("now"),
        "slow" => {
            tokio::time::sleep(ms(number)).await;
            full("slow")
        }
        // Reads all that it is sent, and says how much that was.
        "upload" => match request.into_body().collect().await {
            Ok(all) => full(&all.to_bytes().len().to_string()),
            Err(_) => empty(),
        },
        // Does not look at what it is sent for so long, then reads it.
        "later" => {
            tokio::time::sleep(ms(number)).await;
            let _sent = request.into_body().collect().await;
            full("later")
        }
        // Answers at once, and goes on reading what it is sent.
        "detach" => {
            tokio::spawn(async move {
                let _sent = request.into_body().collect().await;
                drop(guard);
            });
            full("detached")
        }
        "endless" => return Ok(Response::new(Endless::new(guard).boxed())),
        "large" => full(&"x".repeat(usize::try_from(number).expect("it fits"))),
        // Says nothing for so long, after its head.
        "held" => return Ok(Response::new(Held::new(ms(number), guard).boxed())),
        "upgrade" => {
            tokio::time::sleep(ms(number)).await;
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(async move {
                let upgraded = upgrade.await.expect("it is one");
                // From here on limits on bytes are all there are.
                let limits = io::Limits::builder().idle_timeout(ms(3_000));
                let limits = limits.build().expect("legal");
                let io = io::LimitedIo::new(TokioIo::new(upgraded), limits);
                let (mut read, mut write) = tokio::io::split(io);
                let _end = tokio::io::copy(&mut read, &mut write).await;
            });
            return Ok(Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "echo")
                .body(empty())
                .expect("a response"));
        }
        name => panic!("no {name}"),
    };
    Ok(Response::new(body))
}

pub(crate) fn limits() -> LimitsBuilder {
    Limits::builder()
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) async fn sleep(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}
