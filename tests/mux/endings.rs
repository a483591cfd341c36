//! Transports that end by themselves, with calls under way.

use std::{
    error::Error as StdError,
    io,
    num::NonZeroU64,
    pin::Pin,
    sync::Barrier,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncWriteExt, duplex},
    time::advance,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, task};
use tokio_util::codec::LinesCodecError;
use tower::{Service, ServiceExt};
use tower_heartbeat::{
    Error, Failure, HeartbeatError, Stage, State,
    mux::{self, MuxError},
    transport::{Ids, Kind, Lines, Protocol},
};

use crate::support::{
    Answer, WithPushes, at_most, by_id, call, config, connect, connect_over, found, in_order, line,
    lines, settle, soon, watch,
};

#[track_caller]
fn assert_given_up(answer: &Answer) {
    let Err(MuxError::GivenUp(error)) = answer else {
        panic!("{answer:?}")
    };
    let told = (error.failure(), error.stage());
    assert_eq!(told, (Failure::Transport, Stage::AwaitingResponse));
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    let Err(MuxError::Refused(error)) = answer else {
        panic!("{answer:?}")
    };
    let told = (error.failure(), error.stage());
    assert_eq!(told, (Failure::Transport, Stage::NotSent));
}

#[tokio::test(start_paused = true)]
async fn the_peers_end_fails_what_was_sent_and_what_was_not_each_with_its_stage() {
    let (mut mux, running, mut far) = connect_over(&in_order(), 16);
    let sent = call(&mut mux, "sent").await;
    assert_eq!(line(&mut far).await, "sent");
    // Framed takes 8 KiB before it says that it is full.
    let mut calls = Vec::new();
    for _ in 0..180 {
        calls.push(call(&mut mux, &"x".repeat(60)).await);
        settle().await;
    }
    let unsent = calls.pop().expect("many");
    let ready = mux.ready().await.expect("open").clone();
    far.get_mut().shutdown().await.expect("open");
    assert_given_up(&soon("an end", sent).await);
    assert_refused(&soon("an end", unsent).await);
    let error = mux.ready().await.expect_err("closed");
    assert_eq!(found(&error), (Failure::Transport, Stage::NotSent));
    assert!(error.source().expect("why").source().is_none());
    assert_refused(&mux.call("after the end".into()).await);
    drop(ready);
    running.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_is_told_of_the_end() {
    for builder in [
        in_order().max_in_flight(at_most(1)),
        in_order().max_queued(at_most(1)),
    ] {
        let (near, far) = duplex(64);
        let (mut mux, connection) = builder.pair(lines(near));
        // It never calls.
        let mut holder = mux.clone();
        holder.ready().await.expect("open");
        let mut ready = task::spawn(mux.ready());
        assert_pending!(ready.poll());
        drop(connection);
        assert!(ready.is_woken());
        let error = assert_ready_err!(ready.poll());
        assert_eq!(found(&error), (Failure::Transport, Stage::NotSent));
        drop((ready, holder, far));
    }
}

#[tokio::test(start_paused = true)]
async fn the_transports_error_is_the_source() {
    let (mut mux, _running, mut far) = connect(&by_id());
    let asked = call(&mut mux, "0 hello").await;
    line(&mut far).await;
    far.get_mut().write_all(&[b'x'; 100]).await.expect("read");
    let answer = soon("an end", asked).await;
    assert_given_up(&answer);
    let error = answer.expect_err("it is");
    let error = HeartbeatError::find(&error).expect("why");
    let source = error.source().expect("the codec's");
    assert!(source.is::<LinesCodecError>(), "{source}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_before_a_write_failed_is_an_answer() {
    /// Takes one message, answers it, and takes no more.
    #[derive(Default)]
    struct Half {
        taken: Option<String>,
        waker: Option<std::task::Waker>,
    }
    impl Stream for Half {
        type Item = io::Result<String>;
        fn poll_next(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<io::Result<String>>> {
            self.waker = Some(cx.waker().clone());
            match self.taken.take() {
                Some(line) => Poll::Ready(Some(Ok(line))),
                None => Poll::Pending,
            }
        }
    }
    impl Sink<String> for Half {
        type Error = io::Error;
        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(match self.taken {
                Some(_) => Err(io::ErrorKind::BrokenPipe.into()),
                None => Ok(()),
            })
        }
        fn start_send(mut self: Pin<&mut Self>, line: String) -> io::Result<()> {
            self.taken = Some(line);
            Ok(())
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    let (mut mux, connection) = in_order().pair(Half::default());
    let first = call(&mut mux, "first").await;
    let second = call(&mut mux, "second").await;
    tokio::spawn(connection);
    assert_eq!(soon("an answer", first).await.expect("it came"), "first");
    let second = soon("an end", second).await;
    assert_refused(&second);
    let error = second.expect_err("it is");
    let error = HeartbeatError::find(&error).expect("why");
    assert!(error.source().expect("the transport's").is::<io::Error>());
}

/// Brings a push whenever it is asked, and takes nothing, or closes at once.
struct Flood {
    is_broken: bool,
}

impl Stream for Flood {
    type Item = io::Result<String>;
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<String>>> {
        Poll::Ready(Some(Ok("!push".into())))
    }
}

impl Sink<String> for Flood {
    type Error = io::Error;
    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.is_broken {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        })
    }
    fn start_send(self: Pin<&mut Self>, _: String) -> io::Result<()> {
        Ok(())
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_flood_does_not_hold_up_the_end_of_a_transport_that_takes_nothing() {
    let builder = mux::in_order(WithPushes(Lines::new()));
    let (mut mux, connection) = builder.pair(Flood { is_broken: true });
    let asked = call(&mut mux, "hello").await;
    let running = tokio::spawn(connection);
    assert_refused(&soon("an end", asked).await);
    running.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_flood_holds_up_the_close_handshake_for_half_a_second_at_most() {
    #[derive(Clone)]
    struct Shaking(Lines);
    impl Protocol for Shaking {
        type Message = String;
        fn classify(&self, line: &String) -> Kind {
            self.0.classify(line)
        }
        fn ping(&mut self, nonce: NonZeroU64) -> Option<String> {
            self.0.ping(nonce)
        }
        fn pong(&mut self, ping: &String) -> Option<String> {
            self.0.pong(ping)
        }
        fn has_close_handshake(&self) -> bool {
            true
        }
    }

    let builder = mux::in_order(Shaking(Lines::new()));
    let (mux, connection) = builder.pair(Flood { is_broken: false });
    drop(mux);
    let mut connection = task::spawn(connection);
    for _ in 0..100 {
        assert_pending!(connection.poll());
        assert!(connection.is_woken());
    }
    advance(Duration::from_millis(501)).await;
    assert_ready!(connection.poll());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_dropped_fails_whoever_waits() {
    let (mut mux, running, mut far) = connect(&in_order());
    let sent = call(&mut mux, "hello").await;
    line(&mut far).await;
    running.abort();
    let answer = soon("an end", sent).await;
    assert_given_up(&answer);
    let error = mux.ready().await.expect_err("gone");
    assert_eq!(found(&error), (Failure::Transport, Stage::NotSent));
    assert!(far.next().await.is_none());

    let (near, _far) = duplex(64);
    let (mut mux, connection) = in_order().pair(lines(near));
    let unsent = call(&mut mux, "hello").await;
    drop(connection);
    assert_refused(&unsent.await);
}

#[test]
fn a_call_that_meets_the_end_is_told() {
    let places = at_most(1_000_000);
    for _ in 0..30 {
        let (near, _far) = duplex(64);
        let builder = in_order().max_in_flight(places).max_queued(places);
        let (mux, connection) = builder.pair(lines(near));
        // More than there are cores, so that some are interrupted as they call.
        let both = Barrier::new(17);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..16)
                .map(|_| {
                    let (mut mux, both) = (mux.clone(), &both);
                    scope.spawn(move || {
                        both.wait();
                        let mut calls = Vec::new();
                        while let Poll::Ready(Ok(ready)) = task::spawn(mux.ready()).poll() {
                            calls.push(ready.call("hello".into()));
                        }
                        calls
                    })
                })
                .collect();
            both.wait();
            thread::sleep(Duration::from_micros(200));
            drop(connection);
            for caller in callers {
                for call in caller.join().expect("no panic") {
                    assert_refused(&assert_ready!(task::spawn(call).poll()));
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_protocols_code_ends_the_connection_and_says_so() {
    #[derive(Clone)]
    struct Bad;
    impl Protocol for Bad {
        type Message = String;
        fn classify(&self, line: &String) -> Kind {
            assert!(line != "classify", "no such line");
            Kind::Data
        }
        fn ping(&mut self, _: NonZeroU64) -> Option<String> {
            None
        }
        fn pong(&mut self, _: &String) -> Option<String> {
            None
        }
    }
    impl Ids<String> for Bad {
        fn id(&self, line: &String) -> Option<u64> {
            assert!(!line.contains("id"), "no such line");
            Some(7)
        }
        fn set_id(&self, _: &mut String, _: u64) {}
    }

    for (request, answer) in [("hello", "classify"), ("hello", "id"), ("id", "")] {
        let (mut mux, running, mut far) = connect(&mux::by_id(Bad, Bad));
        let asked = call(&mut mux, request).await;
        if !answer.is_empty() {
            line(&mut far).await;
            far.send(answer).await.expect("open");
        }
        let told = soon("an end", asked).await.expect_err("it panicked");
        assert_eq!(found(&told), (Failure::Transport, Stage::AwaitingResponse));
        running.await.expect("caught");
        let error = mux.ready().await.expect_err("over");
        let error = HeartbeatError::find(&error).expect("why");
        let source = error.source().expect("the panic").to_string();
        assert_eq!(source, "panicked: no such line");
    }
}

#[tokio::test(start_paused = true)]
async fn below_a_heartbeat_the_peers_end_is_its_end_as_well() {
    let (mut service, handle, mut far) = watch(&mux::in_order(Lines::new()), config());
    let asked = service.ready().await.expect("open").call("hello".into());
    line(&mut far).await;
    drop(far);
    let error = soon("an end", asked).await.expect_err("closed");
    let Error::Inner(MuxError::GivenUp(error)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.stage(), Stage::AwaitingResponse);
    let error = service.ready().await.expect_err("closed");
    let error = error.heartbeat().expect("the heartbeat's");
    assert_eq!(
        (error.failure(), error.stage()),
        (Failure::Transport, Stage::NotSent)
    );
    assert_eq!(soon("an end", handle.closed()).await, Failure::Transport);
    assert_eq!(handle.state(), State::Dead);
}
