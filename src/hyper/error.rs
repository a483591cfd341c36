//! Why a connection has no response to give, or did not come about.

use std::fmt;

use crate::error::{BoxError, HeartbeatError};

/// Why a connection of hyper's has no response to a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The connection takes no more requests, and the peer did not take this one: its stage is
    /// [`Stage::NotSent`](crate::Stage::NotSent), and
    /// [`HeartbeatError::find`](crate::HeartbeatError::find) finds it.
    Refused(HeartbeatError),
    /// The connection ended under the request, which may have gone out: its stage is
    /// [`Stage::AwaitingResponse`](crate::Stage::AwaitingResponse).
    GivenUp(HeartbeatError),
    /// hyper's error. Over HTTP/1 it is the request's own (its body failed, say), and the connection
    /// ends with it; over HTTP/2 it may also be the connection's.
    Failed(hyper::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Refused(_) => "request was not taken",
            SendError::GivenUp(_) => "request was given up",
            SendError::Failed(_) => "request failed",
        })
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SendError::Refused(error) | SendError::GivenUp(error) => Some(error),
            SendError::Failed(error) => Some(error),
        }
    }
}

/// Why no connection came about.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connector failed.
    Connector(BoxError),
    /// The handshake failed.
    Handshake(hyper::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::Connector(_) => "connecting failed",
            ConnectError::Handshake(_) => "handshake failed",
        })
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Connector(error) => Some(&**error),
            ConnectError::Handshake(error) => Some(error),
        }
    }
}
