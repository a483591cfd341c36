//! Messages over the simulated network, as lines and as WebSocket's, and who serves them.

use std::{
    fmt::Debug,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::sleep;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async, tungstenite};
use tokio_util::codec::{Framed, LinesCodec};
use tower::{BoxError, service_fn};
use tower_heartbeat::{
    Failure, Handle, HeartbeatError,
    transport::{HeartbeatStream, Lines, Protocol, Serve, WebSocket},
};
use turmoil::net::{TcpListener, TcpStream};

use super::{
    client::{config, dial},
    faults::Teller,
    server::{PORT, SLOW},
};

/// A kind of message transport.
pub(crate) trait Wire: 'static {
    type Protocol: Protocol<Message: Debug + Send> + Send;
    type Transport: Stream<Item = Result<Message<Self>, Self::Error>>
        + Sink<Message<Self>, Error = Self::Error>
        + Send
        + Unpin;
    type Error: std::error::Error + Send + Sync;

    fn connect(socket: TcpStream) -> impl Future<Output = Result<Connection<Self>, BoxError>>;
    fn accept(socket: TcpStream)
    -> impl Future<Output = Result<Connection<Self>, BoxError>> + Send;
    fn message(text: &str) -> Message<Self>;
    fn is(message: &Message<Self>, text: &str) -> bool;
}

pub(crate) type Message<W> = <<W as Wire>::Protocol as Protocol>::Message;
pub(crate) type Connection<W> = HeartbeatStream<<W as Wire>::Transport, <W as Wire>::Protocol>;

pub(crate) struct OfLines;

impl Wire for OfLines {
    type Protocol = Lines;
    type Transport = Framed<TcpStream, LinesCodec>;
    type Error = tokio_util::codec::LinesCodecError;

    async fn connect(socket: TcpStream) -> Result<Connection<Self>, BoxError> {
        let lines = Framed::new(socket, LinesCodec::new_with_max_length(64));
        Ok(HeartbeatStream::new(lines, Lines::new(), config()))
    }

    async fn accept(socket: TcpStream) -> Result<Connection<Self>, BoxError> {
        Self::connect(socket).await
    }

    fn message(text: &str) -> String {
        text.into()
    }

    fn is(message: &String, text: &str) -> bool {
        message == text
    }
}

pub(crate) struct OfWebSocket;

impl Wire for OfWebSocket {
    type Protocol = WebSocket;
    type Transport = WebSocketStream<TcpStream>;
    type Error = tungstenite::Error;

    async fn connect(socket: TcpStream) -> Result<Connection<Self>, BoxError> {
        let (socket, _response) = client_async("ws://server/", socket).await?;
        Ok(HeartbeatStream::new(socket, WebSocket::new(), config()))
    }

    async fn accept(socket: TcpStream) -> Result<Connection<Self>, BoxError> {
        let socket = accept_async(socket).await?;
        Ok(HeartbeatStream::new(socket, WebSocket::new(), config()))
    }

    fn message(text: &str) -> tungstenite::Message {
        tungstenite::Message::text(text)
    }

    fn is(message: &tungstenite::Message, text: &str) -> bool {
        message.to_text().is_ok_and(|message| message == text)
    }
}

/// A client's connection, on which the first exchange was made.
pub(crate) async fn open<W: Wire>() -> Result<Connection<W>, BoxError> {
    let mut connection = W::connect(dial().await?).await?;
    connection.send(W::message("hello")).await?;
    let echo = connection.next().await.ok_or("it ended")??;
    assert!(W::is(&echo, "hello"), "{echo:?}");
    Ok(connection)
}

/// Who pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pings {
    OfTheClient,
    OfBoth,
}

/// What the server has, connection by connection.
#[derive(Clone, Default)]
pub(crate) struct Served(Arc<Mutex<Vec<Handle>>>);

impl Served {
    pub(crate) fn first(&self) -> Handle {
        self.0.lock().expect("no panic")[0].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }
}

/// Serves connections; says "slow" after [`SLOW`], and anything else at once. Tells how each ended.
pub(crate) async fn serve<W: Wire>(
    pings: Pings,
    served: Served,
    teller: Teller,
) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let (served, teller) = (served.clone(), teller.clone());
        tokio::spawn(async move {
            let connection = W::accept(socket).await?;
            let connection = match pings {
                Pings::OfTheClient => connection.only_answer(),
                Pings::OfBoth => connection,
            };
            served.0.lock().expect("no panic").push(connection.handle());
            let echo = service_fn(|message: Message<W>| async move {
                if W::is(&message, "slow") {
                    sleep(SLOW).await;
                }
                Ok::<_, io::Error>(message)
            });
            let end = Serve::new(connection, echo).await;
            let end = end.map_err(|error| failure(&BoxError::from(error)));
            teller.tell(format!("served: {end:?}"));
            Ok::<_, BoxError>(())
        });
    }
}

pub(crate) fn failure(error: &BoxError) -> Option<Failure> {
    HeartbeatError::find(&**error).map(HeartbeatError::failure)
}
