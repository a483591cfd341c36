//! A server of ours, with limits, for clients that others wrote.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_util::either::Either;
use tower::Service;
use tower_heartbeat::server::{Connections, Ended, Event, LimitsBuilder, Reason, RequestBody};

use super::support::{eventually, secs};

pub(crate) struct Served {
    pub(crate) connections: Connections,
    pub(crate) address: SocketAddr,
    ends: Arc<Mutex<Vec<Ended>>>,
    accepting: JoinHandle<()>,
}

impl Served {
    /// Serves each connection with a clone of `service`.
    pub(crate) async fn with<S, B>(limits: LimitsBuilder, service: S) -> Served
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Error: Into<tower::BoxError>, Data: Send> + Send + 'static,
    {
        Served::below(None, limits, service).await
    }

    /// The same over TLS, where a client and it agree on HTTP/2.
    pub(crate) async fn over_tls<S, B>(limits: LimitsBuilder, service: S) -> Served
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Error: Into<tower::BoxError>, Data: Send> + Send + 'static,
    {
        Served::below(Some(tls()), limits, service).await
    }

    async fn below<S, B>(tls: Option<TlsAcceptor>, limits: LimitsBuilder, service: S) -> Served
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Error: Into<tower::BoxError>, Data: Send> + Send + 'static,
    {
        let ends = Arc::<Mutex<Vec<Ended>>>::default();
        let told = Arc::clone(&ends);
        let limits = limits.build().expect("legal settings");
        let connections = Connections::new(limits).on_event(move |_, event| {
            if let Event::Ended(ended) = event {
                told.lock().expect("no panic").push(ended.clone());
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let serving = connections.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a client");
                let service = TowerToHyperService::new(service.clone());
                let (serving, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    let io = match tls {
                        Some(tls) => Either::Left(tls.accept(socket).await.expect("a handshake")),
                        None => Either::Right(socket),
                    };
                    serving.serve_connection(TokioIo::new(io), service).await
                });
            }
        });
        Served {
            connections,
            address,
            ends,
            accepting,
        }
    }

    /// How its connections ended, once all have.
    pub(crate) async fn ends(&self) -> Vec<Ended> {
        let none_left = || self.connections.count() == 0;
        eventually(secs(30), "the last end", none_left).await;
        self.ends.lock().expect("no panic").clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn tls() -> TlsAcceptor {
    const CERTIFICATE: &[u8] = include_bytes!("../h2_io/tls/certificate.pem");
    const KEY: &[u8] = include_bytes!("../h2_io/tls/key.pem");
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// No connection was cut off, and all but the last, which its client leaves, went by age.
#[track_caller]
pub(crate) fn assert_moved(ends: &[Ended], at_least: usize) {
    let by_age = ends.iter().filter(|end| end.reason() == Reason::Age);
    assert!(by_age.count() >= at_least, "{ends:?}");
    for end in ends {
        assert!(!end.was_forced(), "{end}");
        assert!(
            matches!(end.reason(), Reason::Age | Reason::ClientClosed),
            "{end}"
        );
    }
}
