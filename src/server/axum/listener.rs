//! A listener whose connections have limits.

use std::io;

use axum::serve::{Listener, TapIo};

use crate::server::{connections::Connections, io::ServedIo};

/// What [`Connections::serve_axum`] listens on.
///
/// axum knows the address of a connection, `ConnectInfo`, of its own listeners and of any that is tapped. A
/// connect info of your own is one of this: `impl Connected<IncomingStream<'_, WatchedListener<TcpListener>>>`.
pub type WatchedListener<L> = TapIo<Watched<L>, fn(&mut ServedIo<<L as Listener>::Io>)>;

/// A listener of axum's whose connections have [`Limits`](crate::server::Limits).
#[derive(Debug)]
pub struct Watched<L> {
    inner: L,
    connections: Connections,
}

impl<L> Watched<L> {
    pub(super) fn new(inner: L, connections: Connections) -> Self {
        Watched { inner, connections }
    }
}

impl<L> Listener for Watched<L>
where
    L: Listener,
{
    type Io = ServedIo<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.inner.accept().await;
        (self.connections.watch(io), address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.inner.local_addr()
    }
}
