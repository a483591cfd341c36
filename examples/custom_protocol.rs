//! A protocol of one's own as a service: its server is frozen, the call fails in time and typed, the next connection works (Unix).
//!
//! `cargo run --example custom_protocol --features transport`

use std::{env, io, net::SocketAddr, num::NonZeroU64, process::Stdio, process::exit};
use std::{sync::Arc, sync::atomic::AtomicU32, sync::atomic::Ordering, time::Duration};

use futures_util::{Sink, SinkExt, Stream, StreamExt, TryStreamExt};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_util::{bytes::Bytes, bytes::BytesMut, codec::LengthDelimitedCodec};
use tower::{Service, ServiceBuilder, ServiceExt, reconnect::Reconnect};
use tower_heartbeat::mux::{self, Connect};
use tower_heartbeat::transport::{HeartbeatStream, Ids, Kind, Protocol};
use tower_heartbeat::{BoxError, Config, Failure, HeartbeatError, HeartbeatLayer, Stage};

/// A byte that says what it is, a number in eight, and text.
#[derive(Clone, Copy)]
struct Frames;

impl Protocol for Frames {
    type Message = Bytes;

    fn classify(&self, frame: &Bytes) -> Kind {
        match frame.first() {
            Some(b'?') => Kind::Ping,
            Some(b'!') => Kind::Pong(self.id(frame)),
            _ => Kind::Data,
        }
    }

    fn ping(&mut self, nonce: NonZeroU64) -> Option<Bytes> {
        Some(frame(b'?', nonce.get(), ""))
    }

    fn pong(&mut self, ping: &Bytes) -> Option<Bytes> {
        Some(frame(b'!', self.id(ping)?, ""))
    }
}

impl Ids<Bytes> for Frames {
    fn id(&self, frame: &Bytes) -> Option<u64> {
        let number = frame.get(1..9)?.try_into().ok()?;
        Some(u64::from_be_bytes(number))
    }

    fn set_id(&self, frame: &mut Bytes, id: u64) {
        *frame = self::frame(b'=', id, &text(frame));
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    if env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    let mut child = Command::new(env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut told = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let address: SocketAddr = told.next_line().await?.ok_or("no address")?.parse()?;
    let server = Pid::from_raw(i32::try_from(child.id().ok_or("it ended")?)?);

    let connections = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&connections);
    let config = Config::detect_within(Duration::from_secs(1))?;
    let heartbeat = HeartbeatLayer::new(config, mux::ping()).on_connect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let connector = tower::service_fn(|address| async move {
        io::Result::Ok(frames(TcpStream::connect(address).await?))
    });
    let connect = Connect::new(connector, heartbeat, mux::by_id(Frames, Frames));
    let mut service = ServiceBuilder::new()
        .buffer(16)
        .timeout(Duration::from_secs(10))
        .service(Reconnect::new(connect, address));
    let mut ask = async |words: &str| {
        let answer = service.ready().await?.call(frame(b'=', 0, words));
        Ok::<_, BoxError>(text(&answer.await?))
    };

    println!("on the first: {}", ask("hello").await?);
    kill(server, Signal::SIGSTOP)?;
    let error = ask("is anybody there").await.expect_err("it is frozen");
    println!("frozen: {error}");
    let error = HeartbeatError::find(&*error).ok_or("not the heartbeat's")?;
    assert_eq!(error.failure(), Failure::PongTimeout);
    assert_eq!(error.stage(), Stage::AwaitingResponse);

    kill(server, Signal::SIGCONT)?;
    let answer = ask("hello again").await?;
    println!("on the second: {answer}");
    assert_eq!(answer, "HELLO AGAIN");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    Ok(())
}

/// Shouts everything back, answers pings, and lets clients go that fall silent.
async fn serve() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let config = Config::detect_within(Duration::from_secs(60))?;
                let mut client = HeartbeatStream::new(frames(socket), Frames, config).only_answer();
                while let Some(asked) = client.next().await {
                    let asked = asked?;
                    let number = Frames.id(&asked).ok_or("no number")?;
                    let answer = frame(b'=', number, &text(&asked).to_uppercase());
                    client.send(answer).await?;
                }
                Ok::<_, BoxError>(())
            });
        }
    });
    // It ends with its input.
    tokio::io::stdin().read_u8().await.ok();
    exit(0)
}

fn frames(
    socket: TcpStream,
) -> impl Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Unpin + Send {
    LengthDelimitedCodec::builder()
        .max_frame_length(65_536)
        .new_framed(socket)
        .map_ok(BytesMut::freeze)
}

fn frame(kind: u8, number: u64, text: &str) -> Bytes {
    [&[kind][..], &number.to_be_bytes(), text.as_bytes()]
        .concat()
        .into()
}

fn text(frame: &Bytes) -> String {
    String::from_utf8_lossy(frame.get(9..).unwrap_or_default()).into()
}
