//! A gRPC server whose connections can be frozen, and a client's end of them.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::stream::unfold;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::{mpsc, watch},
};
use tonic::{Code, Status, body::Body, transport::Server};
use tonic_health::server::{HealthReporter, health_reporter};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_heartbeat::{
    Config, Failure, Heartbeat, HeartbeatError, HeartbeatLayer, Stage,
    http::CompleteOnBody,
    hyper::http2::{Connect, SendRequest},
    tonic::{HealthSource, StatusLayer, StatusService, health},
};

pub(crate) const UPLOAD: &str = "/test.Files/Upload";

/// A generated client's channel to one connection.
pub(crate) type Channel = StatusService<Heartbeat<SendRequest<Body>, CompleteOnBody>>;

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn origin() -> Uri {
    Uri::from_static("http://localhost")
}

/// The least that a ping has to be told here.
pub(crate) fn ping() -> HealthSource {
    health().origin(origin())
}

/// A server on which every connection freezes and thaws.
#[derive(Clone)]
pub(crate) struct Site {
    frozen: watch::Sender<bool>,
    sockets: mpsc::UnboundedSender<DuplexStream>,
    connections: Arc<AtomicUsize>,
}

impl Site {
    pub(crate) fn serve<S>(service: S) -> Site
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        Site::serve_as(Server::builder(), service)
    }

    pub(crate) fn serve_as<S>(server: Server, service: S) -> Site
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        let (sockets, accepted) = mpsc::unbounded_channel();
        let incoming = unfold(accepted, |mut accepted| async move {
            let socket = accepted.recv().await?;
            Some((Ok::<_, io::Error>(socket), accepted))
        });
        tokio::spawn(server.serve_with_incoming(service, incoming));
        Site {
            frozen: watch::Sender::new(false),
            sockets,
            connections: Arc::default(),
        }
    }

    /// A health service, and uploads that are read to their end.
    pub(crate) fn healthy() -> (Site, HealthReporter) {
        let (reporter, health) = health_reporter();
        let service = service_fn(move |request: Request<Body>| {
            let health = health.clone();
            async move {
                if request.uri().path() == UPLOAD {
                    let upload = request.into_body().collect().await;
                    let answer = Status::new(Code::Ok, format!("{}", upload.is_ok()));
                    return Ok(answer.into_http());
                }
                health.oneshot(request).await
            }
        });
        (Site::serve(BoxCloneService::new(service)), reporter)
    }

    /// A health service that takes its time, for so many calls at once.
    #[cfg(feature = "h2-io")]
    pub(crate) fn slow(time: Duration, streams: u32) -> (Site, HealthReporter) {
        let (reporter, health) = health_reporter();
        let service = service_fn(move |request: Request<Body>| {
            let health = health.clone();
            async move {
                tokio::time::sleep(time).await;
                health.oneshot(request).await
            }
        });
        let server = Server::builder().max_concurrent_streams(streams);
        (
            Site::serve_as(server, BoxCloneService::new(service)),
            reporter,
        )
    }

    pub(crate) fn connect(&self) -> DuplexStream {
        self.connections.fetch_add(1, Ordering::AcqRel);
        let (client, near) = duplex(64 * 1024);
        let (far, server) = duplex(64 * 1024);
        let (near_read, near_write) = split(near);
        let (far_read, far_write) = split(far);
        tokio::spawn(pump(near_read, far_write, self.frozen.subscribe()));
        tokio::spawn(pump(far_read, near_write, self.frozen.subscribe()));
        self.sockets.send(server).expect("it serves");
        client
    }

    /// A connection with a heartbeat, below a generated client.
    pub(crate) async fn channel(&self, config: Config, ping: HealthSource) -> Channel {
        let site = self.clone();
        let connector = service_fn(move |()| {
            let site = site.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(site.connect())) }
        });
        let connect = Connect::new(connector, HeartbeatLayer::new(config, ping));
        let connection = connect.oneshot(()).await.expect("a connection");
        StatusLayer::new().layer(connection)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Nothing goes through, nothing is lost.
    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

async fn pump(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut frozen: watch::Receiver<bool>,
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let open = frozen.wait_for(|frozen| !frozen).await.is_ok();
        if !open || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// What a user of a generated client sees.
pub(crate) fn seen(status: &Status) -> (Code, Option<(Failure, Stage)>) {
    let found = HeartbeatError::find(status);
    (
        status.code(),
        found.map(|error| (error.failure(), error.stage())),
    )
}

pub(crate) fn dead_at(stage: Stage) -> (Code, Option<(Failure, Stage)>) {
    (Code::Unavailable, Some((Failure::PongTimeout, stage)))
}

pub(crate) fn within_a_second() -> Config {
    Config::detect_within(secs(1)).expect("a legal bound")
}
