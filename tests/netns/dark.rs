//! What a client with a heartbeat is told when the kernel drops packets, and one without is not.

use std::{net::SocketAddr, time::Duration};

use hyper_util::rt::TokioExecutor;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tower_heartbeat::{Config, Failure, Stage, State};

use super::{
    http1_client,
    network::{alone, drop_packets, let_through},
    support::{
        client::{self, all, connect, connect_without_pings, data, ended, get, spawn},
        millis, secs,
        server::Server,
        told,
    },
};

/// Busy machines are late, and a late judge waits once more.
const MARGIN: Duration = secs(10);

pub(crate) fn config() -> Config {
    Config::detect_within(secs(2)).expect("a legal bound")
}

#[test]
fn a_black_hole_is_found_in_time_over_http2_and_not_without_a_heartbeat() {
    alone(
        "dark::a_black_hole_is_found_in_time_over_http2_and_not_without_a_heartbeat",
        async {
            let address = serve().await;
            let mut client = connect(dial(address).await, config()).await;
            let http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            let plain = connect_without_pings(dial(address).await, config(), http2).await;
            let stalled = client::send(&mut client, get("/stalled")).await;
            let mut body = stalled.expect("an answer").into_body();
            assert!(data(&mut body).await.expect("a frame").is_ok());
            let call = spawn(&client, get("/never"));
            let unwatched = spawn(&plain, get("/never"));
            sleep(secs(2)).await;
            assert!(client.is_alive());

            let begin = Instant::now();
            drop_packets(&[]);
            let call = call.await.expect("no panic").expect_err("dark");
            assert_eq!(
                told(&call),
                Some((Failure::PongTimeout, Stage::AwaitingResponse))
            );
            let body = data(&mut body).await.expect("an error").expect_err("dark");
            assert_eq!(told(&body), Some((Failure::PongTimeout, Stage::Streaming)));
            assert_in_time(begin);

            sleep(secs(2)).await;
            assert!(!unwatched.is_finished(), "TCP takes a quarter of an hour");
        },
    );
}

#[test]
fn a_black_hole_is_found_in_time_over_http1() {
    alone("dark::a_black_hole_is_found_in_time_over_http1", async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = http1_client::connect(dial(address).await, config()).await;
        let (socket, _) = listener.accept().await.expect("a connection");
        let _server = http1_client::serve(socket);
        let handle = client.handle();
        sleep(secs(2)).await;
        assert!(handle.is_alive() && handle.pongs() > 0);

        let begin = Instant::now();
        drop_packets(&[]);
        assert_eq!(ended(&handle).await, Failure::PongTimeout);
        assert_in_time(begin);
    });
}

#[test]
fn a_line_that_is_dark_one_way_is_found_in_time() {
    alone(
        "dark::a_line_that_is_dark_one_way_is_found_in_time",
        async {
            for end in ["--dport", "--sport"] {
                let address = serve().await;
                let client = connect(dial(address).await, config()).await;
                let call = spawn(&client, get("/never"));
                sleep(secs(1)).await;

                let begin = Instant::now();
                let port = address.port().to_string();
                drop_packets(&["-p", "tcp", end, &port]);
                let call = call.await.expect("no panic").expect_err("dark");
                assert_eq!(
                    told(&call),
                    Some((Failure::PongTimeout, Stage::AwaitingResponse))
                );
                assert_in_time(begin);
                let_through();
            }
        },
    );
}

/// Its packets are sent again, late.
#[test]
fn a_line_that_is_dark_for_less_than_the_pong_wait_costs_nothing() {
    alone(
        "dark::a_line_that_is_dark_for_less_than_the_pong_wait_costs_nothing",
        async {
            let config = Config::builder()
                .interval(millis(500))
                .pong_timeout(secs(2))
                .max_missed(5)
                .build()
                .expect("legal settings");
            let mut client = connect(dial(serve().await).await, config).await;
            let slow = spawn(&client, get("/slow?5"));
            sleep(secs(1)).await;

            drop_packets(&[]);
            let handle = client.handle();
            while handle.state() != State::Suspect {
                sleep(millis(5)).await;
            }
            let_through();
            let slow = slow.await.expect("no panic").expect("an answer");
            all(slow.into_body()).await.expect("a body");
            assert_eq!(handle.state(), State::Alive);
            let next = client::send(&mut client, get("/hello")).await;
            next.expect("an answer");
        },
    );
}

#[track_caller]
pub(crate) fn assert_in_time(begin: Instant) {
    let took = begin.elapsed();
    println!("{took:?} from the dark to the last verdict");
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");
}

/// An HTTP/2 server for any number of connections.
pub(crate) async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.push(Server::start(socket));
        }
    });
    address
}

pub(crate) async fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}
