//! The servers of the simulation: each answers a slow request in three seconds.

use std::{convert::Infallible, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, unfold};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    time::sleep,
};
use tonic::{Code, Status, body::Body, transport::Server as GrpcServer};
use tonic_health::server::health_reporter;
use tower::{ServiceExt, service_fn, util::BoxCloneService};
use turmoil::net::{TcpListener, TcpStream};

use super::{client::Stack, http1_client, support::server::Server};

pub(crate) const HOST: &str = "server";
pub(crate) const PORT: u16 = 8080;
/// Answers after [`SLOW`], as `/slow?3` does over HTTP.
pub(crate) const WAIT: &str = "/test.Slow/Wait";
pub(crate) const SLOW: Duration = Duration::from_secs(3);

pub(crate) async fn serve(stack: Stack) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    match stack {
        Stack::Http1Idle | Stack::Http1Busy => {
            let mut connections = Vec::new();
            loop {
                connections.push(http1_client::serve(listener.accept().await?.0));
            }
        }
        Stack::Http2 => {
            let mut connections = Vec::new();
            loop {
                connections.push(Server::start(listener.accept().await?.0));
            }
        }
        Stack::Grpc => serve_grpc(listener).await,
    }
}

async fn serve_grpc(listener: TcpListener) -> turmoil::Result {
    let (_reporter, health) = health_reporter();
    let service = service_fn(move |request: Request<Body>| {
        let health = health.clone();
        async move {
            if request.uri().path() == WAIT {
                sleep(SLOW).await;
                return Ok(answer());
            }
            health.oneshot(request).await
        }
    });
    let sockets = unfold(listener, |listener| async {
        let socket = listener.accept().await.map(|(socket, _)| piped(socket));
        Some((socket, listener))
    });
    GrpcServer::builder()
        .serve_with_incoming(BoxCloneService::new(service), sockets)
        .await?;
    Ok(())
}

/// One message without a field.
fn answer() -> Response<Body> {
    let status = Status::new(Code::Ok, "").into_http::<()>();
    let frames = [
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 5]))),
        Ok(Frame::trailers(status.headers().clone())),
    ];
    let body = Body::new(StreamBody::new(stream::iter(frames)));
    let mut response = Response::new(body);
    let kind = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

/// An IO that tonic's server takes.
fn piped(mut socket: TcpStream) -> DuplexStream {
    let (mut near, far) = duplex(64 * 1024);
    tokio::spawn(async move { copy_bidirectional(&mut socket, &mut near).await });
    far
}
