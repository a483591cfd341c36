//! The handshake, and the life of a connection up to its reason to end.

use std::{fmt, sync::Arc};

use hyper::{
    client::conn::http2,
    rt::{Read, Write, bounds::Http2ClientConnExec},
};

use super::{goaway::GoAway, send::SendRequest};
use crate::{
    error::{BoxError, Cause, Failure},
    handle::Handle,
    hyper::{
        ending::{GOODBYE, until, watch},
        wire::{Io, Wire, failed_by},
    },
    link::Link,
};

/// An HTTP/2 connection that [`drive`] is to run.
#[must_use = "a connection does nothing unless it is driven"]
pub struct Connection<T, B, E>
where
    T: Read + Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ClientConnExec<B, Io<T>> + Unpin,
{
    inner: http2::Connection<Io<T>, B, E>,
    wire: Arc<Wire>,
}

/// Shakes hands over `io`, as `builder` says.
///
/// It doesn't wait for the peer: one that stays mute is found by the heartbeat. hyper's own
/// keep-alive should be off, or slower than the heartbeat: it ends connections that are busy
/// receiving, if only the pong is late.
///
/// # Errors
///
/// hyper's, when writing the preface fails.
pub async fn handshake<T, B, E>(
    builder: &http2::Builder<E>,
    io: T,
) -> Result<(SendRequest<B>, Connection<T, B, E>), hyper::Error>
where
    T: Read + Write + Unpin,
    B: http_body::Body + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    E: Http2ClientConnExec<B, Io<T>> + Unpin + Clone,
{
    let wire = Wire::http2();
    let (send, inner) = builder.handshake(Io::new(io, Arc::clone(&wire))).await?;
    let send = SendRequest::new(send, Arc::clone(&wire));
    Ok((send, Connection { inner, wire }))
}

/// Runs `connection` for the heartbeat of `handle`, and records there why it ended.
///
/// When the heartbeat ends first, the IO is closed: at once for a peer that is gone, after a
/// graceful goodbye of at most half a second for an idle or closed connection.
///
/// # Cancel safety
///
/// Dropping the future ends the connection as a graceful shutdown by the peer does: calls in
/// flight go on as far as the IO does, new ones fail with
/// [`Failure::Transport`](crate::Failure::Transport).
pub async fn drive<T, B, E>(connection: Connection<T, B, E>, handle: Handle)
where
    T: Read + Write + Unpin + 'static,
    B: http_body::Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    E: Http2ClientConnExec<B, Io<T>> + Unpin + Clone,
{
    let Connection { inner, wire } = connection;
    let witness = Witness {
        link: Arc::clone(handle.link()),
        wire,
    };
    watch(&witness.wire, &witness.link);
    let result = until(inner, handle.closed()).await;
    witness.testify(result);

    // What is left is to see the IO closed: by streams that come to their end, or by the verdict.
    let wire = Arc::clone(&witness.wire);
    drop(witness);
    let failure = until(handle.closed(), wire.io_closed()).await;
    if let Some(failure) = failure
        && failure.allows_goodbye()
    {
        drop(tokio::time::timeout(GOODBYE, wire.io_closed()).await);
    }
    if let Some(error) = handle.error() {
        wire.cut(&error);
    }
}

/// Tells the link and the wire why the connection ended; if it is dropped before, that it did.
struct Witness {
    link: Arc<Link>,
    wire: Arc<Wire>,
}

impl Witness {
    fn testify(&self, result: Option<Result<(), hyper::Error>>) {
        match result {
            Some(Err(error)) => self.link.end(cause_of(error)),
            // Every sender is gone, or the peer leaves: streams may go on.
            Some(Ok(())) => self.wire.ended_in_order(),
            None => {}
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.link.leave(Cause::new(Failure::Transport));
        self.wire.learn_why();
    }
}

fn cause_of(error: hyper::Error) -> Cause {
    if error.is_timeout() {
        return Cause {
            source: Some(Arc::new(error)),
            ..Cause::new(Failure::PongTimeout)
        };
    }
    failed_by(GoAway::unwrap_or(error))
}

impl<T, B, E> fmt::Debug for Connection<T, B, E>
where
    T: Read + Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ClientConnExec<B, Io<T>> + Unpin,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
