//! hyper's server with a handful of routes.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http2,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    client::{Feeder, Io, RequestBody, empty, fed, full},
    secs,
};

/// One connection's server.
pub(crate) struct Server {
    pub(crate) seen: Arc<Seen>,
    leave: Option<oneshot::Sender<()>>,
    task: JoinHandle<hyper::Result<()>>,
}

/// What a server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) pings: AtomicUsize,
    pub(crate) requests: AtomicUsize,
}

impl Seen {
    pub(crate) fn pings(&self) -> usize {
        self.pings.load(Ordering::Acquire)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

impl Server {
    pub(crate) fn start(io: impl Io) -> Server {
        Server::with(io, &http2::Builder::new(TokioExecutor::new()))
    }

    pub(crate) fn with(io: impl Io, builder: &http2::Builder<TokioExecutor>) -> Server {
        let (seen, handler) = handler();
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), handler));
        Server::run(seen, move |cx, leaves| {
            if leaves {
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
    }

    /// Runs any connection; `poll` is told once that it is to leave.
    pub(crate) fn run<P>(seen: Arc<Seen>, mut poll: P) -> Server
    where
        P: FnMut(&mut Context<'_>, bool) -> Poll<hyper::Result<()>> + Send + 'static,
    {
        let (leave, left) = oneshot::channel::<()>();
        let mut left = Some(left);
        let task = tokio::spawn(poll_fn(move |cx| {
            let word = left.as_mut().map(|left| Pin::new(left).poll(cx));
            let leaves = matches!(word, Some(Poll::Ready(Ok(()))));
            if matches!(word, Some(Poll::Ready(_))) {
                left = None;
            }
            poll(cx, leaves)
        }));
        Server {
            seen,
            leave: Some(leave),
            task,
        }
    }

    /// A GOAWAY without an error, and an end once all calls are done.
    pub(crate) fn leave(&mut self) {
        let leave = self.leave.take().expect("it leaves once");
        leave.send(()).expect("it is there");
    }

    /// Closes the connection as it is.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }

    /// Waits for the connection to end.
    pub(crate) async fn ended(self) {
        let _ = self.task.await;
    }
}

pub(crate) type Answering =
    Pin<Box<dyn Future<Output = Result<Response<RequestBody>, Infallible>> + Send>>;

/// The routes, and what comes in.
pub(crate) fn handler() -> (
    Arc<Seen>,
    impl HttpService<Incoming, ResBody = RequestBody, Error = Infallible, Future = Answering> + Send,
) {
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    let handler =
        service_fn(move |request| -> Answering { Box::pin(answer(Arc::clone(&shared), request)) });
    (seen, handler)
}

async fn answer(
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<RequestBody>, Infallible> {
    if *request.method() != Method::GET && *request.method() != Method::POST {
        seen.pings.fetch_add(1, Ordering::AcqRel);
    } else {
        seen.requests.fetch_add(1, Ordering::AcqRel);
    }
    let query: u64 = request
        .uri()
        .query()
        .map_or(0, |query| query.parse().expect("a number"));
    let body = match request.uri().path() {
        "/health" => empty(),
        "/hello" => full("hello"),
        // Answers after as many seconds as the query says.
        "/slow" => {
            tokio::time::sleep(secs(query)).await;
            full("at last")
        }
        "/never" => std::future::pending().await,
        // One frame, then nothing more.
        "/stalled" => feeding(|feeder| async move {
            let _ = feeder.send(Ok(Bytes::from_static(b"frame"))).await;
            feeder.closed().await;
        }),
        // A frame each 300 ms, as many as the query says.
        "/ticks" => feeding(move |feeder| async move {
            for _ in 0..query {
                tokio::time::sleep(super::millis(300)).await;
                if feeder.send(Ok(Bytes::from_static(b"frame"))).await.is_err() {
                    return;
                }
            }
        }),
        // As many bytes as the query says, as fast as they are taken.
        "/bytes" => full(vec![7; usize::try_from(query).expect("a length")]),
        // A frame, then an error of the handler: the stream is reset.
        "/reset" => feeding(|feeder| async move {
            let _ = feeder.send(Ok(Bytes::from_static(b"frame"))).await;
            tokio::time::sleep(super::millis(10)).await;
            let _ = feeder.send(Err("the handler failed".into())).await;
        }),
        "/echo" => request.into_body().map_err(Into::into).boxed_unsync(),
        _ => {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(body))
}

fn feeding<F, Fut>(feed: F) -> RequestBody
where
    F: FnOnce(Feeder) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (feeder, body) = fed();
    drop(tokio::spawn(feed(feeder)));
    body.boxed_unsync()
}
