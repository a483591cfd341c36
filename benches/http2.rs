//! Throughput and detection on a real HTTP/2 connection to a server in a child process.
//!
//! `cargo bench --bench http2 --features hyper -- throughput`: requests a second with and without
//! a heartbeat, in turns; `-- detection`: how long after a freeze the connection's users know,
//! beside hyper's own keep-alive. Without an argument, both.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures from outside; the ban keeps clocks out of the crate"
)]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::net::TcpStream;
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    BoxError, Config, Handle, HeartbeatLayer,
    http::{CompleteOnBody, head},
    hyper::http2::{Connect, drive, handshake},
    ping,
};

type Body = Empty<Bytes>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        "serve" => return server::run().await,
        "throughput" => throughput().await?,
        "detection" => detection().await?,
        _ => {
            throughput().await?;
            detection().await?;
        }
    }
    Ok(())
}

/// Pairs of rounds, one with and one without, so that a noisy moment meets both; median of the ratios.
async fn throughput() -> Result<(), BoxError> {
    const ROUNDS: usize = 30;
    const ROUND: Duration = Duration::from_millis(400);
    let server = Server::start()?;
    println!("requests a second over loopback, 1 KiB responses, {ROUNDS} rounds in turns");
    for streams in [1, 64] {
        let with = with_heartbeat(server.address, Config::default()).await?;
        let without = without_heartbeat(server.address).await?;
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let (a, b) = if round % 2 == 0 {
                let a = rate(&with, streams, ROUND).await?;
                (a, rate(&without, streams, ROUND).await?)
            } else {
                let b = rate(&without, streams, ROUND).await?;
                (rate(&with, streams, ROUND).await?, b)
            };
            rates.push((a, b));
            ratios.push(a / b);
        }
        let with = median(rates.iter().map(|rate| rate.0).collect());
        let without = median(rates.iter().map(|rate| rate.1).collect());
        println!(
            "{streams:2} streams: with {with:8.0}, without {without:8.0}, ratio {:.3}",
            median(ratios)
        );
    }
    Ok(())
}

async fn rate<S, R>(service: &S, streams: usize, time: Duration) -> Result<f64, BoxError>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send,
{
    let start = Instant::now();
    let tasks: Vec<_> = (0..streams)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                let mut answered = 0_u32;
                while start.elapsed() < time {
                    let response = service.ready().await.map_err(Into::into)?.call(get());
                    let body = response.await.map_err(Into::into)?.into_body();
                    body.collect().await.map_err(Into::into)?;
                    answered += 1;
                }
                Ok::<_, BoxError>(answered)
            })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await??;
    }
    Ok(f64::from(answered) / start.elapsed().as_secs_f64())
}

/// From SIGSTOP to the verdict, at changing moments within the interval.
async fn detection() -> Result<(), BoxError> {
    const FREEZES: u32 = 20;
    const INTERVAL: Duration = Duration::from_millis(100);
    const PONG_TIMEOUT: Duration = Duration::from_millis(50);
    let config = Config::builder()
        .interval(INTERVAL)
        .ready_timeout(Duration::ZERO)
        .pong_timeout(PONG_TIMEOUT)
        .max_missed(1)
        .build()?;
    println!(
        "freeze to error, interval {INTERVAL:?}, pong wait {PONG_TIMEOUT:?}, 1 miss: bound {:?}",
        config.worst_case_detection()
    );
    for busy in [false, true] {
        for hyper in [false, true] {
            let mut times = Vec::new();
            for freeze in 0..FREEZES {
                let server = Server::start()?;
                let phase = INTERVAL * freeze / FREEZES;
                let waited = if hyper {
                    let (connection, handle) = hyper_keep_alive(server.address).await?;
                    freeze_and_wait(&server, connection, handle, busy, phase).await?
                } else {
                    let connection = with_heartbeat(server.address, config).await?;
                    let handle = connection.handle();
                    freeze_and_wait(&server, connection, handle, busy, phase).await?
                };
                times.push(waited.as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            println!(
                "{} {:22} min {:6.1}  median {:6.1}  max {:6.1} ms  ({} freezes)",
                if busy { "busy " } else { "quiet" },
                if hyper {
                    "hyper's keep-alive"
                } else {
                    "heartbeat"
                },
                times[0],
                median(times.clone()),
                times[times.len() - 1],
                times.len(),
            );
        }
    }
    Ok(())
}

async fn freeze_and_wait<S, R>(
    server: &Server,
    mut connection: S,
    handle: Handle,
    busy: bool,
    phase: Duration,
) -> Result<Duration, BoxError>
where
    S: Service<Request<Body>, Response = Response<R>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send,
{
    let traffic = tokio::spawn(async move {
        loop {
            let response = connection.ready().await.map_err(Into::into)?.call(get());
            let body = response.await.map_err(Into::into)?.into_body();
            body.collect().await.map_err(Into::into)?;
            if !busy {
                // Keeps the connection, and leaves it quiet.
                let _connection = connection;
                std::future::pending::<()>().await;
                return Ok::<(), BoxError>(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(250) + phase).await;
    server.signal(Signal::SIGSTOP)?;
    let frozen_at = Instant::now();
    if busy {
        // The call that hangs is told; that is the moment that counts.
        drop(traffic.await?);
    } else {
        handle.closed().await;
        traffic.abort();
    }
    Ok(frozen_at.elapsed())
}

type Client =
    tower_heartbeat::Heartbeat<tower_heartbeat::hyper::http2::SendRequest<Body>, CompleteOnBody>;

async fn with_heartbeat(address: SocketAddr, config: Config) -> Result<Client, BoxError> {
    let ping = head::<Body>("http://localhost/".parse()?);
    let layer = HeartbeatLayer::new(config, ping);
    let connector = tower::service_fn(connect);
    Ok(Connect::new(connector, layer).oneshot(address).await?)
}

/// The connection that hyper watches by itself; the heartbeat only reports how it ended.
async fn hyper_keep_alive(address: SocketAddr) -> Result<(Client, Handle), BoxError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(100))
        .keep_alive_timeout(Duration::from_millis(50))
        .keep_alive_while_idle(true);
    let (send, connection) = handshake(&builder, connect(address).await?).await?;
    let layer = HeartbeatLayer::new(Config::default(), ping::none());
    let service = layer.completion(CompleteOnBody::default()).layer(send);
    let handle = service.handle();
    tokio::spawn(drive(connection, handle.clone()));
    Ok((service, handle))
}

async fn without_heartbeat(
    address: SocketAddr,
) -> Result<
    impl Service<
        Request<Body>,
        Response = Response<hyper::body::Incoming>,
        Error = hyper::Error,
        Future: Send,
    > + Clone
    + Send
    + 'static,
    BoxError,
> {
    let builder = http2::Builder::new(TokioExecutor::new());
    let (send, connection) = builder.handshake(connect(address).await?).await?;
    tokio::spawn(connection);
    // Boxed as the crate's own adapter has to, since hyper's future has no name.
    Ok(tower::service_fn(move |request| {
        let response = send.clone().send_request(request);
        Box::pin(response) as std::pin::Pin<Box<dyn Future<Output = _> + Send>>
    }))
}

async fn connect(address: SocketAddr) -> std::io::Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

fn get() -> Request<Body> {
    let request = Request::get("http://localhost/");
    request.body(Body::new()).expect("a legal URI")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server in a child process, which ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Result<Server, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
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

    fn signal(&self, signal: Signal) -> Result<(), BoxError> {
        Ok(kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

mod server {
    use std::{convert::Infallible, io::Read, net::SocketAddr};

    use http::{Method, Request, Response};
    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tower_heartbeat::BoxError;

    pub(super) async fn run() -> Result<(), BoxError> {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", listener.local_addr()?);
        std::thread::spawn(|| {
            let ended = std::io::stdin().read(&mut [0]);
            std::process::exit(i32::from(ended.is_err()));
        });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = hyper::service::service_fn(answer);
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    }

    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let body: &[u8] = match *request.method() {
            Method::HEAD => &[],
            _ => &[b'x'; 1024],
        };
        Ok(Response::new(Full::new(Bytes::from_static(body))))
    }
}
