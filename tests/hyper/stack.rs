//! The whole stack over real sockets: retry > buffer > timeout > `Reconnect(Connect)`.

use std::{
    error::Error as StdError,
    future::{Ready, ready},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::Empty;
use hyper::{Request, Response, Uri, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{
    Service, ServiceBuilder, ServiceExt, reconnect::Reconnect, retry::Policy, service_fn,
    util::BoxCloneService,
};
use tower_heartbeat::{
    BoxError, Config, Failure, Handle, HeartbeatError, HeartbeatLayer, Stage,
    http::{CompleteOnBody, head},
    hyper::http2::{Connect, ConnectError},
};

use super::support::{
    client::{ResponseBody, all, ended},
    eventually, found,
    line::Line,
    millis, secs,
    server::Server,
    soon,
};

type Call = Request<Empty<Bytes>>;
type Stack = BoxCloneService<Call, Response<ResponseBody>, BoxError>;

fn config() -> Config {
    Config::detect_within(secs(2)).expect("a legal bound")
}

/// Busy machines are late, and a late judge waits once more.
const MARGIN: Duration = secs(10);

/// An address whose connections can be frozen and killed.
struct Site {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<(Line, Server)>>>,
    accepting: JoinHandle<()>,
}

impl Site {
    async fn open() -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (far, server) = duplex(64 * 1024);
                let pair = (Line::between(socket, far), Server::start(server));
                shared.lock().expect("no panic").push(pair);
            }
        });
        Site {
            address,
            lines,
            accepting,
        }
    }

    fn connections(&self) -> usize {
        self.lines.lock().expect("no panic").len()
    }

    fn freeze(&self) {
        for (line, _) in &*self.lines.lock().expect("no panic") {
            line.freeze();
        }
    }

    fn thaw(&self) {
        for (line, _) in &*self.lines.lock().expect("no panic") {
            line.thaw();
        }
    }

    fn requests(&self) -> usize {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().map(|(_, server)| server.seen.requests()).sum()
    }

    fn leave(&self) {
        for (_, server) in &mut *self.lines.lock().expect("no panic") {
            server.leave();
        }
    }

    fn kill_connections(&self) {
        for (_, server) in &*self.lines.lock().expect("no panic") {
            server.kill();
        }
    }
}

/// Once more, if the connection failed; `tries` counts all.
#[derive(Clone)]
struct OnceMore {
    tries: Arc<AtomicUsize>,
    left: usize,
}

impl Policy<Call, Response<ResponseBody>, BoxError> for OnceMore {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Call,
        result: &mut Result<Response<ResponseBody>, BoxError>,
    ) -> Option<Ready<()>> {
        self.tries.fetch_add(1, Ordering::AcqRel);
        let error = result.as_ref().err()?;
        HeartbeatError::find(&**error)?;
        self.left = self.left.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, call: &Call) -> Option<Call> {
        Some(call.clone())
    }
}

/// The stack for `address`, with as many retries a call, and the count of all tries.
fn stack(address: SocketAddr, retries: usize) -> (Stack, Arc<AtomicUsize>) {
    stack_with(address, retries, |_| {})
}

fn stack_with<F>(address: SocketAddr, retries: usize, on_connect: F) -> (Stack, Arc<AtomicUsize>)
where
    F: Fn(&Handle) + Send + Sync + 'static,
{
    let connector = service_fn(|address: SocketAddr| async move {
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?))
    });
    let ping = head::<Empty<Bytes>>(Uri::from_static("http://localhost/health"));
    let layer = HeartbeatLayer::new(config(), ping).on_connect(on_connect);
    let tries = Arc::new(AtomicUsize::new(0));
    let policy = OnceMore {
        tries: Arc::clone(&tries),
        left: retries,
    };
    let stack = ServiceBuilder::new()
        .boxed_clone()
        .retry(policy)
        .buffer(64)
        .timeout(secs(30))
        .service(Reconnect::new(Connect::new(connector, layer), address));
    (stack, tries)
}

fn call(path: &str) -> Call {
    Request::builder()
        .uri(format!("http://localhost{path}"))
        .body(Empty::new())
        .expect("a legal request")
}

async fn hello(stack: &mut Stack) -> Result<Bytes, BoxError> {
    let response = stack.ready().await?.call(call("/hello")).await?;
    Ok(all(response.into_body()).await?)
}

#[tokio::test]
async fn a_frozen_server_costs_one_retry_and_a_second_connection() {
    let site = Site::open().await;
    let (mut stack, tries) = stack(site.address, 1);
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    assert_eq!((site.connections(), tries.load(Ordering::Acquire)), (1, 1));

    site.freeze();
    let begin = Instant::now();
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    let took = begin.elapsed();
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");
    assert_eq!((site.connections(), tries.load(Ordering::Acquire)), (2, 3));

    site.thaw();
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    assert_eq!((site.connections(), tries.load(Ordering::Acquire)), (2, 4));
}

#[tokio::test]
async fn a_killed_server_costs_one_retry_and_a_second_connection() {
    let site = Site::open().await;
    let (mut stack, tries) = stack(site.address, 1);
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    let mut other = stack.clone();
    let slow = tokio::spawn(async move {
        let call = other.ready().await.expect("alive").call(call("/slow?1"));
        all(call.await.expect("the retry's answer").into_body()).await
    });
    sleep(millis(300)).await;
    site.kill_connections();
    let body = soon(secs(10), "the second answer", slow).await;
    assert_eq!(body.expect("no panic").expect("a body"), "at last");
    assert_eq!((site.connections(), tries.load(Ordering::Acquire)), (2, 3));
}

#[tokio::test]
async fn a_server_that_leaves_costs_no_call() {
    let site = Site::open().await;
    let (mut stack, _) = stack(site.address, 1);
    let mut other = stack.clone();
    let slow = tokio::spawn(async move {
        let call = other.ready().await.expect("alive").call(call("/slow?2"));
        all(call.await.expect("an answer").into_body()).await
    });
    eventually(secs(10), "the call is there", || site.requests() == 1).await;
    site.leave();
    sleep(millis(100)).await;
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    assert_eq!(site.connections(), 2);
    let body = soon(secs(10), "the first answer", slow).await;
    assert_eq!(body.expect("no panic").expect("a body"), "at last");
    assert_eq!(site.connections(), 2);
}

#[tokio::test]
async fn a_second_server_takes_over_at_the_same_address() {
    let first = Site::open().await;
    let (mut stack, tries) = stack(first.address, 1);
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    first.accepting.abort();
    first.kill_connections();
    drop(first.lines);
    let _ = first.accepting.await;
    sleep(millis(200)).await;

    let error = hello(&mut stack).await.expect_err("nobody listens");
    assert_connect_error(&*error);

    let listener = TcpListener::bind(first.address)
        .await
        .expect("the same port");
    let serving = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        Server::start(socket)
    });
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    assert_eq!(tries.load(Ordering::Acquire), 3);
    drop(serving.await.expect("no panic"));
}

#[tokio::test]
async fn a_connection_that_died_idle_costs_no_call() {
    let site = Site::open().await;
    let (connected, mut connections) = mpsc::unbounded_channel();
    let tell = move |handle: &Handle| drop(connected.send(handle.clone()));
    let (mut stack, tries) = stack_with(site.address, 0, tell);
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    site.freeze();
    let first = connections.recv().await.expect("a connection");
    assert_eq!(ended(&first).await, Failure::PongTimeout);
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    assert_eq!((site.connections(), tries.load(Ordering::Acquire)), (2, 2));
}

#[tokio::test]
async fn a_frozen_server_is_typed_through_the_whole_stack() {
    let site = Site::open().await;
    let (mut stack, _) = stack(site.address, 0);
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    site.freeze();
    let error = hello(&mut stack).await.expect_err("frozen");
    assert_eq!(
        found(&*error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_peer_that_accepts_and_stays_mute_is_found_within_the_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    // Nobody accepts: the kernel does.
    let (mut stack, _) = stack(address, 0);
    let begin = Instant::now();
    let error = hello(&mut stack).await.expect_err("mute");
    let took = begin.elapsed();
    assert_eq!(
        found(&*error),
        Some((Failure::PongTimeout, Stage::AwaitingResponse)),
        "{error:?}"
    );
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");
    drop(listener);
}

#[tokio::test]
async fn a_connector_that_fails_is_found_in_the_chain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let (mut stack, _) = stack(address, 1);
    let error = hello(&mut stack).await.expect_err("nobody listens");
    assert_connect_error(&*error);
}

fn assert_connect_error(error: &(dyn StdError + 'static)) {
    let mut next = Some(error);
    let connect = loop {
        let error = next.unwrap_or_else(|| panic!("no connect error in {error:?}"));
        match error.downcast_ref::<ConnectError>() {
            Some(connect) => break connect,
            None => next = error.source(),
        }
    };
    assert!(matches!(connect, ConnectError::Connector(_)), "{connect:?}");
    let io = connect
        .source()
        .expect("a cause")
        .downcast_ref::<io::Error>();
    let kind = io.expect("the socket's").kind();
    assert_eq!(kind, io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_handshake_that_fails_is_a_connect_error() {
    let connector = service_fn(|(): ()| async {
        let (near, far) = duplex(64);
        drop(far);
        Ok::<_, io::Error>(TokioIo::new(near))
    });
    let ping = head::<Empty<Bytes>>(Uri::from_static("http://localhost/health"));
    let layer = HeartbeatLayer::new(config(), ping).completion(CompleteOnBody::default());
    let error = Connect::new(connector, layer).oneshot(()).await;
    let error = error.expect_err("nobody is there");
    assert!(matches!(error, ConnectError::Handshake(_)), "{error:?}");
    assert!(error.source().expect("a cause").is::<hyper::Error>());
}
