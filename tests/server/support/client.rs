//! Clients of hyper's, and requests.

use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::DuplexStream, task::JoinHandle};

use super::{Body, empty};

pub(crate) struct Http1 {
    pub(crate) send: http1::SendRequest<Body>,
    pub(crate) connection: JoinHandle<hyper::Result<()>>,
}

pub(crate) struct Http2 {
    pub(crate) send: http2::SendRequest<Body>,
    pub(crate) connection: JoinHandle<hyper::Result<()>>,
}

impl Http1 {
    pub(crate) async fn over(io: DuplexStream) -> Http1 {
        let (send, connection) = http1::handshake(TokioIo::new(io)).await.expect("a client");
        let connection = tokio::spawn(connection);
        Http1 { send, connection }
    }

    /// The body of the answer, and whether this was the connection's last.
    pub(crate) async fn ask(&mut self, request: Request<Body>) -> hyper::Result<(Bytes, bool)> {
        let response = self.send.send_request(request).await?;
        let connection = response.headers().get("connection");
        let is_last = connection.is_some_and(|value| value == "close");
        Ok((read(response.into_body()).await?, is_last))
    }
}

impl Http2 {
    pub(crate) async fn over(io: DuplexStream) -> Http2 {
        let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .expect("a client");
        let connection = tokio::spawn(connection);
        Http2 { send, connection }
    }

    pub(crate) async fn ask(&mut self, request: Request<Body>) -> hyper::Result<Bytes> {
        let response = self.send.send_request(request).await?;
        read(response.into_body()).await
    }
}

/// Either.
pub(crate) enum Client {
    Http1(Http1),
    Http2(Http2),
}

impl Client {
    pub(crate) async fn over(io: DuplexStream, http2: bool) -> Client {
        if http2 {
            Client::Http2(Http2::over(io).await)
        } else {
            Client::Http1(Http1::over(io).await)
        }
    }

    pub(crate) async fn ask(&mut self, request: Request<Body>) -> hyper::Result<Bytes> {
        match self {
            Client::Http1(client) => client.ask(request).await.map(|(body, _)| body),
            Client::Http2(client) => client.ask(request).await,
        }
    }

    /// The server has closed it, and the client sees nothing wrong.
    pub(crate) async fn closed_in_order(self) {
        let connection = match self {
            Client::Http1(client) => client.connection,
            Client::Http2(client) => client.connection,
        };
        connection.await.expect("no panic").expect("in good order");
    }

    /// Whether another call may be made, once it is known.
    pub(crate) async fn takes_calls(&mut self) -> bool {
        // Whatever lies in the socket is read first.
        tokio::task::yield_now().await;
        match self {
            Client::Http1(client) => client.send.ready().await.is_ok(),
            Client::Http2(client) => client.send.ready().await.is_ok(),
        }
    }

    /// The head of an answer of which the body is read or not.
    pub(crate) async fn begin(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Client::Http1(client) => client.send.send_request(request).await,
            Client::Http2(client) => client.send.send_request(request).await,
        }
    }
}

async fn read(body: Incoming) -> hyper::Result<Bytes> {
    Ok(body.collect().await?.to_bytes())
}

pub(crate) fn get(path: &str) -> Request<Body> {
    request("GET", path, empty())
}

pub(crate) fn post(path: &str, body: Body) -> Request<Body> {
    request("POST", path, body)
}

fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .header("host", "localhost")
        .body(body)
        .expect("a request")
}
