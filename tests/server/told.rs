//! What hooks, handles and the recorder of metrics are told.

use std::sync::{Arc, Mutex};

use tower_heartbeat::server::{Connections, Event, Handle, Phase, Reason};

use crate::support::{Client, Http1, Server, get, limits, ms, sleep};

#[tokio::test(start_paused = true)]
async fn each_connection_is_told_of_from_its_beginning_to_its_one_end() {
    let server = Server::new(limits().max_age(ms(1_000)).grace(ms(200)));
    let (io, served) = server.connect();
    let mut client = Client::over(io, true).await;
    client.ask(get("/now")).await.expect("an answer");
    served.handle.drain();
    served.handle.drain();
    let end = served.end().await;
    assert_eq!(end.ended.requests(), 1);
    assert_eq!(
        server.events(),
        [
            "Accepted",
            "Opened",
            "Draining(Shutdown)",
            "Ended(Shutdown)"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_says_how_long_and_how_much_it_was() {
    let server = Server::new(limits().idle_timeout(ms(300)));
    let (io, served) = server.connect();
    let mut client = Http1::over(io).await;
    for _ in 0..3 {
        client.ask(get("/slow/100")).await.expect("an answer");
    }
    let end = served.end().await.ended;
    assert_eq!((end.requests(), end.age()), (3, ms(600)));
    assert!(end.error().is_none());
    assert_eq!(
        end.to_string(),
        "connection was idle for too long (after 600.000ms, 3 requests)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_or_closes_harms_nobody() {
    let connections = Connections::new(limits().build().expect("legal"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook_told = Arc::clone(&told);
    let connections = connections.on_event(move |handle: &Handle, event: &Event| {
        hook_told.lock().expect("not poisoned").push(handle.phase());
        match event {
            Event::Opened => handle.close(),
            _ => panic!("a hook"),
        }
    });
    let (near, far) = tokio::io::duplex(1_024);
    let service = hyper::service::service_fn(|_| async {
        Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new()))
    });
    let served = connections.serve_connection(hyper_util::rt::TokioIo::new(near), service);
    let served = tokio::spawn(served);
    let mut client = Http1::over(far).await;
    let _cut_off_or_answered = client.ask(get("/")).await;
    let ended = served.await.expect("it does not panic");
    assert_eq!(ended.reason(), Reason::Closed);
    let told = told.lock().expect("not poisoned").clone();
    assert_eq!(
        told,
        [Phase::Serving, Phase::Serving, Phase::Ended(Reason::Closed)]
    );
}

#[cfg(feature = "metrics")]
#[test]
fn the_recorder_counts_connections_and_their_ends_by_reason() {
    use metrics_exporter_prometheus::PrometheusBuilder;

    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    metrics::with_local_recorder(&recorder, || {
        tower_heartbeat::metrics::describe();
        runtime.block_on(async {
            let server = Server::new(limits().idle_timeout(ms(300)).grace(ms(100)));
            let (_silent, idle) = server.connect();
            let (leaving, left) = server.connect();
            let (stays, stuck) = server.connect();
            let mut client = Client::over(stays, false).await;
            let asked = tokio::spawn(async move { client.ask(get("/slow/9000")).await });
            sleep(10).await;
            assert!(
                figures
                    .render()
                    .contains("tower_heartbeat_served_connections 3")
            );
            drop(leaving);
            left.end().await;
            idle.end().await;
            stuck.handle.close();
            stuck.end().await;
            asked.await.expect("no panic").expect_err("cut off");
        });
    });
    let rendered = figures.render();
    for line in [
        "tower_heartbeat_served_connections 0",
        "tower_heartbeat_served_ends_total{reason=\"idle\",forced=\"false\"} 1",
        "tower_heartbeat_served_ends_total{reason=\"client_closed\",forced=\"false\"} 1",
        "tower_heartbeat_served_ends_total{reason=\"closed\",forced=\"true\"} 1",
    ] {
        assert!(rendered.contains(line), "no {line} in\n{rendered}");
    }
}
