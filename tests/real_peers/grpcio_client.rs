//! Python's grpcio, as a client of a gRPC server of ours.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use tokio::time::Instant;
use tower_heartbeat::server::{Limits, LimitsBuilder, Reason};

use super::{
    peer::{MARGIN, has_grpcio},
    process::{Process, python, script},
    served::{Served, assert_moved},
    support::secs,
};

async fn health(limits: LimitsBuilder) -> Served {
    let (_reporter, service) = tonic_health::server::health_reporter();
    Served::with(limits, service).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_keeps_calling_is_moved_by_age_and_no_call_fails() {
    if !has_grpcio() {
        return;
    }
    let served = health(Limits::builder().max_age(secs(1)).grace(secs(20))).await;
    let mut client = client("calls", &served, 6);
    let output = tokio::task::spawn_blocking(move || client.output());
    let output = output.await.expect("no panic").expect("it ran before");
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    let (answered, failed) = told.trim().split_once(' ').expect("two numbers");
    let ends = served.ends().await;
    println!("grpcio: {answered} calls on {} connections", ends.len());
    assert_eq!(failed, "0", "{complaint}");
    let answered: u64 = answered.parse().expect("a number");
    assert!(answered > 100, "{answered} calls");
    let begun: u64 = ends.iter().map(|end| end.requests()).sum();
    assert!(begun >= answered, "{begun} of {answered}");
    assert_moved(&ends, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_which_nothing_comes_outlives_the_idle_limit_which_then_runs() {
    if !has_grpcio() {
        return;
    }
    let served = health(Limits::builder().idle_timeout(secs(2))).await;
    let mut client = Process::start(&mut client("watch", &served, 6));
    let told = client.child.stdout.take().expect("piped");
    let told = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(told).lines();
        let mut next = || lines.next().expect("a line").expect("readable");
        (next(), next(), Instant::now())
    });
    let (has_begun, is_there, ended_at) = told.await.expect("no panic");
    assert_eq!((&*has_begun, &*is_there), ("True", "True"));
    let ends = served.ends().await;
    let idled = ended_at.elapsed();
    println!("grpcio: idle {idled:?} after its stream");
    assert_eq!((ends.len(), ends[0].reason()), (1, Reason::Idle));
    assert!(!ends[0].was_forced(), "{}", ends[0]);
    assert!(idled >= secs(1) && idled <= secs(2) + MARGIN, "{idled:?}");
}

fn client(what: &str, served: &Served, seconds: u32) -> Command {
    let mut client = Command::new(python());
    client
        .arg(script("health_client.py"))
        .args([what, &served.address.to_string(), &seconds.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    client
}
