//! A server of tonic's whose connections are in memory, its handlers, and its clients.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{self, AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use tonic::{
    Status,
    body::Body,
    transport::{
        Channel, Endpoint, Server,
        server::{Connected, TcpConnectInfo},
    },
};
use tonic_health::{pb::health_client::HealthClient, server::health_reporter};
use tower::{ServiceExt, service_fn, util::BoxCloneService};
use tower_heartbeat::server::{
    Connections, Ended, Event, Handle, LimitsBuilder, Reason, tonic::CountLayer,
};

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

pub(crate) struct Site {
    pub(crate) connections: Connections,
    handles: Arc<Mutex<Vec<Handle>>>,
    dial: UnboundedSender<Socket>,
    ends: UnboundedReceiver<End>,
    begun: Instant,
}

impl Site {
    pub(crate) fn new(limits: LimitsBuilder) -> Site {
        Site::with(limits, Server::builder())
    }

    pub(crate) fn with(limits: LimitsBuilder, server: Server) -> Site {
        Site::over(limits, server, |socket| socket)
    }

    /// A server whose sockets are wrapped, below the limits.
    pub(crate) fn over<T>(
        limits: LimitsBuilder,
        server: Server,
        wrap: impl Fn(Socket) -> T + Send + 'static,
    ) -> Site
    where
        T: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
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
        let incoming = stream::unfold(accepted, |mut accepted: UnboundedReceiver<_>| async move {
            let socket = accepted.recv().await?;
            Some((Ok::<_, io::Error>(socket), accepted))
        });
        let incoming = incoming.map_ok(wrap);
        let server = server
            .layer(CountLayer::new())
            .serve_with_incoming(service(), connections.watch_incoming(incoming));
        tokio::spawn(server);
        Site {
            connections,
            handles,
            dial,
            ends,
            begun,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn connect(&self) -> DuplexStream {
        let (near, far) = io::duplex(1 << 20);
        self.dial.send(Socket(near)).expect("it serves");
        far
    }

    /// A channel that connects as often as it has to.
    pub(crate) fn channel(&self) -> Channel {
        let dial = self.dial.clone();
        let connector = service_fn(move |_: Uri| {
            let (near, far) = io::duplex(1 << 20);
            let sent = dial
                .send(Socket(near))
                .map_err(|_| io::ErrorKind::NotConnected);
            async move { sent.map(|()| TokioIo::new(far)).map_err(io::Error::from) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
    }

    pub(crate) fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }

    pub(crate) async fn end(&mut self) -> End {
        self.ends.recv().await.expect("it serves")
    }

    pub(crate) fn is_any_over(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The connections that came, in their order.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.handles.lock().expect("not poisoned").clone()
    }
}

pub(crate) const CLIENT: &str = "192.0.2.7:4711";

/// An end of a connection in memory that has an address.
pub(crate) struct Socket(DuplexStream);

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: None,
            remote_addr: Some(CLIENT.parse().expect("an address")),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

type Service = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

/// A health service, and calls that take their time, answer in parts, or tell what they know of their connection.
pub(crate) fn service() -> Service {
    let (_, health) = health_reporter();
    let service = service_fn(move |request: Request<Body>| {
        let health = health.clone();
        async move {
            let path = request.uri().path().to_string();
            let number = |name| path.strip_prefix(name)?.parse::<u64>().ok();
            if let Some(millis) = number("/test/slow/") {
                sleep(millis).await;
                return Ok(Status::ok("slow").into_http());
            }
            if let Some(millis) = number("/test/stream/") {
                return Ok(parts(millis));
            }
            if path == "/test/endless" {
                return Ok(endless());
            }
            if path == "/test/upload" {
                let upload = request.into_body().collect().await;
                return Ok(Status::ok(upload.is_ok().to_string()).into_http());
            }
            if path == "/test/who" {
                return Ok(Status::ok(who(request)).into_http());
            }
            health.oneshot(request).await
        }
    });
    BoxCloneService::new(service)
}

fn who(request: Request<Body>) -> String {
    let (parts, body) = request.into_parts();
    let handle = parts.extensions.get::<Handle>().expect("it is there");
    let in_flight = handle.in_flight();
    let request = tonic::Request::from_parts(Default::default(), parts.extensions, body);
    let address: Option<SocketAddr> = request.remote_addr();
    format!("{address:?}, {in_flight} in flight")
}

/// Five parts over so much time, and the trailers.
fn parts(millis: u64) -> Response<Body> {
    let parts = stream::iter(0..5).then(move |part| async move {
        sleep(millis / 5).await;
        if part < 4 {
            return Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\0\0\0\0\0")));
        }
        let status = http::HeaderValue::from_static("0");
        let trailers = [(http::HeaderName::from_static("grpc-status"), status)];
        Ok(Frame::trailers(trailers.into_iter().collect()))
    });
    response(Body::new(StreamBody::new(parts)))
}

fn endless() -> Response<Body> {
    static PART: [u8; 16_384] = [0; 16_384];
    let parts = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&PART))));
    response(Body::new(StreamBody::new(parts)))
}

fn response(body: Body) -> Response<Body> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .expect("a response")
}

/// Calls `path` and reads the answer to its end. The status's message, if it is OK.
pub(crate) async fn call(channel: &mut Channel, path: &str) -> Result<String, Status> {
    let response = begin(channel, path, Body::empty()).await?;
    let (parts, body) = response.into_parts();
    let read = body.collect().await?;
    let trailers = read.trailers().cloned();
    let headers = trailers.unwrap_or(parts.headers);
    match Status::from_header_map(&headers) {
        Some(status) if status.code() == tonic::Code::Ok => Ok(status.message().to_string()),
        Some(status) => Err(status),
        None => Err(Status::unknown("no status")),
    }
}

pub(crate) async fn begin(
    channel: &mut Channel,
    path: &str,
    body: Body,
) -> Result<Response<Body>, Status> {
    let request = Request::builder()
        .method("POST")
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .body(body)
        .expect("a request");
    let channel = channel
        .ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    tower::Service::call(channel, request)
        .await
        .map_err(|error| Status::from_error(error.into()))
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) async fn sleep(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}
