//! A connection that its own handler sends away.

use std::convert::Infallible;

use hyper::{Request, Response, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tower_heartbeat::server::{Connections, Handle, Reason, RequestBody};

use crate::support::{Http1, get, limits};

async fn leave(request: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    let handle = request.extensions().get::<Handle>().expect("it is there");
    handle.drain();
    Ok(Response::new(String::from("bye")))
}

#[tokio::test(start_paused = true)]
async fn the_response_of_a_handler_that_drains_is_told_to_be_the_last() {
    for watched in [false, true] {
        let connections = Connections::new(limits().build().expect("legal"));
        let (near, far) = tokio::io::duplex(1 << 16);
        let near = TokioIo::new(near);
        let task = if watched {
            let io = connections.watch(near);
            let handle = io.handle();
            let service = handle.counted(service_fn(leave));
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _end = builder.serve_connection_with_upgrades(io, service).await;
                handle.ended().expect("its IO is gone")
            })
        } else {
            tokio::spawn(connections.serve_connection(near, service_fn(leave)))
        };
        let mut client = Http1::over(far).await;
        let answer = client.ask(get("/")).await.expect("an answer");
        assert_eq!(answer, ("bye".into(), true), "watched {watched}");
        let ended = task.await.expect("no panic");
        assert_eq!(ended.reason(), Reason::Shutdown);
        assert!(!ended.was_forced());
    }
}
