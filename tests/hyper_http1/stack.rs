//! The whole stack over real sockets: buffer > timeout > `Reconnect(Connect)`.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::Empty;
use hyper::{
    Request, Response, Uri,
    body::{Body, Bytes},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::{Service, ServiceBuilder, ServiceExt, reconnect::Reconnect, service_fn};
use tower_heartbeat::{
    BoxError, Config, Failure, HeartbeatLayer, Stage,
    http::head,
    hyper::http1::{Connect, ConnectError},
};

use super::{
    client::serve,
    support::{client::all, eventually, found, line::Line, secs, server::Server},
};

/// Busy machines are late, and a late judge waits once more.
const MARGIN: Duration = secs(10);

type Call = Request<Empty<Bytes>>;

fn config() -> Config {
    let config = Config::builder()
        .detect_within(secs(2))
        .quiet_timeout(secs(3));
    config.build().expect("legal")
}

/// An address whose connections can be frozen.
struct Site {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<(Line, Server)>>>,
}

impl Site {
    async fn open() -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (far, server) = duplex(64 * 1024);
                let pair = (Line::between(socket, far), serve(server));
                shared.lock().expect("no panic").push(pair);
            }
        });
        Site { address, lines }
    }

    fn connections(&self) -> usize {
        self.lines.lock().expect("no panic").len()
    }

    fn freeze(&self) {
        for (line, _) in &*self.lines.lock().expect("no panic") {
            line.freeze();
        }
    }

    fn pings(&self) -> usize {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().map(|(_, server)| server.seen.pings()).sum()
    }

    fn kill_connections(&self) {
        for (_, server) in &*self.lines.lock().expect("no panic") {
            server.kill();
        }
    }
}

fn stack(
    address: SocketAddr,
) -> impl Service<
    Call,
    Response = Response<impl Body<Data = Bytes, Error: std::fmt::Debug>>,
    Error = BoxError,
> {
    let connector = service_fn(|address: SocketAddr| async move {
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?))
    });
    let ping = head::<Empty<Bytes>>(Uri::from_static("http://localhost/health"));
    let connect = Connect::new(connector, HeartbeatLayer::new(config(), ping));
    ServiceBuilder::new()
        .buffer(64)
        .timeout(secs(30))
        .service(Reconnect::new(connect.expect("legal"), address))
}

async fn call<S, B>(stack: &mut S, path: &str) -> Result<Bytes, BoxError>
where
    S: Service<Call, Response = Response<B>, Error = BoxError>,
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let request = Request::builder().uri(format!("http://localhost{path}"));
    let request = request.body(Empty::new()).expect("legal");
    let response = stack.ready().await?.call(request).await?;
    Ok(all(response.into_body()).await.expect("a body"))
}

#[tokio::test]
async fn a_connection_that_froze_idle_is_replaced_and_costs_no_call() {
    let site = Site::open().await;
    let mut stack = stack(site.address);
    assert_eq!(
        call(&mut stack, "/hello").await.expect("an answer"),
        "hello"
    );
    eventually(MARGIN, "a ping", || site.pings() > 0).await;
    site.freeze();
    // Nobody polls the stack meanwhile.
    tokio::time::sleep(config().worst_case_detection() + secs(2)).await;
    assert_eq!(
        call(&mut stack, "/hello").await.expect("an answer"),
        "hello"
    );
    assert_eq!(site.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_froze_under_a_request_is_replaced_for_the_next() {
    let site = Site::open().await;
    let mut stack = stack(site.address);
    assert_eq!(
        call(&mut stack, "/hello").await.expect("an answer"),
        "hello"
    );
    site.freeze();
    let begin = Instant::now();
    let error = call(&mut stack, "/hello").await.expect_err("frozen");
    let took = begin.elapsed();
    assert_eq!(
        found(&*error),
        Some((Failure::ReadTimeout, Stage::AwaitingResponse))
    );
    assert!(took <= secs(3) + config().tick() + MARGIN, "{took:?}");
    assert_eq!(
        call(&mut stack, "/hello").await.expect("an answer"),
        "hello"
    );
    assert_eq!(site.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_is_replaced() {
    let site = Site::open().await;
    let mut stack = stack(site.address);
    assert_eq!(
        call(&mut stack, "/hello").await.expect("an answer"),
        "hello"
    );
    site.kill_connections();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(
        call(&mut stack, "/hello").await.expect("an answer"),
        "hello"
    );
    assert_eq!(site.connections(), 2);
}

#[tokio::test]
async fn a_connector_that_fails_is_found_in_the_chain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = call(&mut stack(address), "/hello")
        .await
        .expect_err("nobody listens");
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    let connect = loop {
        let error = next.expect("a connect error");
        match error.downcast_ref::<ConnectError>() {
            Some(connect) => break connect,
            None => next = error.source(),
        }
    };
    assert!(matches!(connect, ConnectError::Connector(_)), "{connect:?}");
}
