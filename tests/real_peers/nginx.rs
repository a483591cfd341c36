//! nginx over HTTP/1 and HTTP/2 without TLS.

use hyper::{Request, Response, body::Bytes};
use tokio::time::{Instant, sleep};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, reconnect::Reconnect, util::BoxCloneService,
};
use tower_heartbeat::{
    Config, Failure, HeartbeatLayer, Stage,
    hyper::{http1, http2},
};

use super::{
    http1_client,
    peer::{MARGIN, Peer, Target},
    support::{
        client::{self, RequestBody, all, data, ended, get, head_pings},
        found, secs, soon, told,
    },
};

fn config() -> Config {
    let config = Config::builder()
        .detect_within(secs(2))
        .quiet_timeout(secs(3));
    config.build().expect("legal settings")
}

/// Calls, and reads what is answered.
type Stack = BoxCloneService<Request<RequestBody>, Bytes, BoxError>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_a_call_a_body_and_an_idle_connection_are_told_in_time() {
    let Some(peer) = Peer::nginx().await else {
        return;
    };
    let target = Target::new(peer.http2());
    let mut busy = client::connect(target.connect().await.into_inner(), config()).await;
    let idle = client::connect(target.connect().await.into_inner(), config()).await;
    let file = client::send(&mut busy, get("/file")).await;
    let mut file = file.expect("an answer").into_body();
    assert!(data(&mut file).await.expect("data").is_ok());
    let first = client::send(&mut busy, get("/hello")).await;
    let first = all(first.expect("an answer").into_body()).await;
    assert_eq!(first.expect("a body"), "hello");
    sleep(secs(2)).await;
    assert!(busy.is_alive() && idle.is_alive());
    assert!(idle.handle().pongs() > 0);

    let begin = Instant::now();
    peer.freeze();
    let call = client::send(&mut busy, get("/hello")).await;
    let call = call.expect_err("frozen");
    assert_eq!(
        told(&call),
        Some((Failure::PongTimeout, Stage::AwaitingResponse))
    );
    // What came before the freeze is there to be read.
    let body = loop {
        if let Err(error) = data(&mut file).await.expect("not the end") {
            break error;
        }
    };
    assert_eq!(told(&body), Some((Failure::PongTimeout, Stage::Streaming)));
    assert_eq!(ended(&idle.handle()).await, Failure::PongTimeout);
    let took = begin.elapsed();
    println!("nginx over HTTP/2: {took:?} from the freeze to the last verdict");
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_an_idle_connection_and_a_body_are_told_in_time() {
    let Some(peer) = Peer::nginx().await else {
        return;
    };
    let target = Target::new(peer.address);
    let mut busy = http1_client::connect(target.connect().await.into_inner(), config()).await;
    let idle = http1_client::connect(target.connect().await.into_inner(), config()).await;
    let file = http1_client::send(&mut busy, get("/file")).await;
    let mut file = file.expect("an answer").into_body();
    assert!(data(&mut file).await.expect("data").is_ok());
    sleep(secs(2)).await;
    assert!(busy.is_alive() && idle.is_alive());
    assert!(idle.handle().pongs() > 0);

    let begin = Instant::now();
    peer.freeze();
    let body = async {
        loop {
            if let Err(error) = data(&mut file).await.expect("not the end") {
                break (told(&error), begin.elapsed());
            }
        }
    };
    let idle = async {
        let handle = idle.handle();
        (ended(&handle).await, begin.elapsed())
    };
    let ((body, after), (failure, took)) = tokio::join!(body, idle);
    println!("nginx over HTTP/1: idle {took:?}, in a body {after:?} from the freeze");
    assert_eq!(failure, Failure::PongTimeout);
    assert!(took <= config().worst_case_detection() + MARGIN, "{took:?}");
    assert_eq!(body, Some((Failure::ReadTimeout, Stage::Streaming)));
    let limit = config().quiet_timeout().expect("on") + config().tick();
    assert!(after <= limit + MARGIN, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_reconnect_recovers_after_a_thaw_and_on_another_server() {
    let Some(peer) = Peer::nginx().await else {
        return;
    };
    let Some(other) = Peer::nginx().await else {
        return;
    };
    let target = Target::new(peer.http2());
    let layer = HeartbeatLayer::new(config(), head_pings());
    let connect = http2::Connect::new(target.connector(), layer);
    let stack = ServiceBuilder::new()
        .and_then(|answer: Response<_>| async {
            all(answer.into_body()).await.map_err(BoxError::from)
        })
        .buffer(64)
        .service(Reconnect::new(connect, ()));
    let frozen = (Failure::PongTimeout, Stage::AwaitingResponse);
    recovers(BoxCloneService::new(stack), &peer, frozen, || {
        target.turn_to(other.http2());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_reconnect_recovers_after_a_thaw_and_on_another_server() {
    let Some(peer) = Peer::nginx().await else {
        return;
    };
    let Some(other) = Peer::nginx().await else {
        return;
    };
    let target = Target::new(peer.address);
    let layer = HeartbeatLayer::new(config(), head_pings());
    let connect = http1::Connect::new(target.connector(), layer).expect("legal settings");
    let stack = ServiceBuilder::new()
        .and_then(|answer: Response<_>| async {
            all(answer.into_body()).await.map_err(BoxError::from)
        })
        .buffer(64)
        .service(Reconnect::new(connect, ()));
    let frozen = (Failure::ReadTimeout, Stage::AwaitingResponse);
    recovers(BoxCloneService::new(stack), &peer, frozen, || {
        target.turn_to(other.address);
    })
    .await;
}

async fn recovers(
    mut stack: Stack,
    peer: &Peer,
    frozen: (Failure, Stage),
    turn_to_another: impl FnOnce(),
) {
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
    peer.freeze();
    let error = hello(&mut stack).await.expect_err("frozen");
    assert_eq!(found(&*error), Some(frozen), "{error:?}");
    peer.thaw();
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");

    peer.freeze();
    let error = hello(&mut stack).await.expect_err("frozen");
    assert_eq!(found(&*error), Some(frozen), "{error:?}");
    turn_to_another();
    assert_eq!(hello(&mut stack).await.expect("an answer"), "hello");
}

async fn hello(stack: &mut Stack) -> Result<Bytes, BoxError> {
    let call = async { stack.ready().await?.call(get("/hello")).await };
    soon(secs(30), "an end", call).await
}
