//! What a connection says of messages that it drops.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::support::{by_id, call, config, line, settle, tell, watch};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn each_message_that_is_dropped_is_told_in_the_connections_span() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (service, _, mut far) = watch(&by_id(), config());
    let mut mux = service.get_ref().clone();
    drop(call(&mut mux, "0 left").await);
    let asked = call(&mut mux, "0 leaves").await;
    assert_eq!(line(&mut far).await, "1 leaves");
    drop(asked);
    for sent in ["1 late", "9 to nobody", "news!"] {
        tell(&mut far, sent).await;
    }
    settle().await;
    let log = log.0.lock().expect("no panic");
    let log = String::from_utf8_lossy(&log);
    for event in [
        "answer comes too late",
        "answer to no request",
        "message to nobody",
    ] {
        let told = log.lines().filter(|line| line.contains(event));
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 1, "{event}: {log}");
        assert!(told[0].contains("DEBUG heartbeat{id="), "{}", told[0]);
    }
}
