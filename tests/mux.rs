//! Message transports as services.

#![cfg(feature = "transport")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait, and look at the clock"
)]

#[path = "mux/by_id.rs"]
mod by_id;
#[path = "mux/contract.rs"]
mod contract;
#[path = "mux/endings.rs"]
mod endings;
#[path = "mux/events.rs"]
mod events;
#[path = "mux/in_order.rs"]
mod in_order;
#[path = "mux/leaving.rs"]
mod leaving;
#[path = "mux/pings.rs"]
mod pings;
#[path = "mux/stack.rs"]
mod stack;
#[path = "mux/support.rs"]
mod support;
#[cfg(feature = "websocket")]
#[path = "mux/websocket.rs"]
mod websocket;

use std::fmt::Debug;

use tower_heartbeat::{
    mux::{
        Builder, Connect, ConnectError, Connection, InOrder, MakeFuture, Mux, MuxError, MuxPing,
        MuxPong, MuxSource, ResponseFuture,
    },
    transport::Lines,
};

#[test]
fn public_types_are_debug_send_sync_and_unpin() {
    fn is<T: Debug + Send + Sync + Unpin>() {}
    fn is_send<T: Debug + Send + Unpin>() {}
    is::<Builder<Lines, InOrder>>();
    is::<ConnectError>();
    is::<Connect<(), MuxSource, Lines, InOrder>>();
    is_send::<Connection<support::Codec, Lines, InOrder>>();
    is_send::<MakeFuture<Mux<String>>>();
    is::<Mux<String>>();
    is::<MuxError>();
    is::<MuxPing>();
    is::<MuxPong>();
    is::<MuxSource>();
    is::<ResponseFuture<String>>();
}
