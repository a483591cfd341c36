//! PINGs at the IO, below hyper and below a channel of tonic's that connects by itself.

use std::sync::{Arc, Mutex};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_heartbeat::{Failure, Handle, Stage, State, h2_io::PingLayer, tonic::StatusLayer};

use super::{
    client::{CHECK, Client, End, Stack, config, dial, grpc_call},
    faults::{
        Fault, LATENCY, Log, TO_THE_CLIENT, TO_THE_SERVER, Teller, ponged, simulate, suspected,
    },
    server::WAIT,
    support::{
        client::{RequestBody, all, get},
        millis, secs, told,
    },
};

const STACKS: [Stack; 2] = [Stack::Http2, Stack::Grpc];

#[test]
fn a_link_that_holds_is_found_in_time_and_the_next_connection_works() {
    for stack in STACKS {
        assert_dies(stack, Fault::Hold, 1);
    }
}

#[test]
fn a_link_that_loses_everything_is_found_in_time() {
    for stack in STACKS {
        assert_dies(stack, Fault::Partition, 2);
    }
}

#[test]
fn a_link_on_which_nothing_gets_one_way_is_found_in_time() {
    for stack in STACKS {
        assert_dies(stack, TO_THE_SERVER, 3);
        assert_dies(stack, TO_THE_CLIENT, 4);
    }
}

#[test]
fn a_link_that_holds_for_less_than_the_pong_wait_costs_nothing() {
    for stack in STACKS {
        let log = run(stack, Fault::HoldWithinThePongWait, 5);
        let told: Vec<_> = log.iter().map(|(_, told)| told.as_str()).collect();
        assert_eq!(
            told,
            ["fault", "over", "alive", "slow: Ok(())", "again: Ok(())"],
            "{stack:?}"
        );
    }
}

#[test]
fn the_same_seed_has_the_same_outcome_to_the_millisecond() {
    for stack in STACKS {
        for fault in [Fault::Hold, Fault::Partition, Fault::HoldWithinThePongWait] {
            let first = run(stack, fault, 6);
            assert_eq!(first, run(stack, fault, 6), "{stack:?}, {fault:?}");
        }
        // The log would show a difference.
        let first = run(stack, Fault::Hold, 6);
        assert!((7..17).any(|seed| run(stack, Fault::Hold, seed) != first));
    }
}

fn run(stack: Stack, fault: Fault, seed: u64) -> Log {
    simulate(stack, seed, |teller| async move {
        let client = open(stack).await?;
        sleep(millis(500)).await;
        ponged(&client.handle).await;
        suffer(stack, fault, client, teller).await;
        Ok(())
    })
}

async fn suffer(stack: Stack, fault: Fault, client: Client, teller: Teller) {
    teller.tell("fault".into());
    fault.begin();
    let handle = &client.handle;
    if fault == Fault::HoldWithinThePongWait {
        suspected(handle).await;
        fault.end();
        teller.tell("over".into());
        sleep(secs(1)).await;
        assert_eq!(handle.state(), State::Alive);
        teller.tell("alive".into());
        let slow = client.slow.await.expect("no panic");
        teller.tell(format!("slow: {slow:?}"));
        teller.tell(format!("again: {:?}", (client.again)().await));
        assert_eq!(handle.failure(), None);
        return;
    }
    teller.tell(format!("dead: {:?}", handle.closed().await));
    let slow = timeout(LATENCY, client.slow).await.expect("at once");
    teller.tell(format!("slow: {:?}", slow.expect("no panic")));
    fault.end();
    let again = match stack {
        // It connects by itself.
        Stack::Grpc => client.again,
        _ => open(stack).await.expect("a connection").again,
    };
    teller.tell(format!("again: {:?}", again().await));
}

#[track_caller]
fn assert_dies(stack: Stack, fault: Fault, seed: u64) {
    let log = run(stack, fault, seed);
    let slow = Err::<(), _>(Some((Failure::PongTimeout, Stage::AwaitingResponse)));
    let expected = [
        "fault".to_string(),
        "dead: PongTimeout".to_string(),
        format!("slow: {slow:?}"),
        "again: Ok(())".to_string(),
    ];
    let told: Vec<_> = log.iter().map(|(_, told)| told.clone()).collect();
    assert_eq!(told, expected, "{stack:?}, {fault:?}");

    let took = log[1].0 - log[0].0;
    let config = config();
    // Timers of a millisecond, and the simulation's steps.
    let margin = millis(4);
    let least = config.interval() + 2 * config.pong_timeout();
    assert!(took + margin >= least, "{stack:?}, {fault:?}: {took:?}");
    let most = config.worst_case_detection();
    assert!(took <= most + margin, "{stack:?}, {fault:?}: {took:?}");
}

async fn open(stack: Stack) -> std::io::Result<Client> {
    let made = Arc::<Mutex<Option<Handle>>>::default();
    let first = Arc::clone(&made);
    let pings = PingLayer::new(config()).on_connect(move |handle| {
        first
            .lock()
            .expect("no panic")
            .get_or_insert(handle.clone());
    });
    let connector = pings.layer(service_fn(|_: http::Uri| async {
        dial().await.map(TokioIo::new)
    }));
    let (slow, again) = if stack == Stack::Grpc {
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = ServiceBuilder::new()
            .layer(StatusLayer::new())
            .layer(pings.attribution())
            .service(endpoint.connect_with_connector_lazy(connector));
        calls(move |path| grpc_call(channel.clone(), path), [CHECK, WAIT]).await
    } else {
        let io = connector.oneshot("http://localhost".parse().expect("a URI"));
        let connected = http2::handshake::<_, _, RequestBody>(TokioExecutor::new(), io.await?);
        let (send, connection) = connected.await.expect("a handshake");
        tokio::spawn(connection);
        let send = service_fn(move |request| {
            let mut send = send.clone();
            async move { send.send_request(request).await }
        });
        let client = pings.attribution().layer(send);
        let call = move |path| {
            let mut client = client.clone();
            async move {
                let answer = client.call(get(path)).await;
                let answer = answer.map_err(|error| told(&error))?;
                let body = all(answer.into_body()).await;
                body.map(drop).map_err(|error| told(&error))
            }
        };
        calls(call, ["/hello", "/slow?3"]).await
    };
    let handle = made.lock().expect("no panic").clone();
    Ok(Client {
        handle: handle.expect("it is connected"),
        slow,
        again,
    })
}

type Calls = (
    tokio::task::JoinHandle<End>,
    Box<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = End> + Send>>>,
);

/// Makes a quick call, and begins a slow one.
async fn calls<C, F>(call: C, [quick, slow]: [&'static str; 2]) -> Calls
where
    C: Fn(&'static str) -> F + 'static,
    F: Future<Output = End> + Send + 'static,
{
    call(quick).await.expect("an answer");
    let slow = tokio::spawn(call(slow));
    (slow, Box::new(move || Box::pin(call(quick))))
}
