//! Connections with a heartbeat, servers for them, and one that a test plays by hand.

use std::time::Duration;

use hyper::{Request, Response, Uri, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};
use tower::{Service, ServiceExt};
use tower_heartbeat::{
    Config, Error, Heartbeat, HeartbeatLayer, Share,
    http::{CompleteOnBody, HttpSource, TrackedBody, head},
    hyper::http1::{Connect, ResponseBody as Inner, SendError, SendRequest},
};

use crate::support::{
    client::{Io, OneIo, RequestBody},
    secs,
    server::{Server, handler},
    soon,
};

pub(crate) type Client = Heartbeat<Share<SendRequest<RequestBody>>, CompleteOnBody>;
pub(crate) type ResponseBody = TrackedBody<Inner>;
pub(crate) type CallError = Error<SendError>;
pub(crate) type Answer = Result<Response<ResponseBody>, CallError>;

/// Longer than anything takes: what would hang, fails.
pub(crate) const LONG: Duration = secs(300);

pub(crate) fn head_pings() -> HttpSource<RequestBody> {
    head(Uri::from_static("http://localhost/health"))
}

pub(crate) fn layer(config: Config) -> HeartbeatLayer<HttpSource<RequestBody>> {
    HeartbeatLayer::new(config, head_pings())
}

/// A connection with HEAD pings.
pub(crate) async fn connect(io: impl Io, config: Config) -> Client {
    let connect = Connect::new(OneIo::new(io), layer(config)).expect("legal settings");
    connect.oneshot(()).await.expect("it connects")
}

/// Any HTTP/1 server of hyper's over `io`.
pub(crate) fn serve(io: impl Io) -> Server {
    let (seen, handler) = handler();
    let builder = http1::Builder::new();
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), handler));
    Server::run(seen, move |cx, leaves| {
        if leaves {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
}

pub(crate) async fn connected(config: Config) -> (Client, Server) {
    let (near, far) = duplex(64 * 1024);
    (connect(near, config).await, serve(far))
}

/// Makes the service ready and calls it.
pub(crate) async fn send(client: &mut Client, request: Request<RequestBody>) -> Answer {
    let answer = async { client.ready().await?.call(request).await };
    soon(LONG, "an answer", answer).await
}

/// Sends it from a task of its own, on a clone.
pub(crate) fn spawn(client: &Client, request: Request<RequestBody>) -> JoinHandle<Answer> {
    let mut client = client.clone();
    tokio::spawn(async move { send(&mut client, request).await })
}

/// A server played by hand, byte by byte.
pub(crate) struct Peer {
    pub(crate) io: DuplexStream,
    read: Vec<u8>,
}

impl Peer {
    pub(crate) async fn connected(config: Config) -> (Client, Peer) {
        let (near, io) = duplex(64 * 1024);
        let read = Vec::new();
        (connect(near, config).await, Peer { io, read })
    }

    /// The next request's head.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).expect("text");
            }
            let read = soon(LONG, "a request", self.io.read_buf(&mut self.read)).await;
            assert_ne!(read.expect("it is open"), 0, "closed: {:?}", self.read);
        }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.io
            .write_all(text.as_bytes())
            .await
            .expect("it is open");
    }

    /// Answers each ping that comes before the next other request, and returns that one's head.
    pub(crate) async fn request(&mut self) -> String {
        loop {
            let head = self.head().await;
            if !head.starts_with("HEAD") {
                return head;
            }
            self.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    }

    /// Whether anything comes within `limit`.
    pub(crate) async fn is_silent_for(&mut self, limit: Duration) -> bool {
        assert!(self.read.is_empty(), "{:?}", self.read);
        let read = self.io.read_buf(&mut self.read);
        tokio::time::timeout(limit, read).await.is_err()
    }

    /// Reads on to the end and returns what still came.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let read = self.io.read_to_end(&mut self.read);
        soon(LONG, "the end", read).await.expect("it ends in order");
        self.read
    }
}
