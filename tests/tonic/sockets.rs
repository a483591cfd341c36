//! Channels with a heartbeat each, over sockets that are counted.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tonic::{body::Body, transport::Endpoint};
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceBuilder, buffer::Buffer, reconnect::Reconnect, service_fn};
use tower_heartbeat::{
    HeartbeatLayer,
    tonic::{ConnectChannel, HealthSource, StatusLayer, StatusService, health},
};

use super::support::{Site, within_a_second};

pub(crate) fn layer() -> HeartbeatLayer<HealthSource> {
    HeartbeatLayer::new(within_a_second(), health())
}

pub(crate) fn connect(
    site: &Site,
    open: &Open,
    layer: HeartbeatLayer<HealthSource>,
) -> ConnectChannel<HealthSource> {
    let (site, open) = (site.clone(), open.clone());
    let connector = service_fn(move |_: Uri| {
        let socket = open.socket(site.connect());
        async move { Ok::<_, io::Error>(TokioIo::new(socket)) }
    });
    ConnectChannel::new(layer).connector(connector)
}

type Reconnecting = Reconnect<ConnectChannel<HealthSource>, Endpoint>;
type Call = http::Request<Body>;
pub(crate) type Stack = StatusService<Buffer<Call, <Reconnecting as Service<Call>>::Future>>;

pub(crate) fn stack(
    connect: ConnectChannel<HealthSource>,
    endpoint: Endpoint,
) -> HealthClient<Stack> {
    let stack = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .buffer(64)
        .service(Reconnect::new(connect, endpoint));
    HealthClient::new(stack)
}

/// The client's sockets.
#[derive(Clone, Default)]
pub(crate) struct Open {
    lines: Arc<Mutex<Vec<Weak<Line>>>>,
}

#[derive(Default)]
struct Line {
    hung_up: AtomicBool,
    reader: AtomicWaker,
}

impl Open {
    pub(crate) fn socket(&self, io: DuplexStream) -> Socket {
        let line = Arc::<Line>::default();
        self.lines.lock().unwrap().push(Arc::downgrade(&line));
        Socket { io, line }
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter_map(Weak::upgrade).collect()
    }

    /// How many were not dropped yet.
    pub(crate) fn count(&self) -> usize {
        self.lines().len()
    }

    /// The server closes those that are open.
    pub(crate) fn hang_up(&self) {
        for line in self.lines() {
            line.hung_up.store(true, Ordering::Release);
            line.reader.wake();
        }
    }
}

pub(crate) struct Socket {
    io: DuplexStream,
    line: Arc<Line>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.reader.register(cx.waker());
        if self.line.hung_up.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
