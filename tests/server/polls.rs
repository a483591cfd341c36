//! How often a connection is polled because of its limits.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::rt::TokioIo;

use crate::support::{Client, Server, get, limits, ms};

#[tokio::test(start_paused = true)]
async fn a_limit_that_runs_under_each_request_wakes_its_connection_once() {
    for (http2, most) in [(false, 110), (true, 210)] {
        // Each response is to be written earlier than its connection may idle, so that each begins what is due next.
        let server = Server::new(limits().idle_timeout(ms(300_000)).write_timeout(ms(30_000)));
        let (near, far) = tokio::io::duplex(1 << 20);
        let connection = server
            .connections
            .serve_connection(TokioIo::new(near), server.service());
        let polls = Arc::<AtomicUsize>::default();
        let polled = Arc::clone(&polls);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            poll_fn(|cx| {
                polled.fetch_add(1, Ordering::Relaxed);
                connection.as_mut().poll(cx)
            })
            .await
        });
        let mut client = Client::over(far, http2).await;
        client.ask(get("/now")).await.expect("an answer");
        let before = polls.load(Ordering::Relaxed);
        for _ in 0..100 {
            client.ask(get("/now")).await.expect("an answer");
        }
        let polls = polls.load(Ordering::Relaxed) - before;
        println!("http2 {http2}: {polls} polls for 100 requests");
        assert!(polls <= most, "http2 {http2}: {polls}");
    }
}
