//! The clients of the simulation, each with a slow call in flight where its transport can be pinged then.

use std::{future::pending, pin::Pin, time::Duration};

use http::{Uri, uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tonic::{Status, body::Body, client::Grpc, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_prost::ProstCodec;
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_heartbeat::{
    Config, Failure, Handle, HeartbeatError, HeartbeatLayer, Stage,
    http::CompleteOnBody,
    tonic::{StatusLayer, health},
};
use turmoil::net::TcpStream;

use super::{
    http1_client,
    server::{HOST, PORT, WAIT},
    support::{
        client::{self, all, get},
        millis, secs, told,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// Pinged between exchanges.
    Http1Idle,
    /// In an exchange, watched by the quiet limit.
    Http1Busy,
    Http2,
    Grpc,
}

/// How a call ended.
pub(crate) type End = Result<(), Option<(Failure, Stage)>>;

/// A connection with what it has in flight.
pub(crate) struct Client {
    pub(crate) handle: Handle,
    /// Ends well in three seconds if the peer lives. Never, where none can be in flight.
    pub(crate) slow: JoinHandle<End>,
    /// One quick call more, after the slow one.
    pub(crate) again: Box<dyn Fn() -> Pin<Box<dyn Future<Output = End> + Send>>>,
}

pub(crate) fn config() -> Config {
    Config::builder()
        .interval(millis(300))
        .pong_timeout(millis(150))
        .max_missed(2)
        // Pings always go out at once here, so the bound is tight.
        .ready_timeout(Duration::ZERO)
        // More than the slow answer takes.
        .quiet_timeout(secs(4))
        .build()
        .expect("legal settings")
}

pub(crate) async fn open(stack: Stack) -> std::io::Result<Client> {
    Ok(match stack {
        Stack::Http1Idle => http1(dial().await?, false).await,
        Stack::Http1Busy => http1(dial().await?, true).await,
        Stack::Http2 => http2(dial().await?).await,
        Stack::Grpc => grpc().await,
    })
}

pub(crate) async fn dial() -> std::io::Result<TcpStream> {
    TcpStream::connect((HOST, PORT)).await
}

async fn http1(io: TcpStream, busy: bool) -> Client {
    let client = http1_client::connect(io, config()).await;
    let handle = client.handle();
    let call = move |path: &'static str| {
        let mut client = client.clone();
        async move {
            let answer = http1_client::send(&mut client, get(path)).await;
            let answer = answer.map_err(|error| told(&error))?;
            all(answer.into_body())
                .await
                .map_err(|error| told(&error))?;
            Ok(())
        }
    };
    let first: End = call("/hello").await;
    first.expect("an answer");
    let slow = if busy {
        tokio::spawn(call("/slow?3"))
    } else {
        tokio::spawn(pending())
    };
    Client {
        handle,
        slow,
        again: Box::new(move || Box::pin(call("/hello"))),
    }
}

async fn http2(io: TcpStream) -> Client {
    let client = client::connect(io, config()).await;
    let handle = client.handle();
    let call = move |path: &'static str| {
        let mut client = client.clone();
        async move {
            let answer = client::send(&mut client, get(path)).await;
            let answer = answer.map_err(|error| told(&error))?;
            all(answer.into_body())
                .await
                .map_err(|error| told(&error))?;
            Ok(())
        }
    };
    let first: End = call("/hello").await;
    first.expect("an answer");
    Client {
        handle,
        slow: tokio::spawn(call("/slow?3")),
        again: Box::new(move || Box::pin(call("/hello"))),
    }
}

/// A `Channel` of tonic's under a heartbeat.
async fn grpc() -> Client {
    let connector = service_fn(|_| async { dial().await.map(TokioIo::new) });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .expect("a connection");
    let heartbeat = HeartbeatLayer::new(config(), health()).completion(CompleteOnBody::default());
    let channel = ServiceBuilder::new().layer(heartbeat).service(channel);
    let handle = channel.handle();
    let channel = ServiceBuilder::new()
        .layer(StatusLayer::new())
        .service(channel);
    let call = move |path: &'static str| grpc_call(channel.clone(), path);
    let first: End = call(CHECK).await;
    first.expect("an answer");
    Client {
        handle,
        slow: tokio::spawn(call(WAIT)),
        again: Box::new(move || Box::pin(call(CHECK))),
    }
}

pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";

/// One call of a generated client's.
pub(crate) async fn grpc_call<S, B>(channel: S, path: &'static str) -> End
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Status>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    let mut grpc = Grpc::with_origin(channel, Uri::from_static("http://localhost"));
    grpc.ready().await.expect("a `StatusLayer` always is");
    let request = tonic::Request::new(HealthCheckRequest::default());
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = grpc
        .unary(request, PathAndQuery::from_static(path), codec)
        .await;
    answer.map(drop).map_err(|status| {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        HeartbeatError::find(&status).map(|error| (error.failure(), error.stage()))
    })
}
