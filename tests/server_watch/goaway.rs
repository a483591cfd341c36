//! What sends an HTTP/2 client off.

use std::{future::Future, io::IoSlice, task::Poll};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::task::spawn;
use tower_heartbeat::server::{Connections, Limits, ServedIo};

use crate::socket::Socket;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// GOAWAY with the last stream that there can be and NO_ERROR, and a PING.
const FAREWELL: &[u8] =
    b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0\0\0\x08\x06\0\0\0\0\0farewell";
const ANSWER: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0farewell";
/// The last GOAWAY, where no stream was opened, and where one was.
const LEAVE_0: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
const LEAVE_1: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";
/// Of stream 1: its request, and five bytes of a response.
const REQUEST: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x01\x82";
const DATA: &[u8] = b"\0\0\x05\0\0\0\0\0\x01hello";
const LAST: &[u8] = b"\0\0\0\0\x01\0\0\0\x01";

/// A connection on which both sides have sent their SETTINGS.
async fn open() -> (Socket, ServedIo<Socket>) {
    let socket = Socket::default();
    let connections = Connections::new(Limits::builder().build().expect("legal"));
    let mut io = connections.watch(socket.clone());
    socket.gives(PREFACE);
    socket.gives(SETTINGS);
    io.write_all(SETTINGS).await.expect("room");
    let mut first = vec![0; PREFACE.len() + SETTINGS.len()];
    io.read_exact(&mut first).await.expect("both");
    (socket, io)
}

/// What is there to be read; nothing at the end.
fn read(io: &mut ServedIo<Socket>) -> Option<Vec<u8>> {
    let mut buffer = [0; 100];
    match once(io.read(&mut buffer)) {
        Poll::Ready(read) => {
            let length = read.expect("no error");
            Some(buffer[..length].to_vec())
        }
        Poll::Pending => None,
    }
}

fn once<F: Future>(future: F) -> Poll<F::Output> {
    spawn(future).poll()
}

fn after_settings(socket: &Socket) -> Vec<u8> {
    socket.written()[SETTINGS.len()..].to_vec()
}

#[tokio::test]
async fn a_drain_says_goaway_and_the_end_comes_with_the_answer() {
    let (socket, mut io) = open().await;
    assert_eq!(read(&mut io), None);
    io.handle().drain();
    assert_eq!(read(&mut io), None, "the answer has not come");
    assert_eq!(after_settings(&socket), FAREWELL);
    assert_eq!(socket.flushed(), socket.written().len());
    socket.gives(ANSWER);
    assert_eq!(read(&mut io), Some(vec![]), "nothing but the end");
    assert_eq!(after_settings(&socket), [FAREWELL, LEAVE_0].concat());
    assert_eq!(socket.flushed(), socket.written().len());
}

#[tokio::test]
async fn the_answer_is_cut_out_wherever_it_stands() {
    let (socket, mut io) = open().await;
    io.handle().drain();
    assert_eq!(read(&mut io), None);
    let others: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0somebody";
    socket.gives(&[others, ANSWER, SETTINGS].concat());
    assert_eq!(read(&mut io), Some([others, SETTINGS].concat()));
    assert_eq!(read(&mut io), Some(vec![]));
}

#[tokio::test]
async fn an_answer_in_pieces_is_handed_on_and_is_one() {
    for cut in 1..ANSWER.len() {
        let (socket, mut io) = open().await;
        io.handle().drain();
        assert_eq!(read(&mut io), None);
        socket.gives(&ANSWER[..cut]);
        socket.gives(&ANSWER[cut..]);
        let mut both = read(&mut io).expect("a piece");
        both.extend(read(&mut io).expect("the other"));
        assert_eq!(both, ANSWER);
        assert_eq!(read(&mut io), Some(vec![]), "{cut}");
    }
}

#[tokio::test]
async fn an_answer_of_another_kind_is_none() {
    let (socket, mut io) = open().await;
    // Before it was asked.
    socket.gives(ANSWER);
    assert_eq!(read(&mut io), Some(ANSWER.to_vec()));
    socket.gives(SETTINGS);
    assert!(read(&mut io).is_some());
    io.handle().drain();
    assert_eq!(read(&mut io), None);
    // Not an ACK, and one with other words.
    for other in [
        &b"\0\0\x08\x06\0\0\0\0\0farewell"[..],
        b"\0\0\x08\x06\x01\0\0\0\0farewelL",
    ] {
        socket.gives(other);
        assert_eq!(read(&mut io), Some(other.to_vec()));
    }
    assert_eq!(read(&mut io), None);
}

#[tokio::test]
async fn a_stream_that_was_opened_before_the_answer_is_answered_before_the_end() {
    let (socket, mut io) = open().await;
    io.handle().drain();
    assert_eq!(read(&mut io), None);
    socket.gives(&[REQUEST, ANSWER].concat());
    assert_eq!(read(&mut io), Some(REQUEST.to_vec()));
    assert_eq!(read(&mut io), None);
    io.write_all(&[DATA, LAST].concat()).await.expect("room");
    assert_eq!(read(&mut io), Some(vec![]));
    assert_eq!(
        after_settings(&socket),
        [FAREWELL, DATA, LAST, LEAVE_1].concat()
    );
}

#[tokio::test]
async fn it_waits_for_the_end_of_a_frame_and_cuts_the_write_there() {
    let (socket, mut io) = open().await;
    socket.gives(REQUEST);
    assert!(read(&mut io).is_some());
    io.write_all(&DATA[..3]).await.expect("room");
    io.handle().drain();
    assert_eq!(read(&mut io), None);
    assert_eq!(
        after_settings(&socket),
        &DATA[..3],
        "in the middle of a frame"
    );
    let rest = [&DATA[3..], DATA, LAST].concat();
    let first = io.write(&rest).await.expect("room");
    assert_eq!(first, DATA.len() - 3, "a short write, to the gap");
    io.write_all(&rest[first..]).await.expect("room");
    assert_eq!(
        after_settings(&socket),
        [DATA, FAREWELL, DATA, LAST].concat()
    );
}

#[tokio::test]
async fn a_write_that_was_refused_comes_again_as_it_was() {
    for vectored in [false, true] {
        let (socket, mut io) = open().await;
        socket.gives(REQUEST);
        assert!(read(&mut io).is_some());
        let all = [DATA, LAST].concat();
        socket.takes(&[0]);
        let slices = [IoSlice::new(&all), IoSlice::new(b"")];
        let written = if vectored {
            once(io.write_vectored(&slices))
        } else {
            once(io.write(&all))
        };
        assert!(written.is_pending());
        io.handle().drain();
        assert_eq!(read(&mut io), None, "not before it");
        // The socket sees to it that it is the same.
        io.write_all(&all).await.expect("room");
        assert_eq!(read(&mut io), None);
        assert_eq!(after_settings(&socket), [&all, FAREWELL].concat());
    }
}

#[tokio::test]
async fn what_is_half_written_goes_on_before_anything_else() {
    for takes in 1..FAREWELL.len() {
        let (socket, mut io) = open().await;
        socket.gives(REQUEST);
        assert!(read(&mut io).is_some());
        io.handle().drain();
        socket.takes(&[takes, 0, 0]);
        assert_eq!(read(&mut io), None);
        let all = [DATA, LAST].concat();
        assert!(once(io.write(&all)).is_pending());
        io.write_all(&all).await.expect("room");
        let (go_away, ping) = FAREWELL.split_at(FAREWELL.len() / 2);
        let written = after_settings(&socket);
        let orders = [[go_away, ping, DATA, LAST], [go_away, DATA, ping, LAST]];
        let whole = orders.iter().any(|order| order.concat() == written);
        assert!(whole, "{takes}: {}", written.escape_ascii());
    }
}

#[tokio::test]
async fn a_cut_write_that_was_refused_comes_again_cut() {
    let (socket, mut io) = open().await;
    socket.gives(REQUEST);
    assert!(read(&mut io).is_some());
    io.write_all(&DATA[..3]).await.expect("room");
    io.handle().drain();
    assert_eq!(read(&mut io), None);
    socket.takes(&[0]);
    let rest = [&DATA[3..], DATA, LAST].concat();
    assert!(once(io.write(&rest)).is_pending());
    io.write_all(&rest).await.expect("room");
    assert_eq!(
        after_settings(&socket),
        [DATA, FAREWELL, DATA, LAST].concat()
    );
}

/// Two tasks may drive the two directions.
#[tokio::test]
async fn a_writer_that_waits_for_a_half_goodbye_is_woken_by_whoever_brings_it_out() {
    let (socket, io) = open().await;
    let handle = io.handle();
    let (mut reader, mut writer) = tokio::io::split(io);
    socket.gives(REQUEST);
    reader.read_exact(&mut [0; 10]).await.expect("all");
    handle.drain();
    socket.takes(&[5, 0, 0]);
    let mut buffer = [0; 10];
    let mut read = spawn(reader.read(&mut buffer));
    assert!(read.poll().is_pending());
    let mut write = spawn(writer.write(DATA));
    assert!(write.poll().is_pending());
    assert!(!write.is_woken());
    assert!(read.poll().is_pending());
    assert!(write.is_woken());
    assert!(write.poll().is_ready());
}

#[tokio::test]
async fn a_shutdown_brings_out_what_is_half_written() {
    let (socket, mut io) = open().await;
    io.handle().drain();
    socket.takes(&[5, 0, 0]);
    assert_eq!(read(&mut io), None);
    assert!(once(io.shutdown()).is_pending());
    io.shutdown().await.expect("room");
    assert_eq!(after_settings(&socket), &FAREWELL[..FAREWELL.len() / 2]);
}
