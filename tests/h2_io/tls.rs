//! Above TLS, over a narrow line to a slow reader, with pings due all the time.
//!
//! A TLS writer insists that a write which was left pending is repeated as it was.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2,
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    time::{sleep, timeout},
};
use tower_heartbeat::{Config, PingWhen, h2_io::PingIo};

const CERTIFICATE: &[u8] = include_bytes!("tls/certificate.pem");
const KEY: &[u8] = include_bytes!("tls/key.pem");

#[tokio::test(start_paused = true)]
async fn rustls_under_back_pressure_carries_uploads_and_pings() {
    for room in ROOMS {
        let (near, far) = duplex(room);
        let handshake =
            async { tokio::join!(with_rustls::connect(near), with_rustls::accept(far)) };
        let (client, server) = in_time(handshake).await;
        in_time(uploads_arrive(client, server)).await;
    }
}

#[cfg(openssl_tests)]
#[tokio::test(start_paused = true)]
async fn openssl_under_back_pressure_carries_uploads_and_pings() {
    for room in ROOMS {
        let (near, far) = duplex(room);
        let handshake =
            async { tokio::join!(with_openssl::connect(near), with_openssl::accept(far)) };
        let (client, server) = in_time(handshake).await;
        in_time(uploads_arrive(client, server)).await;
    }
}

#[cfg(not(openssl_tests))]
#[test]
fn openssl_under_back_pressure_is_skipped() {
    println!(
        "skipped: OpenSSL's headers are needed: cargo test --manifest-path tests/openssl/Cargo.toml"
    );
}

async fn in_time<F: Future>(future: F) -> F::Output {
    let done = timeout(Duration::from_secs(600), future).await;
    done.expect("it doesn't hang")
}

/// How many bytes the line holds. With fewer a handshake never ends, whoever makes it.
const ROOMS: [usize; 3] = [700, 5_000, 40_000];

/// Uploads, each of which has to come back, while the peer's side is slow to read.
async fn uploads_arrive<C, S>(client: C, server: S)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = PingIo::server(server, restless());
    let servers = server.handle();
    tokio::spawn(async move {
        server::Builder::new(TokioExecutor::new())
            .max_header_list_size(50_000)
            .serve_connection(TokioIo::new(server), service_fn(echo))
            .await
    });
    let client = PingIo::client(client, restless());
    let clients = client.handle();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(client))
        .await
        .expect("a handshake");
    let connection = tokio::spawn(connection);
    for length in [0, 1, 20_000, 150_000] {
        let bytes: Bytes = (0..length).map(|n: usize| n.to_le_bytes()[n % 2]).collect();
        let request = Request::post("http://localhost/")
            // A head of several frames.
            .header("x-long", "x".repeat(20_000))
            .body(Full::new(bytes.clone()))
            .expect("a request");
        let response = send.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.expect("a body");
        let body = body.to_bytes();
        assert!(body == bytes, "{length} bytes came back as {}", body.len());
    }
    // Nobody says anything any more, but for the pings.
    let before = (clients.pongs(), servers.pongs());
    sleep(Duration::from_millis(1_000)).await;
    for (handle, before) in [(&clients, before.0), (&servers, before.1)] {
        assert!(
            handle.pongs() > before + 5,
            "{} of {}",
            handle.pongs(),
            handle.pings()
        );
        assert!(handle.pings() <= handle.pongs() + 1);
        assert_eq!(handle.failure(), None);
    }
    drop(send);
    connection.await.expect("no panic").expect("no error");
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.expect("a body").into_data() {
            bytes.extend(data);
        }
        sleep(Duration::from_millis(3)).await;
    }
    Ok(Response::new(Full::new(bytes.into())))
}

/// Pings as often as it can.
fn restless() -> Config {
    let day = Duration::from_secs(24 * 60 * 60);
    Config::builder()
        .interval(Duration::from_millis(1))
        .pong_timeout(day)
        .ready_timeout(day)
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings")
}

mod with_rustls {
    use std::sync::Arc;

    use tokio::io::DuplexStream;
    use tokio_rustls::{
        TlsAcceptor, TlsConnector, client, rustls,
        rustls::{
            ClientConfig, RootCertStore, ServerConfig,
            pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        },
        server,
    };

    use super::{CERTIFICATE, KEY};

    pub(super) async fn connect(io: DuplexStream) -> client::TlsStream<DuplexStream> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let mut tls = connector.connect(name, io).await.expect("a handshake");
        tls.get_mut().1.set_buffer_limit(Some(2_000));
        tls
    }

    pub(super) async fn accept(io: DuplexStream) -> server::TlsStream<DuplexStream> {
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate()], key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut tls = acceptor.accept(io).await.expect("a handshake");
        tls.get_mut().1.set_buffer_limit(Some(2_000));
        tls
    }

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }
}

#[cfg(openssl_tests)]
mod with_openssl {
    use std::pin::Pin;

    use openssl::{
        pkey::PKey,
        ssl::{Ssl, SslAcceptor, SslConnector, SslMethod},
        x509::X509,
    };
    use tokio::io::DuplexStream;
    use tokio_openssl::SslStream;

    use super::{CERTIFICATE, KEY};

    pub(super) async fn connect(io: DuplexStream) -> SslStream<DuplexStream> {
        let mut connector = SslConnector::builder(SslMethod::tls()).expect("a connector");
        let certificate = X509::from_pem(CERTIFICATE).expect("a certificate");
        connector
            .cert_store_mut()
            .add_cert(certificate)
            .expect("a root");
        let config = connector.build().configure().expect("settings");
        let ssl = config.into_ssl("localhost").expect("a name");
        let mut tls = SslStream::new(ssl, io).expect("a stream");
        Pin::new(&mut tls).connect().await.expect("a handshake");
        tls
    }

    pub(super) async fn accept(io: DuplexStream) -> SslStream<DuplexStream> {
        let mut acceptor =
            SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("an acceptor");
        let certificate = X509::from_pem(CERTIFICATE).expect("a certificate");
        let key = PKey::private_key_from_pem(KEY).expect("a key");
        acceptor
            .set_certificate(&certificate)
            .expect("a certificate");
        acceptor.set_private_key(&key).expect("a key");
        let ssl = Ssl::new(acceptor.build().context()).expect("settings");
        let mut tls = SslStream::new(ssl, io).expect("a stream");
        Pin::new(&mut tls).accept().await.expect("a handshake");
        tls
    }
}
