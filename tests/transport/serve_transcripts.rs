//! Each request gets its one answer, whatever heartbeats and limits are between.

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex, split},
    runtime::Builder,
    spawn,
    time::sleep,
};
use tower::{BoxError, limit::ConcurrencyLimit, service_fn};
use tower_heartbeat::transport::{HeartbeatStream, Lines, Serve};

use crate::{
    serve::{Numbers, ended, start},
    support::{lines, millis, settings},
};

#[derive(Clone, Debug)]
enum Said {
    /// A request, and how long it takes.
    Request(u64),
    Ping,
    Pause(u64),
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_request_is_answered_once_in_its_order_or_by_its_id_and_no_ping_is_a_request(
        script in prop::collection::vec(said(), 1..80),
        capacity in 1_usize..64,
        limit in 1_u32..40,
        permits in 1_usize..40,
        is_by_id in any::<bool>(),
    ) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let asked: Vec<_> = requests(&script).collect();
        let pings = script.iter().filter(|said| matches!(said, Said::Ping)).count();
        let mut heard = runtime.block_on(converse(script, capacity, limit, permits, is_by_id));
        let all = heard.len();
        heard.retain(|line| line != "pong");
        // While the transport takes nothing, only the newest is answered.
        prop_assert!(all - heard.len() <= pings);
        prop_assert!(pings == 0 || all > heard.len());
        if is_by_id {
            heard.sort_by_key(|line| line.split_once(": ").and_then(|(id, _)| id.parse::<u64>().ok()));
        }
        let expected: Vec<_> = asked.iter().enumerate().map(|(id, wait)| match is_by_id {
            true => format!("{id}: after {wait}"),
            false => format!("after {wait}"),
        }).collect();
        prop_assert_eq!(heard, expected);
    }
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => (0_u64..60).prop_map(Said::Request),
        2 => Just(Said::Request(0)),
        2 => Just(Said::Ping),
        1 => (0_u64..60).prop_map(Said::Pause),
    ]
}

fn requests(script: &[Said]) -> impl Iterator<Item = u64> {
    script.iter().filter_map(|said| match said {
        Said::Request(wait) => Some(*wait),
        Said::Ping | Said::Pause(_) => None,
    })
}

/// Says all of the script, closes its side, and returns the lines that it heard.
async fn converse(
    script: Vec<Said>,
    capacity: usize,
    limit: u32,
    permits: usize,
    is_by_id: bool,
) -> Vec<String> {
    let (near, far) = duplex(capacity);
    let patient = settings().interval(millis(60_000)).build().expect("legal");
    let near = HeartbeatStream::new(lines(near), Lines::new(), patient).only_answer();
    let sleepy = service_fn(|line: String| async move {
        let (_, wait) = line.split_once(": ").ok_or("no request")?;
        let wait: u64 = wait.parse()?;
        sleep(millis(wait)).await;
        Ok::<_, BoxError>(format!("after {wait}"))
    });
    // Without a permit it is not ready.
    let serve = Serve::new(near, ConcurrencyLimit::new(sleepy, permits));
    let serve = serve.max_concurrent_requests(limit).expect("legal");
    let serving = start(if is_by_id {
        serve.by_id(Numbers)
    } else {
        serve
    });
    let (mut reading, mut writing) = split(far);
    let writer = spawn(async move {
        let mut id = 0;
        for said in script {
            let line = match said {
                Said::Request(wait) => {
                    id += 1;
                    format!("{}: {wait}\n", id - 1)
                }
                Said::Ping => "ping\n".into(),
                Said::Pause(time) => {
                    sleep(millis(time)).await;
                    continue;
                }
            };
            writing
                .write_all(line.as_bytes())
                .await
                .expect("it is read");
        }
        writing.shutdown().await.expect("it closes");
    });
    let reader = spawn(async move {
        let mut read = String::new();
        reading.read_to_string(&mut read).await.expect("text");
        read.lines().map(str::to_string).collect()
    });
    ended(writer).await;
    ended(serving).await.expect("the peer closed");
    ended(reader).await
}
