//! TLS under back-pressure, over OpenSSL as well as over rustls.

#[path = "../h2_io/tls.rs"]
mod tls;
