//! Pings that are requests, answered without the service.

#[cfg(all(feature = "tonic", feature = "hyper"))]
#[path = "pong/grpc.rs"]
mod grpc;
#[cfg(feature = "http")]
#[path = "pong/http.rs"]
mod http;
#[path = "pong/service.rs"]
mod service;

use std::fmt::Debug;

use tower_heartbeat::pong::{Pong, PongFuture, PongLayer};

#[test]
fn public_types_are_debug_send_sync_and_unpin() {
    fn is<T: Debug + Send + Sync + Unpin>() {}
    type Inner = tower::util::ServiceFn<fn(()) -> std::future::Ready<Result<(), ()>>>;
    is::<PongLayer<fn(&()) -> Option<()>>>();
    is::<Pong<u8, fn(&()) -> Option<()>>>();
    fn is_debug<T: Debug>() {}
    is_debug::<PongFuture<Inner, ()>>();
    #[cfg(feature = "http")]
    is::<tower_heartbeat::pong::PathPongs>();
    #[cfg(feature = "tonic")]
    is::<tower_heartbeat::pong::GrpcPongs>();
}
