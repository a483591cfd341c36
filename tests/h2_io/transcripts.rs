//! Input that is not what it should be: it passes unchanged, and h2 makes of it what it makes of it
//! without the layer.

use std::fmt::Debug;

use h2::{
    RecvStream, client,
    server::{self, SendResponse},
};
use http::{Request, Response};
use hyper::body::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use tower_heartbeat::{Config, h2_io::PingIo};

use crate::support::{
    Side,
    frames::{
        ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, frame, go_away,
        opening,
    },
    parser::PREFACE,
    peer::millis,
    random::Random,
    socket::{Far, Manners, Socket, socket},
};

#[tokio::test(start_paused = true)]
async fn bad_frames_pass_byte_for_byte() {
    for side in [Side::Client, Side::Server] {
        for bytes in bad(side) {
            passes(side, &bytes).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_http2_pass_byte_for_byte() {
    for side in [Side::Client, Side::Server] {
        for bytes in foreign(side) {
            passes(side, &bytes).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h2_makes_of_bad_frames_what_it_makes_without_the_layer() {
    for side in [Side::Client, Side::Server] {
        for bytes in bad(side) {
            is_the_same_to_h2(side, &bytes).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h2_makes_of_an_exchange_that_is_cut_short_what_it_makes_without_the_layer() {
    for side in [Side::Client, Side::Server] {
        let whole = exchange(side);
        for length in 0..whole.len() {
            is_the_same_to_h2(side, &whole[..length]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h2_makes_of_what_is_not_http2_what_it_makes_without_the_layer() {
    for side in [Side::Client, Side::Server] {
        for bytes in foreign(side) {
            is_the_same_to_h2(side, &bytes).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_and_is_not_http2_passes_byte_for_byte() {
    for side in [Side::Client, Side::Server] {
        for bytes in foreign(side.other()) {
            let (near, far) = socket(Manners::EASY, Random::new(0));
            let mut io = pinged(side, near);
            for part in bytes.chunks(3) {
                io.write_all(part).await.expect("it is taken");
                sleep(millis(5)).await;
            }
            io.shutdown().await.expect("it is taken");
            assert_eq!(far.accepted(), bytes);
        }
    }
}

/// What a peer of `side` may send that is HTTP/2 to begin with. The last thing before its end.
fn bad(side: Side) -> Vec<Vec<u8>> {
    let payload = b"who asks";
    let unknown_ack = frame(PING, ACK, 0, payload);
    let ends = [
        // The beginnings of pongs, and of something else.
        unknown_ack[..1].to_vec(),
        unknown_ack[..9].to_vec(),
        unknown_ack[..16].to_vec(),
        frame(DATA, 0, 1, &[0; 100])[..50].to_vec(),
        // Longer than h2 takes, whole and not.
        frame(DATA, 0, 1, &[7; 16_385]),
        frame(PING, ACK, 0, &[7; 16_385]),
        vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1, 7, 7, 7],
        // Pings that are none.
        frame(PING, ACK, 0, &payload[..7]),
        frame(PING, ACK, 0, b""),
        frame(PING, 0, 0, &[7; 9]),
        frame(PING, ACK, 3, payload),
        frame(PING, 0, 1, payload),
        // Answers to nobody.
        unknown_ack.clone(),
        unknown_ack.repeat(5_000),
        frame(PING, 0xff, 0x8000_0000, payload),
        // What belongs to no stream, or to the wrong one.
        frame(DATA, 0, 0, b"data"),
        frame(HEADERS, END_HEADERS, 2, &[0x88]),
        frame(9, END_HEADERS, 1, &[0x88]),
        frame(SETTINGS, ACK, 0, &[0; 6]),
        frame(SETTINGS, 0, 0, &[0; 5]),
        frame(RST_STREAM, 0, 1, &[0; 3]),
        frame(0xbe, 0xff, 7, &[7; 100]),
        go_away(1, 2, b"oops"),
        go_away(1, 11, b"too_many_pings"),
        // A pong in a header block.
        [frame(HEADERS, 0, 3, &[0x88]), unknown_ack].concat(),
    ];
    let begun = exchange(side);
    ends.map(|end| [&begun[..], &end].concat()).into()
}

/// What a peer of `side` may send that is not HTTP/2.
fn foreign(side: Side) -> Vec<Vec<u8>> {
    let mut foreign = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"PRI * HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 100],
        [&frame(PING, ACK, 0, b"who asks")[..], &exchange(side)].concat(),
    ];
    if side == Side::Server {
        // Its peer is a client.
        foreign.push([PREFACE, &frame(DATA, 0, 1, b"data")].concat());
        foreign.push([PREFACE, &frame(SETTINGS, ACK, 0, b"")].concat());
        foreign.push(frame(SETTINGS, 0, 0, b""));
    } else {
        foreign.push(opening(Side::Client));
    }
    foreign
}

/// A request with a body to a server, or its answer to a client.
fn exchange(side: Side) -> Vec<u8> {
    let head: &[u8] = match side {
        Side::Client => &[0x88],
        // POST, http, /, and the authority "h".
        Side::Server => &[0x83, 0x86, 0x84, 0x41, 1, b'h'],
    };
    [
        opening(side.other()),
        frame(SETTINGS, ACK, 0, b""),
        frame(HEADERS, 0, 1, head),
        frame(9, END_HEADERS, 1, b""),
        frame(DATA, 0, 1, b"some"),
        frame(DATA, END_STREAM, 1, b"thing"),
    ]
    .concat()
}

fn pinged(side: Side, io: Socket) -> PingIo<Socket> {
    let config = Config::builder()
        .interval(millis(1))
        .pong_timeout(millis(1_000_000))
        .build()
        .expect("legal settings");
    match side {
        Side::Client => PingIo::client(io, config),
        Side::Server => PingIo::server(io, config),
    }
}

async fn passes(side: Side, bytes: &[u8]) {
    for size in [1, 5, 1_000, 100_000] {
        let (near, far) = socket(Manners::EASY, Random::new(0));
        let mut io = pinged(side, near);
        io.write_all(&opening(side)).await.expect("it is taken");
        tokio::spawn(send(far, bytes.to_vec(), size));
        let mut read = Vec::new();
        io.read_to_end(&mut read)
            .await
            .expect("no error but the end");
        assert!(read == bytes, "{:?}", &bytes[..bytes.len().min(100)]);
    }
}

/// Once a ping is out, and with pauses long enough for the next.
async fn send(far: Far, bytes: Vec<u8>, size: usize) {
    for part in bytes.chunks(size.max(bytes.len() / 100)) {
        sleep(millis(5)).await;
        far.send(part);
    }
    sleep(millis(5)).await;
    far.finish();
}

async fn is_the_same_to_h2(side: Side, bytes: &[u8]) {
    for size in [1, 1_000] {
        let (near, far) = socket(Manners::EASY, Random::new(0));
        tokio::spawn(send(far, bytes.to_vec(), size));
        let expected = made_of(side, near).await;
        let (near, far) = socket(Manners::EASY, Random::new(0));
        tokio::spawn(send(far, bytes.to_vec(), size));
        let got = made_of(side, pinged(side, near)).await;
        assert_eq!(got, expected, "{:?}", &bytes[..bytes.len().min(100)]);
    }
}

/// All that h2 tells of what comes in, to the end.
async fn made_of<T>(side: Side, io: T) -> Vec<String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut told = Vec::new();
    let made = async {
        match side {
            Side::Client => request(io, &mut told).await,
            Side::Server => serve(io, &mut told).await,
        }
    };
    let ended = timeout(millis(100_000), made).await;
    tell(&mut told, "the connection", ended.map_err(|_| "hangs"));
    told
}

async fn request<T>(io: T, told: &mut Vec<String>) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, connection) = client::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("http://h/").body(()).expect("a request");
    match send.send_request(request, true) {
        Err(error) => tell(told, "the request", error),
        Ok((response, _)) => match response.await {
            Err(error) => tell(told, "the response", error),
            Ok(response) => {
                tell(told, "the head", response.status());
                read_body(response.into_body(), told).await;
            }
        },
    }
    connection.await.expect("no panic")
}

async fn serve<T>(io: T, told: &mut Vec<String>) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = server::handshake(io).await?;
    let mut answers = Vec::new();
    let ended = loop {
        match connection.accept().await {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok((request, respond))) => {
                tell(told, "the head", (request.method(), request.uri()));
                answers.push(tokio::spawn(answer(request, respond)));
            }
        }
    };
    drop(connection);
    for answer in answers {
        told.extend(answer.await.expect("no panic"));
    }
    ended
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Vec<String> {
    let mut told = Vec::new();
    read_body(request.into_body(), &mut told).await;
    let answered = respond.send_response(Response::new(()), true);
    tell(&mut told, "the answer", answered.is_ok());
    told
}

async fn read_body(mut body: RecvStream, told: &mut Vec<String>) {
    while let Some(data) = body.data().await {
        let is_over = data.is_err();
        tell(told, "data", data);
        if is_over {
            return;
        }
    }
    tell(told, "trailers", body.trailers().await);
}

fn tell(told: &mut Vec<String>, what: &str, it: impl Debug) {
    told.push(format!("{what}: {it:?}"));
}
