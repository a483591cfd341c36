//! Below hyper-util's legacy client.

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::io::DuplexStream;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{Error, Failure, Handle, Stage, State, h2_io::PingLayer};

use super::server::{Frozen, get, second, serve};

/// hyper-util knows no duplex.
#[derive(Debug)]
struct Socket(TokioIo<DuplexStream>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

mod io {
    use std::{
        io::Result,
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::rt::{Read, ReadBufCursor, Write};

    use super::Socket;

    impl Read for Socket {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: ReadBufCursor<'_>,
        ) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl Write for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_and_a_body_are_typed_and_the_next_call_gets_a_new_connection() {
    let lines = Arc::<Mutex<Vec<Frozen>>>::default();
    let made = Arc::clone(&lines);
    let pings = PingLayer::new(second());
    let connector = pings.layer(service_fn(move |_: http::Uri| {
        let (near, frozen) = serve();
        made.lock().expect("no panic").push(frozen);
        std::future::ready(Ok::<_, BoxError>(Socket(TokioIo::new(near))))
    }));
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build(connector);
    let mut client = pings.attribution().layer(client);

    let response = client.call(get("0")).await.expect("an answer");
    let handle = response.extensions().get::<Handle>().cloned();
    let handle = handle.expect("the connection's");
    assert_eq!(handle.state(), State::Alive);
    response.into_body().collect().await.expect("a body");

    lines.lock().expect("no panic")[0].send_replace(true);
    client.ready().await.expect("it is always");
    let error = client.call(get("0")).await.expect_err("it is frozen");
    let Error::Heartbeat(end) = error else {
        panic!("{error:?}");
    };
    assert_eq!(end.failure(), Failure::PongTimeout);
    assert_eq!(end.stage(), Stage::AwaitingResponse);
    assert_eq!(handle.state(), State::Dead);

    let response = client.call(get("0")).await.expect("a new connection");
    let handle = response.extensions().get::<Handle>().expect("another one");
    assert_eq!(handle.state(), State::Alive);
    assert_eq!(lines.lock().expect("no panic").len(), 2);
}
