//! hyper's `auto` server with and without limits, under load generators that others wrote.
//!
//! `cargo bench --bench server --features server`: requests a second and the server's CPU time a request, 64
//! connections over loopback, in turns; needs `wrk` and `h2load` (apt: `wrk`, `nghttp2-client`).
//! `-- serve limited` and `-- serve plain` are the two servers, until their input ends: for
//! `valgrind --tool=callgrind` and the like.

use std::{
    convert::Infallible,
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Body, Bytes},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nix::{time::clock_getcpuclockid, unistd::Pid};
use tokio::net::TcpListener;
use tower_heartbeat::{
    BoxError,
    server::{Connections, Limits},
};

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("serve") {
        return rates();
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(arguments.next().as_deref() == Some("limited")))
}

/// How the load is made: a name, a program and its arguments.
const LOADS: [(&str, &str, &[&str]); 3] = [
    ("HTTP/1", "wrk", &["-t1", "-c64", "-d1s"]),
    ("HTTP/2, 1 stream", "h2load", &["-c64", "-m1", "-D1"]),
    ("HTTP/2, 16 streams", "h2load", &["-c64", "-m16", "-D1"]),
];

/// Pairs of rounds, each with two fresh servers, of which one and then the other is loaded; medians of the ratios. What one process
/// happens to have in its way, an address or a neighbour, another pair has not.
fn rates() -> Result<(), BoxError> {
    const ROUNDS: usize = 20;
    println!("64 connections over loopback, {ROUNDS} rounds in turns");
    for (name, program, arguments) in LOADS {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let (with, without) = (Server::start("limited")?, Server::start("plain")?);
            rounds.push(if round % 2 == 0 {
                let with = load(&with, program, arguments)?;
                (with, load(&without, program, arguments)?)
            } else {
                let without = load(&without, program, arguments)?;
                (load(&with, program, arguments)?, without)
            });
        }
        let of = |what: fn(&(Load, Load)) -> f64| median(rounds.iter().map(what).collect());
        println!(
            "{name:18} with {:7.0}/s, without {:7.0}/s, ratio {:.3}; CPU a request {:5.2} µs, {:5.2} µs, ratio {:.3}",
            of(|(with, _)| with.rate),
            of(|(_, without)| without.rate),
            of(|(with, without)| with.rate / without.rate),
            of(|(with, _)| with.micros),
            of(|(_, without)| without.micros),
            of(|(with, without)| without.micros / with.micros),
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Load {
    /// Requests a second.
    rate: f64,
    /// Of the server's CPU time, for each.
    micros: f64,
}

fn load(server: &Server, program: &str, arguments: &[&str]) -> Result<Load, BoxError> {
    let before = server.cpu_time()?;
    let output = Command::new(program)
        .args(arguments)
        .arg(&server.url)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let used = server.cpu_time()? - before;
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = ["Socket errors", "Non-2xx"]
        .iter()
        .any(|complaint| said.contains(complaint));
    if !output.status.success() || failed {
        return Err(format!("{program}: {said}").into());
    }
    let (rate, count) = if program == "wrk" {
        ("Requests/sec:", "requests in")
    } else {
        ("req/s", "succeeded")
    };
    let done = number_at(&said, count).ok_or_else(|| format!("{program}: {said}"))?;
    Ok(Load {
        rate: number_at(&said, rate).ok_or_else(|| format!("{program}: {said}"))?,
        micros: used.as_secs_f64() * 1e6 / done,
    })
}

/// The number before these words, or after them where they end in a colon.
fn number_at(said: &str, words: &str) -> Option<f64> {
    let (before, after) = said.split_once(words)?;
    let number = if words.ends_with(':') {
        after.split_whitespace().next()
    } else {
        before.split_whitespace().next_back()
    };
    number?.parse().ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server in a child process, which ends with this value.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(kind: &str) -> Result<Server, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", kind])
            // Closed when this process ends, however it ends: then the server goes as well.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut url = String::new();
        let stdout = child.stdout.take().ok_or("no stdout")?;
        BufReader::new(stdout).read_line(&mut url)?;
        let url = url.trim().to_string();
        Ok(Server { child, url })
    }

    fn cpu_time(&self) -> Result<Duration, BoxError> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.child.id().try_into()?))?;
        Ok(clock.now()?.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn serve(limited: bool) -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    std::thread::spawn(|| {
        let ended = io::stdin().read(&mut [0]);
        std::process::exit(i32::from(ended.is_err()));
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connections = Connections::new(limits()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        if limited {
            tokio::spawn(connections.serve_connection_with(&builder, io, service_fn(answer)));
        } else {
            let connection = builder.serve_connection_with_upgrades(io, service_fn(answer));
            tokio::spawn(connection.into_owned());
        }
    }
}

async fn answer<B: Body>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello"))))
}

/// All that there are.
fn limits() -> Result<Limits, BoxError> {
    let limits = Limits::builder()
        .handshake_timeout(Duration::from_secs(10))
        .idle_timeout(Duration::from_secs(300))
        .max_age(Duration::from_secs(1800))
        .read_timeout(Duration::from_secs(30))
        .write_timeout(Duration::from_secs(30))
        .grace(Duration::from_secs(20));
    Ok(limits.build()?)
}
