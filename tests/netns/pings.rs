//! PINGs at the IO, below hyper.

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_heartbeat::{
    Config, Failure, Handle, State,
    h2_io::{PingIo, PingLayer},
};

use super::{
    dark::{assert_in_time, config, dial, serve},
    network::{alone, drop_packets, let_through},
    support::{
        client::{RequestBody, all, data, ended, get},
        eventually, millis, secs, soon, told,
    },
};

type SendRequest = http2::SendRequest<RequestBody>;

async fn shake_hands(io: TokioIo<PingIo<tokio::net::TcpStream>>) -> SendRequest {
    let connected = http2::handshake(TokioExecutor::new(), io).await;
    let (send, connection) = connected.expect("a handshake");
    tokio::spawn(connection);
    send
}

/// The socket has taken the PING and all that is sent: only the silence tells.
#[test]
fn a_black_hole_both_ways_or_one_is_found_in_time_under_a_call_and_idle() {
    alone(
        "pings::a_black_hole_both_ways_or_one_is_found_in_time_under_a_call_and_idle",
        async {
            for end in [None, Some("--dport"), Some("--sport")] {
                let address = serve().await;
                let pings = PingLayer::new(config());
                let connector = pings.layer(service_fn(move |()| async move {
                    Ok::<_, std::convert::Infallible>(dial(address).await)
                }));
                let io = connector.clone().oneshot(()).await.expect("a connection");
                let idle = connector.oneshot(()).await.expect("a connection");
                let idle_handle = idle.handle();
                let _idle = shake_hands(TokioIo::new(idle)).await;
                let send = shake_hands(TokioIo::new(io)).await;
                let mut client = pings.attribution().layer(service_fn(move |request| {
                    let mut send = send.clone();
                    async move { send.send_request(request).await }
                }));
                let stalled = client.call(get("/stalled")).await;
                let mut body = stalled.expect("an answer").into_body();
                assert!(data(&mut body).await.expect("a frame").is_ok());
                let call = tokio::spawn(client.call(get("/never")));
                sleep(secs(2)).await;
                assert!(idle_handle.pongs() > 0);

                let begin = Instant::now();
                let port = address.port().to_string();
                match end {
                    None => drop_packets(&[]),
                    Some(end) => drop_packets(&["-p", "tcp", end, &port]),
                }
                let call = soon(secs(30), "an end", call).await;
                let call = call.expect("no panic").expect_err("dark");
                let told_first = told(&call).expect("typed");
                assert_eq!(told_first.0, Failure::PongTimeout);
                let body = data(&mut body).await.expect("an error").expect_err("dark");
                assert_eq!(told(&body).expect("typed").0, Failure::PongTimeout);
                assert_eq!(ended(&idle_handle).await, Failure::PongTimeout);
                assert_in_time(begin);
                let_through();
            }
        },
    );
}

/// The PING and its answer are sent again, late.
#[test]
fn a_line_that_is_dark_for_less_than_the_pong_wait_costs_nothing() {
    alone(
        "pings::a_line_that_is_dark_for_less_than_the_pong_wait_costs_nothing",
        async {
            let config = Config::builder()
                .interval(millis(500))
                .pong_timeout(secs(2))
                .max_missed(5)
                .build()
                .expect("legal settings");
            let io = PingIo::client(dial(serve().await).await, config);
            let handle: Handle = io.handle();
            let mut send = shake_hands(TokioIo::new(io)).await;
            let slow = send.send_request(get("/slow?5"));
            let slow = tokio::spawn(slow);
            sleep(secs(1)).await;

            drop_packets(&[]);
            eventually(secs(20), "a miss", || handle.state() == State::Suspect).await;
            let_through();
            let slow = slow.await.expect("no panic").expect("an answer");
            all(slow.into_body()).await.expect("a body");
            assert_eq!(handle.state(), State::Alive);
            let next = send.send_request(get("/hello")).await;
            next.expect("an answer");
        },
    );
}
