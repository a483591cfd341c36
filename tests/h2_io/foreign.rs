//! Bytes that are not HTTP/2: they pass, and it shows that nobody pings.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::sleep,
};
use tower_heartbeat::{Config, Failure, State, h2_io::PingIo};

const SECOND: Duration = Duration::from_secs(1);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn cases() -> [(&'static str, Vec<u8>, &'static [u8]); 5] {
    let http2 = [PREFACE, SETTINGS].concat();
    [
        (
            "HTTP/1",
            b"GET / HTTP/1.1\r\n\r\n".into(),
            b"HTTP/1.1 200 OK\r\n\r\n",
        ),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01".into(),
            b"\x16\x03\x03\x00\x7a",
        ),
        (
            "the preface of another version",
            b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n".into(),
            SETTINGS,
        ),
        (
            "a preface without settings",
            [PREFACE, &[0; 9]].concat(),
            SETTINGS,
        ),
        (
            "an answer in HTTP/1",
            http2,
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn they_pass_unchanged_and_the_handle_says_that_nobody_pings() {
    for (name, sent, answered) in cases() {
        let (near, mut far) = duplex(4096);
        let config = Config::builder()
            .detect_within(SECOND)
            .idle_timeout(10 * SECOND)
            .build()
            .expect("legal settings");
        let mut io = PingIo::client(near, config);
        let handle = io.handle();
        assert!(handle.can_ping());
        io.write_all(&sent).await.expect("it is open");
        io.flush().await.expect("it is open");
        far.write_all(answered).await.expect("it is open");
        let mut read = vec![0; answered.len()];
        io.read_exact(&mut read).await.expect("an answer");
        assert_eq!(read, answered, "{name}");

        let (reader, _writer) = tokio::io::split(io);
        let reading = tokio::spawn(async move {
            let mut reader = reader;
            reader.read_u8().await
        });
        sleep(SECOND / 100).await;
        assert!(!handle.can_ping(), "{name}");
        // Neither a ping nor the idle limit.
        sleep(100 * SECOND).await;
        assert_eq!(handle.state(), State::Alive, "{name}");
        assert_eq!(handle.in_flight(), 1, "{name}");
        let error = handle.ping_now().await.expect_err("it cannot");
        assert_eq!(error.failure(), Failure::Unsupported, "{name}");
        let mut received = vec![0; sent.len()];
        far.read_exact(&mut received).await.expect("what was sent");
        assert_eq!(received, sent, "{name}");

        handle.close();
        assert!(reading.await.expect("no panic").is_err(), "{name}");
        let mut rest = Vec::new();
        drop(_writer);
        far.read_to_end(&mut rest).await.expect("the end");
        assert!(rest.is_empty(), "{name}: {rest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_quiet_limit_goes_on_by_bytes() {
    let (near, _far) = duplex(4096);
    let config = Config::builder()
        .quiet_timeout(5 * SECOND)
        .build()
        .expect("legal settings");
    let mut io = PingIo::client(near, config);
    let handle = io.handle();
    io.write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("it is open");
    let error = io.read_u8().await.expect_err("nobody answers");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(handle.failure(), Some(Failure::ReadTimeout));
}
