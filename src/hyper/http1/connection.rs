//! The handshake, and the life of a connection up to its reason to end.

use std::{fmt, future::poll_fn, pin::Pin, sync::Arc};

use hyper::{
    client::conn::http1,
    rt::{Read, Write},
};

use super::send::SendRequest;
use crate::{
    error::{BoxError, Cause, Failure},
    handle::Handle,
    hyper::{
        ending::{GOODBYE, until, watch},
        wire::{Io, Wire},
    },
    link::Link,
};

/// An HTTP/1 connection that [`drive`] is to run.
#[must_use = "a connection does nothing unless it is driven"]
pub struct Connection<T, B>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    inner: http1::Connection<Io<T>, B>,
    wire: Arc<Wire>,
}

/// Prepares a connection over `io`, as `builder` says. Nothing is sent yet.
///
/// # Errors
///
/// hyper's; it has none at present.
pub async fn handshake<T, B>(
    builder: &http1::Builder,
    io: T,
) -> Result<(SendRequest<B>, Connection<T, B>), hyper::Error>
where
    T: Read + Write + Unpin,
    B: http_body::Body + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let wire = Wire::http1();
    let (send, inner) = builder.handshake(Io::new(io, Arc::clone(&wire))).await?;
    let send = SendRequest::new(send, Arc::clone(&wire));
    Ok((send, Connection { inner, wire }))
}

/// Runs `connection` for the heartbeat of `handle`, and records there why it ended.
///
/// That heartbeat has to ping with [`PingWhen::NotBusy`](crate::PingWhen::NotBusy): any other ping waits
/// behind the request, and ends the connection with [`Failure::PingBlocked`].
///
/// When the heartbeat ends first, the IO is closed: at once for a peer that is gone, after a
/// goodbye of at most half a second for an idle or closed connection.
///
/// # Cancel safety
///
/// Dropping the future closes the connection; calls fail with
/// [`Failure::Transport`](crate::Failure::Transport).
pub async fn drive<T, B>(connection: Connection<T, B>, handle: Handle)
where
    T: Read + Write + Unpin + 'static,
    B: http_body::Body + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let Connection { mut inner, wire } = connection;
    let witness = Witness {
        link: Arc::clone(handle.link()),
        wire,
    };
    watch(&witness.wire, &witness.link);
    match until(&mut inner, handle.closed()).await {
        Some(result) => {
            witness.wire.ended_in_order();
            // The IO is closed before anybody is told.
            drop(inner);
            if result.is_ok() && handle.in_flight() == 0 {
                // What a ping is told comes first: nobody else waits for the driver to hear it.
                until(witness.wire.exchange_ended(), handle.closed()).await;
            }
            witness.testify(result);
        }
        None if handle
            .error()
            .is_some_and(|end| end.failure().allows_goodbye()) =>
        {
            let mut io = inner.into_parts().io;
            let goodbye = poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx));
            // Whether it came to that or not, the IO is dropped now.
            drop(tokio::time::timeout(GOODBYE, goodbye).await);
        }
        None => {}
    }
}

/// Tells the link and the wire why the connection ended; if it is dropped before, that it did.
struct Witness {
    link: Arc<Link>,
    wire: Arc<Wire>,
}

impl Witness {
    /// hyper gives each error to one party only: to a call if there is one, and otherwise here.
    fn testify(&self, result: Result<(), hyper::Error>) {
        match result {
            Err(error) => self.link.end(Cause {
                source: Some(Arc::new(error)),
                ..Cause::new(Failure::Transport)
            }),
            Ok(()) if self.wire.was_cancelled() => self.link.leave(Cause::new(Failure::Closed)),
            // A response that is still being read, or an error on its way to a call, goes on.
            Ok(()) => self.link.leave(Cause::new(Failure::Transport)),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.link.leave(Cause::new(Failure::Transport));
        self.wire.learn_why();
    }
}

impl<T, B> fmt::Debug for Connection<T, B>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
