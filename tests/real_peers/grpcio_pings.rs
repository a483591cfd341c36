//! PINGs at the IO below an ordinary channel of tonic's, to Python's grpcio, which counts them.

use std::{
    error::Error,
    sync::{Arc, Mutex},
};

use http::Uri;
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_heartbeat::{
    Config, Failure, Handle, HeartbeatError, PingWhen, Stage, State,
    h2_io::{Attribution, GoAway, PingLayer},
    tonic::{StatusLayer, StatusService},
};

use super::{
    peer::{MARGIN, Peer, Target},
    support::{client::ended, millis, secs, soon},
};

type Client = HealthClient<StatusService<Attribution<Channel>>>;

struct Pinged {
    client: Client,
    handles: Arc<Mutex<Vec<Handle>>>,
}

impl Pinged {
    fn to(peer: &Peer, config: Config) -> Pinged {
        let handles = Arc::<Mutex<Vec<Handle>>>::default();
        let made = Arc::clone(&handles);
        let pings = PingLayer::new(config)
            .on_connect(move |handle| made.lock().expect("no panic").push(handle.clone()));
        let target = Target::new(peer.address);
        let connector = pings.layer(service_fn(move |_: Uri| target.connector().call(())));
        let stack = ServiceBuilder::new()
            .layer(StatusLayer::new())
            .layer(pings.attribution())
            .service(
                Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector),
            );
        Pinged {
            client: HealthClient::new(stack),
            handles,
        }
    }

    fn handle(&self, connection: usize) -> Handle {
        self.handles.lock().expect("no panic")[connection].clone()
    }

    fn connections(&self) -> usize {
        self.handles.lock().expect("no panic").len()
    }

    async fn check(&mut self) -> Result<ServingStatus, Status> {
        let check = self.client.check(HealthCheckRequest::default());
        let answer = soon(secs(30), "an end", check).await?;
        Ok(answer.into_inner().status())
    }

    async fn assert_serves(&mut self) {
        let answer = self.check().await.expect("an answer");
        assert_eq!(answer, ServingStatus::Serving);
    }

    /// The channel may have yet to find out that its connection has ended, and give it some calls.
    async fn serves_after(&mut self, end: Failure) {
        while let Err(status) = self.check().await {
            let (code, told) = seen(&status);
            let failure = told.map(|(failure, _)| failure);
            assert_eq!(
                (code, failure),
                (Code::Unavailable, Some(end)),
                "{status:?}"
            );
        }
    }

    /// A stream that has given the one item that there is, for as long as nothing changes.
    async fn watch(&mut self) -> Streaming<HealthCheckResponse> {
        let watching = self.client.watch(HealthCheckRequest::default()).await;
        let mut watching = watching.expect("an answer").into_inner();
        assert!(watching.message().await.expect("an item").is_some());
        watching
    }
}

/// Often enough for a peer that counts to complain within seconds.
fn often(when: PingWhen) -> Config {
    Config::builder()
        .interval(OFTEN)
        .pong_timeout(secs(10))
        .ping_when(when)
        .build()
        .expect("legal settings")
}

const OFTEN: std::time::Duration = millis(200);

fn seen(status: &Status) -> (Code, Option<(Failure, Stage)>) {
    let found = HeartbeatError::find(status);
    let found = found.map(|error| (error.failure(), error.stage()));
    (status.code(), found)
}

fn dead_at(stage: Stage) -> (Code, Option<(Failure, Stage)>) {
    (Code::Unavailable, Some((Failure::PongTimeout, stage)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_and_a_call_are_told_in_time_and_the_channel_recovers_by_itself() {
    let Some(peer) = Peer::grpcio() else {
        return;
    };
    // Two pings at most until the freeze: so many it lets pass.
    let config = Config::detect_within(secs(4)).expect("a legal bound");
    let mut pinged = Pinged::to(&peer, config);
    let mut watching = pinged.watch().await;
    sleep(secs(1)).await;
    pinged.assert_serves().await;

    let begin = Instant::now();
    peer.freeze();
    let call = pinged.check().await.expect_err("frozen");
    assert_eq!(seen(&call), dead_at(Stage::AwaitingResponse), "{call:?}");
    let stream = watching.message().await.expect_err("frozen");
    assert_eq!(seen(&stream), dead_at(Stage::Streaming), "{stream:?}");
    let took = begin.elapsed();
    println!("grpcio, PINGs at the IO: {took:?} from the freeze to the last verdict");
    assert!(took <= config.worst_case_detection() + MARGIN, "{took:?}");

    peer.thaw();
    pinged.serves_after(Failure::PongTimeout).await;
    assert_eq!(pinged.connections(), 2);
    assert_eq!(pinged.handle(1).state(), State::Alive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinged_idle_it_complains_and_the_next_connection_is_pinged_half_as_often() {
    let Some(peer) = Peer::grpcio() else {
        return;
    };
    let mut pinged = Pinged::to(&peer, often(PingWhen::Quiet));
    pinged.assert_serves().await;
    let first = pinged.handle(0);
    let end = soon(secs(30), "its complaint", ended(&first)).await;
    assert_eq!(end, Failure::TooManyPings);
    println!("grpcio complained about {} pings", first.pings());
    let error = first.error().expect("it ended");
    let word = error.source().expect("its word");
    let word = word.downcast_ref::<GoAway>().expect("as it came");
    assert_eq!(
        (word.code(), word.debug_data()),
        (11, &b"too_many_pings"[..])
    );

    for (connection, interval) in [(1, OFTEN * 2), (2, OFTEN * 4)] {
        pinged.serves_after(Failure::TooManyPings).await;
        let next = pinged.handle(connection);
        assert_eq!(next.config().interval(), interval);
        assert_eq!(ended(&next).await, Failure::TooManyPings);
    }
}

/// A call that is open is not enough for it: it wants to have sent something. The call it ends by
/// itself, with a status of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinged_beside_a_stream_that_is_silent_it_complains() {
    let Some(peer) = Peer::grpcio() else {
        return;
    };
    let mut pinged = Pinged::to(&peer, often(PingWhen::WhileBusy));
    let mut watching = pinged.watch().await;
    let stream = soon(secs(30), "its complaint", watching.message()).await;
    let stream = stream.expect_err("it complained");
    assert_eq!(stream.code(), Code::Unavailable, "{stream:?}");
    assert_eq!(stream.message(), "Too many pings");
    assert_eq!(ended(&pinged.handle(0)).await, Failure::TooManyPings);
    pinged.serves_after(Failure::TooManyPings).await;
    assert_eq!(pinged.handle(1).config().interval(), OFTEN * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinged_while_calls_are_answered_it_does_not_complain() {
    let Some(peer) = Peer::grpcio() else {
        return;
    };
    for when in [PingWhen::Always, PingWhen::WhileBusy] {
        let mut pinged = Pinged::to(&peer, often(when));
        let mut watching = pinged.watch().await;
        let begin = Instant::now();
        while begin.elapsed() < secs(4) {
            pinged.assert_serves().await;
            sleep(millis(20)).await;
        }
        let handle = pinged.handle(0);
        println!("grpcio, {when:?}: {} pings, no complaint", handle.pings());
        if when == PingWhen::Always {
            assert!(handle.pings() >= 5, "{}", handle.pings());
        }
        assert_eq!((handle.state(), handle.failure()), (State::Alive, None));
        let more = timeout(millis(1), watching.message()).await;
        more.expect_err("nothing but silence");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_is_in_flight_a_connection_that_is_pinged_while_busy_costs_no_ping() {
    let Some(peer) = Peer::grpcio() else {
        return;
    };
    let mut pinged = Pinged::to(&peer, often(PingWhen::WhileBusy));
    pinged.assert_serves().await;
    let handle = pinged.handle(0);
    let before = handle.pings();
    sleep(secs(3)).await;
    assert_eq!(handle.pings(), before);
    pinged.assert_serves().await;
    assert_eq!(pinged.connections(), 1);
}
