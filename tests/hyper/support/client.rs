//! Connections with a heartbeat, over whatever IO a test has.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{secs, soon};
use futures_util::FutureExt;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, Uri,
    body::{Body, Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tower::{Service, ServiceExt};
use tower_heartbeat::{
    BoxError, Config, Error, Failure, Handle, Heartbeat, HeartbeatLayer,
    http::{CompleteOnBody, HttpSource, TrackedBody, head},
    hyper::http2::{Connect, ResponseBody as Inner, SendError, SendRequest},
    ping::{NoneSource, none},
};

/// Longer than anything takes: what would hang, fails.
const LONG: Duration = secs(300);

pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Client = Heartbeat<SendRequest<RequestBody>, CompleteOnBody>;
pub(crate) type ResponseBody = TrackedBody<Inner>;
pub(crate) type CallError = Error<SendError>;

/// Any IO at all.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T> Io for T where T: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

pub(crate) fn head_pings() -> HttpSource<RequestBody> {
    head(Uri::from_static("http://localhost/health"))
}

/// A connection with HEAD pings.
pub(crate) async fn connect(io: impl Io, config: Config) -> Client {
    let layer = HeartbeatLayer::new(config, head_pings()).completion(CompleteOnBody::default());
    over(io, |connector| Connect::new(connector, layer)).await
}

/// A connection without pings of ours, made as `builder` says.
pub(crate) async fn connect_without_pings(
    io: impl Io,
    config: Config,
    builder: http2::Builder<TokioExecutor>,
) -> Client {
    let layer: HeartbeatLayer<NoneSource, _> =
        HeartbeatLayer::new(config, none()).completion(CompleteOnBody::default());
    over(io, |connector| {
        Connect::new(connector, layer).http2(builder)
    })
    .await
}

/// A connection made by the `Connect` that `make` builds around the given connector.
///
/// Boxed, or rustc forgets that the error in `RequestBody` is `'static` and has nobody spawn it.
pub(crate) fn over<M, C>(io: impl Io, make: M) -> Pin<Box<dyn Future<Output = Client> + Send>>
where
    M: FnOnce(OneIo) -> C,
    C: Service<(), Response = Client> + Send + 'static,
    C::Error: std::fmt::Debug,
    C::Future: Send,
{
    let connecting = make(OneIo::new(io)).oneshot(());
    Box::pin(connecting.map(|connected| connected.expect("it connects")))
}

/// A connector that has one connection to give.
pub(crate) struct OneIo(Option<TokioIo<Box<dyn Io>>>);

impl OneIo {
    pub(crate) fn new(io: impl Io) -> OneIo {
        OneIo(Some(TokioIo::new(Box::new(io))))
    }
}

impl Service<()> for OneIo {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::Error::other("no IO left")))
    }
}

pub(crate) fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn get(path: &str) -> Request<RequestBody> {
    request(path, empty())
}

pub(crate) fn request(path: &str, body: RequestBody) -> Request<RequestBody> {
    Request::builder()
        .uri(format!("http://localhost{path}"))
        .body(body)
        .expect("a legal request")
}

/// Waits for the end of a connection.
pub(crate) async fn ended(handle: &Handle) -> Failure {
    soon(LONG, "the connection's end", handle.closed()).await
}

/// Makes the service ready and calls it.
pub(crate) async fn send(
    client: &mut Client,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, CallError> {
    let answer = async { client.ready().await?.call(request).await };
    soon(LONG, "an answer", answer).await
}

/// Sends it from a task of its own, on a clone.
pub(crate) fn spawn(
    client: &Client,
    request: Request<RequestBody>,
) -> tokio::task::JoinHandle<Result<Response<ResponseBody>, CallError>> {
    let mut client = client.clone();
    tokio::spawn(async move { send(&mut client, request).await })
}

/// The next data of a body.
pub(crate) async fn data<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let frame = soon(LONG, "a frame", body.frame()).await?;
    Some(frame.map(|frame| frame.into_data().expect("data, not trailers")))
}

/// All data of a body.
pub(crate) async fn all<B>(body: B) -> Result<Bytes, B::Error>
where
    B: Body<Data = Bytes>,
{
    let collected = soon(LONG, "the body's end", body.collect()).await?;
    Ok(collected.to_bytes())
}

/// A body that a test feeds as it goes.
pub(crate) struct Fed(mpsc::Receiver<Result<Bytes, BoxError>>);

pub(crate) type Feeder = mpsc::Sender<Result<Bytes, BoxError>>;

pub(crate) fn fed() -> (Feeder, Fed) {
    let (feeder, frames) = mpsc::channel(1);
    (feeder, Fed(frames))
}

impl Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0
            .poll_recv(cx)
            .map(|next| next.map(|data| data.map(Frame::data)))
    }
}
