//! A gRPC health check as a ping, on the server's side.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header::CONTENT_TYPE,
};
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::body::Body;

use super::{PongLayer, Pongs};

/// Answers gRPC health checks. Made by [`PongLayer::grpc_health`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct GrpcPongs;

impl PongLayer<GrpcPongs> {
    /// Answers `grpc.health.v1.Health/Check` with SERVING, whichever service is asked for. It takes no health service, and says that
    /// this process is reached; where services have statuses of their own, tonic-health tells them, and this layer would hide that.
    ///
    /// `Watch`, and what is not gRPC over HTTP/2 with protobuf (gRPC-Web, say), goes to the service.
    ///
    /// It goes into tonic's `Server::builder().layer(..)`. Other services have to answer with tonic's body, which any body becomes:
    ///
    /// ```
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use hyper::body::Bytes;
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_heartbeat::{BoxError, pong::PongLayer};
    ///
    /// let service = ServiceBuilder::new()
    ///     .layer(PongLayer::grpc_health())
    ///     .map_response(|response: Response<Empty<Bytes>>| response.map(tonic::body::Body::new))
    ///     .service(service_fn(|_: Request<tonic::body::Body>| async {
    ///         Ok::<_, BoxError>(Response::new(Empty::new()))
    ///     }));
    /// # fn is_service<S: tower::Service<Request<tonic::body::Body>>>(_: S) {}
    /// # is_service(service);
    /// ```
    #[must_use]
    pub fn grpc_health() -> Self {
        PongLayer::from_pongs(GrpcPongs)
    }
}

impl<A> Pongs<Request<A>, Response<Body>> for GrpcPongs {
    fn pong(&self, request: &Request<A>) -> Option<Response<Body>> {
        let is_check = request.method() == Method::POST
            && request.version() == Version::HTTP_2
            && request.uri().path() == CHECK
            && request.headers().get(CONTENT_TYPE).is_some_and(is_protobuf);
        is_check.then(serving)
    }
}

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// `application/grpc` is that, too.
fn is_protobuf(kind: &HeaderValue) -> bool {
    let kind = kind.as_bytes();
    let end = kind.iter().position(|byte| *byte == b';');
    let kind = kind[..end.unwrap_or(kind.len())].trim_ascii_end();
    kind.eq_ignore_ascii_case(GRPC.as_bytes())
        || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// `HealthCheckResponse { status: SERVING }`, not compressed, and `grpc-status: 0` behind it.
fn serving() -> Response<Body> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    );
    let frames = [
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&SERVING))),
        Ok(Frame::trailers(trailers)),
    ];
    let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
    let kind = HeaderValue::from_static(GRPC);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

const GRPC: &str = "application/grpc";

/// A message of two bytes: field 1 is a varint, 1.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
