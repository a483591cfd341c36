//! Limits on the connections of `axum::serve`.
//!
//! Import the items, not this module: `use tower_heartbeat::server::axum` would hide the `axum` crate.
//!
//! ```no_run
//! use std::{net::SocketAddr, time::Duration};
//!
//! use axum::{Router, extract::ConnectInfo, routing::get};
//! use tokio::net::TcpListener;
//! use tower_heartbeat::server::{Connections, Limits};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), tower_heartbeat::BoxError> {
//! let limits = Limits::builder()
//!     .handshake_timeout(Duration::from_secs(10))
//!     .idle_timeout(Duration::from_secs(300))
//!     .build()?;
//! let connections = Connections::new(limits);
//!
//! let app = Router::new()
//!     .route("/", get(|ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() }))
//!     .into_make_service_with_connect_info::<SocketAddr>();
//! let listener = TcpListener::bind("127.0.0.1:3000").await?;
//! connections.serve_axum(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Handlers stay as they are, and find their connection's [`Handle`](super::Handle) as an `Extension`.
//!
//! # What axum leaves out of reach
//!
//! It drives its connections in tasks of its own, in which hyper cannot be asked to let go of one. So the limits act on the IO, as
//! [`Connections::watch`](super::Connections::watch) says: HTTP/2 clients get a GOAWAY between hyper's frames, HTTP/1 clients `connection: close` with
//! the next response, or the end of an idle connection.
//!
//! It sets no keep-alive either: a client that is gone while its handler works is found by PINGs only, and those need a
//! listener whose IO is an [`h2_io::PingIo`](crate::h2_io::PingIo).

mod app;
mod listener;
mod make;

use std::convert::Infallible;

use axum::{
    extract::Request,
    response::Response,
    serve::{IncomingStream, Listener, ListenerExt, Serve},
};
use tower_service::Service;

pub use self::{
    app::{App, AppFuture},
    listener::{Watched, WatchedListener},
    make::{MakeApp, MakeAppFuture},
};
use super::{connections::Connections, io::ServedIo};

impl Connections {
    /// Serves `make_service` (a `Router`, or what its `into_make_service..` return) on the connections of `listener`, as
    /// `axum::serve` does, with the [`Limits`](super::Limits) on each of them.
    ///
    /// What it returns is axum's: `with_graceful_shutdown` is there, and waits for the connections as long as it takes. To
    /// have them leave within `grace`, call [`shutdown`](Connections::shutdown) as well:
    ///
    /// ```no_run
    /// # async fn serve(
    /// #     connections: tower_heartbeat::server::Connections,
    /// #     listener: tokio::net::TcpListener,
    /// #     app: axum::Router,
    /// # ) -> std::io::Result<()> {
    /// let leaving = connections.clone();
    /// connections
    ///     .serve_axum(listener, app)
    ///     .with_graceful_shutdown(async move {
    ///         let _ = tokio::signal::ctrl_c().await;
    ///         tokio::spawn(async move { leaving.shutdown().await });
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// A listener that shakes TLS hands is wrapped like any other: the limits are above it then, as they have to be.
    pub fn serve_axum<L, M, S>(
        &self,
        listener: L,
        make_service: M,
    ) -> Serve<WatchedListener<L>, MakeApp<M>, App<S>>
    where
        L: Listener,
        M: for<'a> Service<
                IncomingStream<'a, WatchedListener<L>>,
                Error = Infallible,
                Response = S,
            >,
        S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let untouched: fn(&mut ServedIo<L::Io>) = |_| {};
        let listener = Watched::new(listener, self.clone()).tap_io(untouched);
        axum::serve(listener, MakeApp::new(make_service))
    }
}
