//! redis-server, as a protocol of one's own: answers in order, and a request as the ping.

use std::{io, num::NonZeroU64, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_util::{
    bytes::{Buf, BytesMut},
    codec::{Decoder, Encoder, Framed},
};
use tower::{Service, ServiceExt, service_fn};
use tower_heartbeat::{
    BoxError, Config, Failure, Heartbeat, HeartbeatError, HeartbeatLayer, Stage, State,
    mux::{self, Connect, Mux},
    ping,
    transport::{Kind, Protocol},
};

use super::{
    peer::{MARGIN, Peer},
    support::{millis, secs, soon},
};

/// As much of RESP as a few commands need: requests as arrays of strings, answers of one part.
#[derive(Clone, Copy)]
struct Resp;

type Words = Vec<String>;

impl Encoder<Words> for Resp {
    type Error = io::Error;

    fn encode(&mut self, words: Words, bytes: &mut BytesMut) -> io::Result<()> {
        bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        Ok(())
    }
}

impl Decoder for Resp {
    type Item = Words;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Words>> {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let Some(length) = head.strip_prefix('$') else {
            bytes.advance(end + 2);
            return Ok(Some(vec![head]));
        };
        let length = length.parse::<usize>().map_err(io::Error::other)?;
        let all = end + 2 + length + 2;
        if bytes.len() < all {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&bytes[end + 2..all - 2]).into_owned();
        bytes.advance(all);
        Ok(Some(vec![text]))
    }
}

impl Protocol for Resp {
    type Message = Words;

    fn classify(&self, _: &Words) -> Kind {
        Kind::Data
    }

    fn ping(&mut self, _: NonZeroU64) -> Option<Words> {
        None
    }

    fn pong(&mut self, _: &Words) -> Option<Words> {
        None
    }
}

/// After 200 ms of quiet a ping, 200 ms for its pong.
const BOUND: Duration = millis(400);

fn config() -> Config {
    Config::builder()
        .interval(millis(200))
        .pong_timeout(millis(200))
        .max_missed(1)
        .build()
        .expect("legal settings")
}

async fn connect(peer: &Peer, config: Config) -> Heartbeat<Mux<Words>> {
    let address = peer.address;
    let connector = service_fn(move |()| async move {
        io::Result::Ok(Framed::new(TcpStream::connect(address).await?, Resp))
    });
    let check = |answer: Words| async move {
        match answer[0].as_str() {
            "+PONG" => Ok(()),
            other => Err(format!("answered {other:?} to PING")),
        }
    };
    let ping = ping::request(|| vec!["PING".to_string()]).check(check);
    let mut connect = Connect::new(
        connector,
        HeartbeatLayer::new(config, ping),
        mux::in_order(Resp),
    );
    connect.call(()).await.expect("it listens")
}

async fn ask(connection: &mut Heartbeat<Mux<Words>>, command: &str) -> Result<String, BoxError> {
    let words = command.split(' ').map(String::from).collect();
    let answer = connection.ready().await?.call(words);
    Ok(soon(secs(60), "an end", answer).await?.remove(0))
}

/// How late timers were on this thread while `work` ran on it.
async fn with_lateness<F: Future>(work: F) -> (F::Output, Duration) {
    const TICK: Duration = millis(2);
    let mut latest = Duration::ZERO;
    let looking = async {
        loop {
            let begin = Instant::now();
            sleep(TICK).await;
            latest = latest.max(begin.elapsed().saturating_sub(TICK));
        }
    };
    let output = tokio::select! {
        output = work => output,
        never = looking => never,
    };
    (output, latest)
}

/// One thread: whatever holds up the verdict holds up the timer that is looked at.
#[tokio::test]
async fn a_frozen_redis_is_found_within_interval_and_wait_and_a_new_connection_works_after_the_thaw()
 {
    let Some(peer) = Peer::redis().await else {
        return;
    };
    let mut connection = connect(&peer, config()).await;
    for round in 0..5 {
        assert_eq!(
            ask(&mut connection, "ECHO hello").await.expect("alive"),
            "hello"
        );
        let handle = connection.handle();
        // Several pings; each freeze at another moment between two of them.
        sleep(millis(900 + 37 * round)).await;
        assert!(handle.pongs() >= 2, "{}", handle.pongs());
        let ((error, took), late) = with_lateness(async {
            peer.freeze();
            let begin = Instant::now();
            let error = ask(&mut connection, "ECHO again")
                .await
                .expect_err("frozen");
            (error, begin.elapsed())
        })
        .await;
        println!("redis: {took:?} from the freeze to the error, timers {late:?} late");
        let error = HeartbeatError::find(&*error).expect("the heartbeat's own");
        assert_eq!(error.failure(), Failure::PongTimeout);
        assert_eq!(error.stage(), Stage::AwaitingResponse);
        // A late judge waits once more.
        let margin = if late < millis(10) {
            millis(20)
        } else {
            MARGIN
        };
        assert!(took <= BOUND + margin, "{took:?}, timers {late:?} late");

        peer.thaw();
        connection = connect(&peer, config()).await;
    }
    assert_eq!(
        ask(&mut connection, "ECHO hello").await.expect("alive"),
        "hello"
    );
}

#[tokio::test]
async fn a_redis_that_thaws_within_the_wait_lives_and_no_answer_is_lost_or_mixed_up() {
    let Some(peer) = Peer::redis().await else {
        return;
    };
    let patient = Config::builder()
        .interval(millis(200))
        .pong_timeout(secs(30))
        .build();
    let connection = connect(&peer, patient.expect("legal settings")).await;
    let handle = connection.handle();
    peer.freeze();
    let asked = async {
        let calls = (0..50).map(|number| {
            let mut connection = connection.clone();
            async move { ask(&mut connection, &format!("ECHO {number}")).await }
        });
        futures_util::future::join_all(calls).await
    };
    let thawing = async {
        let begin = Instant::now();
        let (rtt, ()) = tokio::join!(handle.ping_now(), async {
            sleep(millis(500)).await;
            peer.thaw();
        });
        (rtt.expect("a pong"), begin.elapsed())
    };
    let (answers, (rtt, took)) =
        soon(secs(60), "answers", async { tokio::join!(asked, thawing) }).await;
    assert!(rtt >= millis(400) && rtt <= took, "{rtt:?} of {took:?}");
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect("alive"), number.to_string());
    }
    assert_eq!(handle.state(), State::Alive);
}
