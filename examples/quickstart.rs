//! The main job: a server freezes, its socket stays open, and the client notices in time.
//!
//! `cargo run --example quickstart --features hyper`
//!
//! It starts a real HTTP/2 server as a child process (itself, with an argument), freezes it with
//! SIGSTOP while a call and a streaming body are in flight, and shows what each user of the
//! connection is told, and when, against the bound that the settings promise. Then a second
//! server comes up and the traffic of a whole tower stack goes on there. The exit code says
//! whether everything was as promised.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tower::{
    Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    reconnect::Reconnect,
    retry::{Policy, RetryLayer},
    timeout::{Timeout, TimeoutLayer},
};
use tower_heartbeat::{
    BoxError, Config, Failure, HeartbeatError, HeartbeatLayer, Stage,
    http::head,
    hyper::http2::{Connect, ConnectError},
};

type Body = Empty<Bytes>;

const BOUND: Duration = Duration::from_secs(2);
/// What lies between the verdict and the moment it is looked at.
const MARGIN: Duration = Duration::from_millis(500);

/// What this process lost because it was not run. That is not the peer's fault, so it extends the
/// verdict, and each wait that it falsified begins once more.
static LOST_MILLIS: AtomicU64 = AtomicU64::new(0);

async fn watch_own_pauses() {
    let step = Duration::from_millis(10);
    loop {
        let before = Instant::now();
        sleep(step).await;
        let late = before.elapsed().saturating_sub(2 * step).as_millis();
        LOST_MILLIS.fetch_add(late.try_into().unwrap_or(0), Ordering::Relaxed);
    }
}

fn allowed(config: &Config) -> Duration {
    let lost = Duration::from_millis(LOST_MILLIS.load(Ordering::Relaxed));
    let fresh_waits = if lost > config.max_local_pause() {
        config.max_missed() * config.pong_timeout()
    } else {
        Duration::ZERO
    };
    config.worst_case_detection() + lost + fresh_waits + MARGIN
}

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        server::run().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut timeline = Timeline::start();
    tokio::spawn(watch_own_pauses());
    let first = Server::start()?;
    timeline.say(format!("server A is up, pid {}", first.pid()));

    // One layer for all connections: who vanishes is found within two seconds.
    let config = Config::detect_within(BOUND)?;
    let ping = head::<Body>("http://localhost/health".parse()?);
    let layer = HeartbeatLayer::new(config, ping);
    timeline.say(format!(
        "promise: a frozen server is noticed within {:.3?}",
        config.worst_case_detection()
    ));

    // Where the servers are; a stand-in for service discovery.
    let place = Arc::new(Mutex::new(first.address));
    let connections = Arc::new(AtomicUsize::new(0));
    let connector = tower::service_fn({
        let (place, connections) = (Arc::clone(&place), Arc::clone(&connections));
        move |()| {
            let address = *place.lock().expect("no panic under it");
            connections.fetch_add(1, Ordering::Relaxed);
            async move { TcpStream::connect(address).await.map(TokioIo::new) }
        }
    });
    // No layer outside bounds the time that `Reconnect` spends connecting.
    let connector = Timeout::new(connector, Duration::from_secs(1));
    let mut connect = Connect::new(connector, layer);

    // The canonical stack, from the outside in.
    let mut stack = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryOnce::default()))
        .layer(BufferLayer::new(64))
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .service(Reconnect::new(connect.clone(), ()));
    let answer = text(stack.ready().await?.call(get("/")).await?).await?;
    timeline.check(answer == "A", "the stack is connected; server A answers");

    // And one connection by itself, to see what its users are told.
    let mut connection = connect.ready().await?.call(()).await?;
    let handle = connection.handle();
    for _ in 0..3 {
        text(connection.ready().await?.call(get("/")).await?).await?;
    }
    let rtt = handle.ping_now().await?;
    timeline.say(format!(
        "three requests and a ping on it, round trip {rtt:.1?}"
    ));

    let slow = tokio::spawn(connection.ready().await?.call(get("/slow")));
    let stream = connection.ready().await?.call(get("/stream")).await?;
    let stream = tokio::spawn(read_to_the_end(stream.into_body()));
    let through_the_stack = tokio::spawn(stack.clone().oneshot(get("/slow")));
    sleep(Duration::from_millis(500)).await;
    timeline.say(format!("{} requests are in flight", handle.in_flight()));

    first.signal(Signal::SIGSTOP)?;
    let frozen_at = Instant::now();
    timeline.say("SIGSTOP: server A is frozen, its sockets are still open".into());
    let second = Server::start()?;
    *place.lock().expect("no panic under it") = second.address;
    timeline.say(format!(
        "server B is up, pid {}; new connections go there",
        second.pid()
    ));

    // What lies in the sockets may still be read after the stop.
    let promise = || allowed(&config);
    let long = 5 * BOUND;
    let error = timeout(long, slow).await??.err().map(BoxError::from);
    timeline.told(
        "call in flight",
        error,
        Stage::AwaitingResponse,
        frozen_at,
        promise(),
    );
    let (frames, error) = timeout(long, stream).await??;
    timeline.told(
        "streaming body",
        error,
        Stage::Streaming,
        frozen_at,
        promise(),
    );
    timeline.say(format!("  it had read {frames} frames"));
    let error = connection.ready().await.err().map(BoxError::from);
    timeline.told("next ready()", error, Stage::NotSent, frozen_at, promise());
    if let Some(error) = handle.error() {
        timeline.say(format!("the handle: {:?}, {error}", handle.state()));
    }

    // The call that hung on server A: a GET, so the policy sends it again, on a new connection.
    let answer = text(timeout(long, through_the_stack).await???).await?;
    timeline.check(
        answer == "B",
        "the stack's call that hung on A was retried once, and B answered",
    );
    let mut answered = 0;
    for _ in 0..20 {
        let answer = text(stack.ready().await?.call(get("/")).await?).await?;
        answered += usize::from(answer == "B");
    }
    timeline.check(
        answered == 20,
        "20 more requests through the stack, all answered by B",
    );
    timeline.check(
        connections.load(Ordering::Relaxed) == 3,
        "connections made: one by itself, two by the stack",
    );
    Ok(timeline.end())
}

fn get(path: &str) -> Request<Body> {
    let uri = format!("http://localhost{path}");
    Request::get(uri).body(Body::new()).expect("a legal URI")
}

async fn text<B>(response: Response<B>) -> Result<String, BoxError>
where
    B: http_body::Body<Error: Into<BoxError>>,
{
    let body = response.into_body().collect().await.map_err(Into::into)?;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}

/// How many frames came, and the error that ended the body.
async fn read_to_the_end<B>(mut body: B) -> (usize, Option<BoxError>)
where
    B: http_body::Body<Error: Into<BoxError>> + Unpin,
{
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(_) => frames += 1,
            Err(error) => return (frames, Some(error.into())),
        }
    }
    (frames, None)
}

/// Sends a request once more if its connection died, and sending it twice does no harm.
#[derive(Clone, Default)]
struct RetryOnce {
    retried: bool,
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for RetryOnce {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Self::Future> {
        let error = result.as_ref().err()?;
        // No new connection, or none any more when the request came: it was not sent.
        let not_sent = error.is::<ConnectError>()
            || HeartbeatError::find(&**error).is_some_and(|e| e.stage() == Stage::NotSent);
        let cut_off = HeartbeatError::find(&**error).is_some();
        let harmless = not_sent || (cut_off && request.method().is_idempotent());
        let again = harmless && !std::mem::replace(&mut self.retried, true);
        again.then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

/// Prints what happened when, and keeps count of broken promises.
struct Timeline {
    start: Instant,
    broken: usize,
}

impl Timeline {
    fn start() -> Timeline {
        Timeline {
            start: Instant::now(),
            broken: 0,
        }
    }

    fn say(&self, what: String) {
        println!("{:7.3} s  {what}", self.start.elapsed().as_secs_f64());
    }

    fn check(&mut self, kept: bool, promise: &str) {
        self.broken += usize::from(!kept);
        let mark = if kept { "ok" } else { "BROKEN" };
        self.say(format!("{mark}: {promise}"));
    }

    fn told(
        &mut self,
        who: &str,
        error: Option<BoxError>,
        stage: Stage,
        frozen_at: Instant,
        promise: Duration,
    ) {
        let waited = frozen_at.elapsed();
        let typed = error
            .as_deref()
            .and_then(|error| HeartbeatError::find(error));
        let kept = typed.is_some_and(|error| {
            error.failure() == Failure::PongTimeout && error.stage() == stage && waited <= promise
        });
        let told = match (typed, error.as_ref()) {
            (Some(typed), _) => format!("{:?}, {:?}", typed.failure(), typed.stage()),
            (None, Some(other)) => format!("untyped: {other}"),
            (None, None) => "no error".into(),
        };
        self.check(kept, &format!("{who} fails after {waited:.3?}: {told}"));
    }

    fn end(&self) -> ExitCode {
        if self.broken == 0 {
            self.say("all as promised".into());
            ExitCode::SUCCESS
        } else {
            self.say(format!("{} promises broken", self.broken));
            ExitCode::FAILURE
        }
    }
}

/// A server in a child process, which ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Result<Server, BoxError> {
        static NAMES: AtomicUsize = AtomicUsize::new(0);
        let name = ["A", "B"][NAMES.fetch_add(1, Ordering::Relaxed)];
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", name])
            // Closed when this process ends, however it ends: then the server goes as well.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse()?;
        Ok(Server { child, address })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) -> Result<(), BoxError> {
        Ok(kill(Pid::from_raw(self.pid().try_into()?), signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL reaches a stopped process too.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

mod server {
    use std::{convert::Infallible, io::Read, net::SocketAddr, time::Duration};

    use http::{Request, Response, StatusCode};
    use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
    use hyper::body::{Bytes, Frame, Incoming};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tower_heartbeat::BoxError;

    type Body = UnsyncBoxBody<Bytes, Infallible>;

    pub(super) async fn run() -> Result<(), BoxError> {
        let name: &str = std::env::args().nth(2).map_or("?", |name| name.leak());
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", listener.local_addr()?);
        std::thread::spawn(|| {
            let ended = std::io::stdin().read(&mut [0]);
            std::process::exit(i32::from(ended.is_err()));
        });
        loop {
            let (stream, _) = listener.accept().await?;
            let service = hyper::service::service_fn(move |request| answer(name, request));
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    }

    async fn answer(
        name: &'static str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        match request.uri().path() {
            "/health" => {
                let mut response = Response::new(whole(""));
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            // Slow on server A only, so that the second attempt gets its answer.
            "/slow" if name == "A" => std::future::pending().await,
            "/stream" => Ok(Response::new(ticks())),
            _ => Ok(Response::new(whole(name))),
        }
    }

    fn whole(text: &'static str) -> Body {
        Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync()
    }

    /// A frame every 50 ms, for ever.
    fn ticks() -> Body {
        let ticks = tokio::time::interval(Duration::from_millis(50));
        let frames = futures_util::stream::unfold(ticks, |mut ticks| async move {
            ticks.tick().await;
            let frame = Frame::data(Bytes::from_static(b"tick"));
            Some((Ok::<_, Infallible>(frame), ticks))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}
