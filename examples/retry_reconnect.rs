//! Three connections die in a row, two of them silently: no request is lost that was safe to retry.
//!
//! `cargo run --example retry_reconnect --features hyper,retry`

#![expect(clippy::disallowed_methods, reason = "it waits")]

use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering};
use std::{convert::Infallible, future::pending, net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::{sync::watch, time::sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, reconnect::Reconnect, timeout::Timeout};
use tower_heartbeat::{
    BoxError, Config, HeartbeatError, HeartbeatLayer, Stage, http::head, hyper::http2::Connect,
};
use tower_heartbeat::{reconnect::BackoffLayer, reconnect::Delays, retry::RetryPolicy};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    None,
    /// The socket stays open, and nobody looks at it any more.
    Mute,
    Cut,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let deaths = Arc::new(watch::Sender::new(Death::None));
    tokio::spawn(serve(listener, Arc::clone(&deaths)));

    let connections = Arc::new(AtomicUsize::new(0));
    let heartbeat = HeartbeatLayer::new(
        Config::detect_within(Duration::from_millis(500))?,
        head::<Full<Bytes>>("http://localhost/health".parse()?),
    )
    .on_connect({
        let connections = Arc::clone(&connections);
        move |handle| {
            let number = connections.fetch_add(1, Ordering::Relaxed) + 1;
            println!("connection {number}");
            handle.on_end(move |end| println!("connection {number} ended: {end}"));
        }
    });
    let connector = tower::service_fn(|address: SocketAddr| async move {
        TcpStream::connect(address).await.map(TokioIo::new)
    });
    let connector = Timeout::new(connector, Duration::from_secs(5));
    let connect = BackoffLayer::new(Delays::default()).layer(Connect::new(connector, heartbeat));
    let policy = RetryPolicy::builder()
        .max_attempts(10)
        .idempotent(|request: &Request<_>| request.method().is_idempotent())
        .build()?;
    let client = ServiceBuilder::new()
        .retry(policy)
        .buffer(64)
        .timeout(Duration::from_secs(30))
        .service(Reconnect::new(connect, address));

    let done = watch::Sender::new(false);
    let workers = (0..8).map(|worker| {
        let (mut client, done) = (client.clone(), done.subscribe());
        let safe = worker % 2 == 0;
        async move {
            let (mut answered, mut lost) = (0, 0);
            while !*done.borrow() {
                let mut request = Request::post("http://localhost/").body(Full::default())?;
                if safe {
                    *request.method_mut() = Method::GET;
                }
                match client.ready().await?.call(request).await {
                    Ok(response) => {
                        response.into_body().collect().await.ok();
                        answered += 1;
                    }
                    Err(error) => {
                        let end = HeartbeatError::find(&*error).map(HeartbeatError::stage);
                        assert!(!safe && end == Some(Stage::AwaitingResponse), "{error}");
                        lost += 1;
                    }
                }
            }
            Ok::<_, BoxError>((answered, lost))
        }
    });
    let killer = async {
        for death in [Death::Mute, Death::Cut, Death::Mute] {
            sleep(Duration::from_secs(2)).await;
            println!("the server's connection dies: {death:?}");
            deaths.send_replace(death);
        }
        sleep(Duration::from_secs(2)).await;
        done.send_replace(true);
    };
    let (outcomes, ()) = tokio::join!(join_all(workers), killer);
    for (worker, outcome) in outcomes.into_iter().enumerate() {
        let (answered, lost) = outcome?;
        let method = ["GET", "POST"][worker % 2];
        println!("worker {worker}, {method}: {answered} answered, {lost} lost in flight");
        assert!(answered > 20 && lost <= 3 * (worker % 2));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 4);
    Ok(())
}

/// Answers each request after ten milliseconds, until the connection is told to die.
async fn serve(listener: TcpListener, deaths: Arc<watch::Sender<Death>>) -> Result<(), BoxError> {
    loop {
        let (socket, _) = listener.accept().await?;
        let mut death = deaths.subscribe();
        tokio::spawn(async move {
            let answer = service_fn(|_| async {
                sleep(Duration::from_millis(10)).await;
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
            });
            let builder = http2::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(socket), answer);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                _ = death.changed() => if *death.borrow() == Death::Mute { pending().await },
            }
        });
    }
}
