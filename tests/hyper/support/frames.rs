//! A server that speaks HTTP/2 frame by frame (RFC 9113), for what hyper's would not do.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Io;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The server's end of a connection.
pub(crate) struct Frames<T> {
    io: T,
}

impl<T: Io> Frames<T> {
    /// Shakes hands: takes the preface, sends SETTINGS.
    pub(crate) async fn accept(mut io: T) -> Frames<T> {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.expect("a preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Frames { io };
        frames.send(SETTINGS, 0, 0, &[]).await;
        frames
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short payload");
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.io.write_all(&frame).await.expect("the client reads");
    }

    pub(crate) async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.io.read_exact(&mut payload).await?;
        Ok(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// Reads on to the next request and returns its stream.
    pub(crate) async fn request(&mut self) -> u32 {
        loop {
            let frame = self.read().await.expect("a request");
            match (frame.kind, frame.flags) {
                (HEADERS, _) => return frame.stream,
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, &[]).await,
                _ => {}
            }
        }
    }

    /// The head of a response: `:status: 200`, which HPACK's static table has.
    pub(crate) async fn head(&mut self, stream: u32, flags: u8) {
        self.send(HEADERS, END_HEADERS | flags, stream, &[0x88])
            .await;
    }

    pub(crate) async fn data(&mut self, stream: u32, flags: u8, data: &[u8]) {
        self.send(DATA, flags, stream, data).await;
    }

    pub(crate) async fn go_away(&mut self, last_stream: u32, code: u32, debug: &[u8]) {
        let mut payload = last_stream.to_be_bytes().to_vec();
        payload.extend(code.to_be_bytes());
        payload.extend(debug);
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// Reads on to the end and returns the frames that still came.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Ok(frame) = self.read().await {
            frames.push(frame);
        }
        frames
    }
}
