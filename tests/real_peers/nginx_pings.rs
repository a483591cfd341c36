//! PINGs at the IO of an HTTP/2 connection to nginx, below hyper.

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, sleep};
use tower_heartbeat::{Config, Failure, Handle, PingWhen, State, h2_io::PingIo};

use super::{
    peer::{MARGIN, Peer, Target},
    support::{
        client::{RequestBody, all, data, ended, get},
        eventually, millis, secs, soon,
    },
};

fn config() -> Config {
    Config::detect_within(secs(2)).expect("a legal bound")
}

struct Pinged {
    send: http2::SendRequest<RequestBody>,
    handle: Handle,
}

impl Pinged {
    async fn to(peer: &Peer, config: Config) -> Pinged {
        let socket = Target::new(peer.http2()).connect().await.into_inner();
        let io = PingIo::client(socket, config);
        let handle = io.handle();
        let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
        let (send, connection) = connected.expect("a handshake");
        tokio::spawn(connection);
        Pinged { send, handle }
    }

    async fn get(&mut self, path: &str) -> hyper::Result<Incoming> {
        let answer = self.send.send_request(get(path));
        let answer = soon(secs(30), "an end", answer).await?;
        Ok(answer.into_body())
    }

    async fn assert_serves(&mut self) {
        let hello = self.get("/hello").await.expect("an answer");
        assert_eq!(all(hello).await.expect("a body"), "hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_a_body_and_an_idle_connection_end_in_time_and_after_a_thaw_a_new_one_serves() {
    let Some(peer) = Peer::nginx().await else {
        return;
    };
    let mut busy = Pinged::to(&peer, config()).await;
    let idle = Pinged::to(&peer, config()).await;
    let mut file = busy.get("/file").await.expect("an answer");
    assert!(data(&mut file).await.expect("data").is_ok());
    busy.assert_serves().await;
    sleep(secs(2)).await;
    assert!(busy.handle.is_alive() && idle.handle.is_alive());
    assert!(idle.handle.pongs() > 0);

    let begin = Instant::now();
    peer.freeze();
    let call = busy.get("/hello").await.expect_err("frozen");
    assert_is_the_ios(&call);
    // What came before the freeze is there to be read.
    let body = loop {
        if let Err(error) = data(&mut file).await.expect("not the end") {
            break error;
        }
    };
    assert_is_the_ios(&body);
    assert_eq!(ended(&busy.handle).await, Failure::PongTimeout);
    assert_eq!(ended(&idle.handle).await, Failure::PongTimeout);
    let took = begin.elapsed();
    println!("nginx, PINGs at the IO: {took:?} from the freeze to the last verdict");
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");

    peer.thaw();
    Pinged::to(&peer, config()).await.assert_serves().await;
}

/// hyper keeps its text.
#[track_caller]
fn assert_is_the_ios(error: &hyper::Error) {
    let text = format!("{error:?}");
    assert!(text.contains("did not answer a ping"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_that_ends_within_the_pong_wait_costs_nothing() {
    let Some(peer) = Peer::nginx().await else {
        return;
    };
    let config = Config::builder()
        .interval(millis(300))
        .pong_timeout(secs(2))
        .max_missed(10)
        .build()
        .expect("legal settings");
    let mut pinged = Pinged::to(&peer, config).await;
    pinged.assert_serves().await;
    peer.freeze();
    eventually(secs(60), "a miss", || {
        pinged.handle.state() == State::Suspect
    })
    .await;
    peer.thaw();
    pinged.assert_serves().await;
    assert_eq!(pinged.handle.state(), State::Alive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ping_is_answered_a_hundred_times_a_second_idle_and_beside_a_body() {
    let Some(peer) = Peer::nginx().await else {
        return;
    };
    let config = Config::builder()
        .interval(millis(10))
        .pong_timeout(secs(10))
        .ping_when(PingWhen::Always)
        .build()
        .expect("legal settings");
    let mut pinged = Pinged::to(&peer, config).await;
    sleep(secs(1)).await;
    let mut file = pinged.get("/file").await.expect("an answer");
    for _ in 0..3 {
        assert!(data(&mut file).await.expect("data").is_ok());
        pinged.assert_serves().await;
        sleep(millis(500)).await;
    }
    let handle = &pinged.handle;
    eventually(secs(10), "a pong for every ping", || {
        handle.pings() == handle.pongs()
    })
    .await;
    println!("nginx: {} of {} pings", handle.pongs(), handle.pings());
    assert!(handle.pongs() >= 50, "{}", handle.pongs());
    assert_eq!((handle.state(), handle.failure()), (State::Alive, None));
}
