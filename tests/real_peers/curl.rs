//! curl, as a client of a server of ours over HTTP/1 and HTTP/2.

use std::{
    convert::Infallible,
    pin::Pin,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Frame;
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep};
use tower::service_fn;
use tower_heartbeat::server::{Ended, Limits, LimitsBuilder, Reason, RequestBody};

use super::{
    peer::MARGIN,
    process::Process,
    served::{Served, assert_moved},
    skip::skip,
    support::{eventually, millis, secs},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_one_that_keeps_calling_is_moved_by_age_and_no_call_fails() {
    if !is_installed() {
        return;
    }
    for at_once in [1, 8] {
        let served = Served::with(aging(), service_fn(slow)).await;
        is_moved(served, "http", &["--http1.1"], "200 1.1 ", at_once).await;
    }
}

/// Over TLS, since without it curl 7.88 fails each second call on a connection, to any server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_one_that_keeps_calling_is_moved_by_age_and_no_call_fails() {
    if !is_installed() {
        return;
    }
    for at_once in [1, 8] {
        let served = Served::over_tls(aging(), service_fn(slow)).await;
        is_moved(
            served,
            "https",
            &["--http2", "--insecure"],
            "200 2 ",
            at_once,
        )
        .await;
    }
}

fn aging() -> LimitsBuilder {
    Limits::builder().max_age(millis(300)).grace(secs(20))
}

async fn slow(_: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    sleep(millis(5)).await;
    Ok(Response::new(Full::new(Bytes::from_static(b"slow"))))
}

async fn is_moved(served: Served, scheme: &str, options: &[&str], answer: &str, at_once: usize) {
    let calls = 300 * at_once;
    let mut curl = curl();
    curl.args(options)
        .args(["--fail", "--output", "/dev/null", "--write-out"])
        .arg("%{http_code} %{http_version} %{num_connects}\\n");
    if at_once > 1 {
        curl.args(["--parallel", "--parallel-max", &at_once.to_string()]);
    }
    curl.arg(format!("{scheme}://{}/[1-{calls}]", served.address));
    let output = tokio::task::spawn_blocking(move || curl.output());
    let output = output.await.expect("no panic").expect("it ran before");
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    let connects: Vec<usize> = told
        .lines()
        .map(|line| line.strip_prefix(answer).expect(line))
        .map(|connects| connects.parse().expect("a number"))
        .collect();
    assert_eq!(connects.len(), calls);
    let connections: usize = connects.iter().sum();
    let ends = served.ends().await;
    println!("curl {options:?}, {at_once} at once: {connections} connections");
    assert_eq!(ends.len(), connections);
    // curl calls again by itself, over HTTP/1, where a connection that it kept is closed under a call.
    let begun: u64 = ends.iter().map(Ended::requests).sum();
    assert_eq!(usize::try_from(begun), Ok(calls));
    assert_moved(&ends, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_under_an_endless_response_it_is_stalled_and_the_body_is_dropped() {
    if !is_installed() {
        return;
    }
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let written = Arc::<AtomicU64>::default();
        let given = Arc::clone(&written);
        let endless = service_fn(move |_: Request<RequestBody>| {
            let body = Endless(Arc::clone(&given));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let served = Served::with(Limits::builder().write_timeout(secs(2)), endless).await;
        let client = Process::start(
            curl()
                .args([version, "--output", "/dev/null", "--limit-rate", "20M"])
                .arg(format!("http://{}/", served.address))
                .stderr(Stdio::null()),
        );
        let enough = || written.load(Ordering::Relaxed) > 40_000_000;
        eventually(secs(30), "it reads on", enough).await;
        assert_eq!(served.connections.count(), 1);
        // The test's, the listener's, the connection's, and the body's.
        assert_eq!(Arc::strong_count(&written), 4);

        let begin = Instant::now();
        client.freeze();
        let ends = served.ends().await;
        let took = begin.elapsed();
        println!("curl {version}: {took:?} from the freeze to the end");
        assert_eq!((ends.len(), ends[0].reason()), (1, Reason::Stalled));
        assert!(ends[0].was_forced());
        assert!(took >= secs(1) && took <= secs(2) + MARGIN, "{took:?}");
        let is_dropped = || Arc::strong_count(&written) == 2;
        eventually(secs(10), "the body is dropped", is_dropped).await;
    }
}

/// Gives a chunk whenever it is asked, and counts its bytes.
struct Endless(Arc<AtomicU64>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 16_384] = [b'x'; 16_384];
        self.0.fetch_add(16_384, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}

fn is_installed() -> bool {
    let version = Command::new("curl").arg("--version").output();
    let is = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2"));
    if !is {
        skip("curl", "no curl with HTTP/2");
    }
    is
}

/// Without the settings of whoever runs it, and never for ever.
fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--disable", "--silent", "--show-error"])
        .args(["--noproxy", "*", "--max-time", "60"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    curl
}
