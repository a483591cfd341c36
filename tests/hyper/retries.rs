//! Retries over connections that die all the time, and a server that counts.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{StreamExt, future::join_all};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    time::sleep,
};
use tower::{Service, ServiceBuilder, ServiceExt, reconnect::Reconnect, retry::budget::TpsBudget};
use tower_heartbeat::{
    BoxError, Failure, HeartbeatError, HeartbeatLayer, Stage,
    http::head,
    hyper::http2::{Connect, SendError},
    retry::{Progress, RetryPolicy},
};

use super::support::{line::Line, millis, secs, server::Server, within_a_second};

#[tokio::test]
async fn what_ended_the_requests_own_body_says_nothing_of_the_request() {
    let (near, mut far) = tokio::io::duplex(4_096);
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(connection);
    // It comes from a connection of somebody else's.
    let never = HeartbeatError::new(Failure::PongTimeout, Stage::NotSent);
    let parts = [Ok(Frame::data(Bytes::from("half"))), Err(never)];
    let parts = parts.map(|part| async {
        tokio::task::yield_now().await;
        part
    });
    let body = StreamBody::new(futures_util::stream::iter(parts).then(|part| part));
    let request = Request::post("/")
        .header("host", "localhost")
        .body(Box::pin(body))
        .unwrap();
    let answer = send.send_request(request);
    let mut seen = Vec::new();
    let (error, _) = tokio::join!(answer, far.read_to_end(&mut seen));
    let error = error.expect_err("half a body");
    assert!(
        String::from_utf8_lossy(&seen).contains("half"),
        "it was sent"
    );
    let error = BoxError::from(SendError::Failed(error));
    assert!(HeartbeatError::find(&*error).is_some(), "it is in there");
    assert_eq!(error.progress(), None);
}

const REQUESTS: usize = 1_000;
const AT_ONCE: usize = 8;
const KILLS: usize = 50;

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_is_not_idempotent_is_sent_once_and_what_was_not_sent_is_answered() {
    let world = Arc::new(World::default());
    let client = client(&world);
    let killer = tokio::spawn(kill(Arc::clone(&world)));
    let outcomes = join_all((0..AT_ONCE).map(|worker| {
        let (client, world) = (client.clone(), Arc::clone(&world));
        let mut dice = Dice(worker as u64 + 1);
        async move {
            let mut outcomes = Vec::new();
            for id in (worker..REQUESTS).step_by(AT_ONCE) {
                sleep(millis(dice.below(10))).await;
                world.begun.fetch_add(1, Ordering::Relaxed);
                outcomes.push((id, ask(client.clone(), id).await));
            }
            outcomes
        }
    }))
    .await;
    assert!(killer.is_finished(), "requests outlast the kills");

    let arrivals = world.arrivals.lock().unwrap();
    let arrivals = |id: &usize| arrivals.get(id).copied().unwrap_or(0);
    let (mut lost, mut twice) = (0, 0);
    for (id, outcome) in outcomes.iter().flatten() {
        if is_idempotent(*id) {
            assert!(outcome.is_ok(), "{id}: {outcome:?}");
            twice += usize::from(arrivals(id) > 1);
        } else {
            assert!(arrivals(id) <= 1, "{id} arrived {} times", arrivals(id));
        }
        match outcome {
            Ok(()) => assert!(arrivals(id) > 0, "{id} was answered by nobody"),
            Err((stage, error)) => {
                assert!(matches!(stage, Some(Stage::AwaitingResponse)), "{error}");
                lost += 1;
            }
        }
    }
    // Else nothing was proved.

    assert!(lost > 20 && twice > 20, "{lost} lost, {twice} sent twice");
    assert!(world.refused.load(Ordering::Relaxed) >= KILLS / 2);
}

fn is_idempotent(id: usize) -> bool {
    id.is_multiple_of(2)
}

async fn ask<S, B>(client: S, id: usize) -> Result<(), (Option<Stage>, String)>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: hyper::body::Body<Data: std::fmt::Debug, Error: Into<BoxError>>,
{
    let method = if is_idempotent(id) {
        Method::PUT
    } else {
        Method::POST
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("http://localhost/{id}"))
        .body(Full::from("the request"))
        .unwrap();
    let response = client.oneshot(request).await;
    let response = response.map_err(|error| {
        let stage = HeartbeatError::find(&*error).map(HeartbeatError::stage);
        (stage, format!("{error:?}"))
    })?;
    // The head came, so it was acted on; bodies are short and follow at once.
    drop(response.into_body().collect().await);
    Ok(())
}

/// The whole stack, from the outside in.
fn client(
    world: &Arc<World>,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl hyper::body::Body<Data = Bytes, Error: Into<BoxError>>>,
    Error = BoxError,
> + Clone {
    let policy = RetryPolicy::builder()
        .max_attempts(1_000)
        // Deaths are the rule here.
        .budget(Arc::new(TpsBudget::new(secs(10), 1_000, 1.0)))
        .idempotent(|request: &Request<_>| request.method().is_idempotent())
        .build()
        .unwrap();
    let made = Arc::clone(world);
    let connector = tower::service_fn(move |()| {
        let connected = made.connect();
        async { connected.map(TokioIo::new) }
    });
    let ping = head("http://localhost/health".parse().unwrap());
    let heartbeat = HeartbeatLayer::new(within_a_second(), ping);
    ServiceBuilder::new()
        .retry(policy)
        .buffer(64)
        .timeout(secs(60))
        .service(Reconnect::new(Connect::new(connector, heartbeat), ()))
}

/// What the connections share.
#[derive(Default)]
struct World {
    /// The current connection.
    line: Mutex<Option<(Line, Server)>>,
    /// How many of the next attempts to connect fail.
    refusals: AtomicUsize,
    refused: AtomicUsize,
    begun: AtomicUsize,
    /// How often each request arrived.
    arrivals: Arc<Mutex<HashMap<usize, usize>>>,
}

impl World {
    fn connect(&self) -> io::Result<DuplexStream> {
        let less = |left: usize| left.checked_sub(1);
        let refusals = &self.refusals;
        if refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (line, near, far) = Line::new();
        let server = serve(far, Arc::clone(&self.arrivals));
        *self.line.lock().unwrap() = Some((line, server));
        Ok(near)
    }
}

/// At random moments while requests go on: cut off, frozen, told to leave; and after each second one
/// a connection or two does not come about.
async fn kill(world: Arc<World>) {
    let mut dice = Dice(4711);
    for kill in 0..KILLS {
        while world.begun.load(Ordering::Relaxed) < REQUESTS / (KILLS + 1) * (kill + 1) {
            sleep(millis(1)).await;
        }
        sleep(millis(dice.below(8))).await;
        while world.line.lock().unwrap().is_none() {
            sleep(millis(1)).await;
        }
        let refusals = kill % 2 * (1 + kill / 2 % 2);
        world.refusals.store(refusals, Ordering::Relaxed);
        match kill % 3 {
            0 => drop(world.line.lock().unwrap().take()),
            1 => {
                // Thawed long after the verdict: what waits in the line arrives late.
                let line = world.line.lock().unwrap().take();
                line.as_ref().unwrap().0.freeze();
                tokio::spawn(async move {
                    sleep(secs(5)).await;
                    line.as_ref().unwrap().0.thaw();
                    sleep(secs(60)).await;
                });
            }
            _ => {
                let mut line = world.line.lock().unwrap().take();
                line.as_mut().unwrap().1.leave();
                tokio::spawn(async move {
                    sleep(secs(60)).await;
                    drop(line);
                });
            }
        }
    }
}

/// Counts what arrives, and answers after up to 15 ms.
fn serve(far: DuplexStream, arrivals: Arc<Mutex<HashMap<usize, usize>>>) -> Server {
    let handler = service_fn(move |request: Request<Incoming>| {
        let arrivals = Arc::clone(&arrivals);
        async move {
            if let Ok(id) = request.uri().path()[1..].parse::<usize>() {
                *arrivals.lock().unwrap().entry(id).or_default() += 1;
                sleep(millis(id as u64 * 7 % 16)).await;
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("the answer")))
        }
    });
    let builder = http2::Builder::new(TokioExecutor::new());
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(far), handler));
    Server::run(Arc::default(), move |cx, leaves| {
        if leaves {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
}

/// xorshift64: the same moments in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
