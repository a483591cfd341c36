//! What the limits of one connection weigh, beside hyper's own.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use hyper::{Request, Response, body::Body, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_heartbeat::server::{Connections, Limits};

use crate::support::ms;

const CONNECTIONS: usize = 100_000;

#[test]
fn an_idle_connection_weighs_little_more_than_hypers_own() {
    for (name, script) in [
        ("silent", &b""[..]),
        ("HTTP/1", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("HTTP/2", HTTP2),
    ] {
        let count = if script.is_empty() {
            CONNECTIONS
        } else {
            CONNECTIONS / 20
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let _here = runtime.enter();
        let builder = auto::Builder::new(TokioExecutor::new());
        let plain = weigh(count, || {
            let io = TokioIo::new(Script(script));
            Box::pin(
                builder
                    .serve_connection_with_upgrades(io, service_fn(answer))
                    .into_owned(),
            )
        });
        let connections = Connections::new(all_limits());
        let limited = weigh(count, || {
            let io = TokioIo::new(Script(script));
            Box::pin(connections.serve_connection_with(&builder, io, service_fn(answer)))
        });
        let added = limited - plain;
        println!("{name}: {plain} bytes without limits, {limited} with: {added} more");
        assert!(added <= 640, "{name}: {added}");
    }
}

/// The preface, empty SETTINGS, and an ACK of the server's.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

/// Bytes that each of so many connections holds once it waits for more.
fn weigh<F: Future + 'static>(count: usize, make: impl Fn() -> Pin<Box<F>>) -> i64 {
    let mut all: Vec<Option<Pin<Box<F>>>> = Vec::with_capacity(count);
    all.resize_with(count, || None);
    let mut cx = Context::from_waker(Waker::noop());
    let info = allocation_counter::measure(|| {
        for place in &mut all {
            let mut connection = make();
            assert!(connection.as_mut().poll(&mut cx).is_pending());
            *place = Some(connection);
        }
    });
    info.bytes_current / i64::try_from(count).expect("it fits")
}

fn all_limits() -> Limits {
    Limits::builder()
        .handshake_timeout(ms(10_000))
        .idle_timeout(ms(60_000))
        .max_age(ms(600_000))
        .read_timeout(ms(10_000))
        .write_timeout(ms(10_000))
        .build()
        .expect("legal")
}

async fn answer<B: Body>(_: Request<B>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(String::new()))
}

/// Says this, and nothing more; takes everything.
struct Script(&'static [u8]);

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()));
        if now.is_empty() {
            return Poll::Pending;
        }
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
