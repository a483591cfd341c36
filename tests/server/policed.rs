//! Clients that ping more often than they may, told of by an IO below the limits.

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower_heartbeat::{
    Config, PingPolicy,
    h2_io::PingIo,
    server::{Ended, Reason},
};

use crate::support::{Server, limits, ms, sleep};

/// A request in flight, whose answer takes too long to forgive anything.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x11\x01\x05\0\0\0\x01\x82\x86\x41\x01a\x04\x0a/slow/9000";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0too soon";
const TOO_MANY_PINGS: &[u8] = b"\0\0\x16\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0btoo_many_pings";

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_too_often_is_policed_under_both_kinds_of_server() {
    for watched in [false, true] {
        for (every, expected) in [(20, Some(Reason::Policed)), (1_000, None)] {
            let server = Server::new(limits());
            let (near, mut client) = tokio::io::duplex(1 << 16);
            let policy = PingPolicy::grpc().min_interval(ms(1_000)).expect("legal");
            let config = Config::builder().interval(ms(60_000)).build();
            let io = PingIo::server(TokioIo::new(near), config.expect("legal"));
            let end = tokio::spawn(serve(server.clone(), watched, io.police_pings(policy)));
            client.write_all(BEGIN).await.expect("room");
            for _ in 0..6 {
                sleep(every).await;
                let _refused = client.write_all(PING).await;
            }
            if expected.is_none() {
                assert!(!end.is_finished(), "it obeys");
                continue;
            }
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.expect("the end");
            let ended = end.await.expect("no panic");
            assert_eq!(Some(ended.reason()), expected, "watched {watched}: {ended}");
            assert!(ended.was_forced());
            assert_eq!(ended.requests(), 1);
            assert!(said.ends_with(TOO_MANY_PINGS), "{}", said.escape_ascii());
            sleep(1).await;
            assert_eq!((server.alive.count(), server.connections.count()), (0, 0));
            let events = server.events();
            assert_eq!(events, ["Accepted", "Opened", "Ended(Policed)"]);
        }
    }
}

async fn serve(server: Server, watched: bool, io: PingIo<TokioIo<DuplexStream>>) -> Ended {
    if !watched {
        let service = server.service();
        return server.connections.serve_connection(io, service).await;
    }
    let io = server.connections.watch(io);
    let handle = io.handle();
    let service = handle.counted(server.service());
    let builder = auto::Builder::new(TokioExecutor::new());
    let _error = builder.serve_connection_with_upgrades(io, service).await;
    handle.ended().expect("its IO is gone")
}
