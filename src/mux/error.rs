//! Why a request has no answer, or no connection came about.

use std::fmt;

use crate::error::{BoxError, HeartbeatError};

/// Why a [`Mux`](super::Mux) has no answer to a request.
///
/// Below a heartbeat that ended the connection this does not show: the [`Heartbeat`](crate::Heartbeat) then says why.
#[derive(Debug)]
#[non_exhaustive]
pub enum MuxError {
    /// The connection takes no more requests, and this one was not handed to the transport: its stage is
    /// [`Stage::NotSent`](crate::Stage::NotSent).
    Refused(HeartbeatError),
    /// The connection ended under the request, which the transport had: its stage is
    /// [`Stage::AwaitingResponse`](crate::Stage::AwaitingResponse).
    GivenUp(HeartbeatError),
    /// The request carried no id of its own after [`Ids::set_id`](crate::transport::Ids::set_id), so it was not sent: its answer could
    /// not have been told from others. It has no place for one, or all that it holds may still be answered. The connection goes on.
    NoId,
}

impl fmt::Display for MuxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MuxError::Refused(_) => "request was not sent",
            MuxError::GivenUp(_) => "request was given up",
            MuxError::NoId => "request carries no id of its own",
        })
    }
}

impl std::error::Error for MuxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MuxError::Refused(error) | MuxError::GivenUp(error) => Some(error),
            MuxError::NoId => None,
        }
    }
}

/// Why no connection came about.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connector failed.
    Connector(BoxError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Connector(_) => f.write_str("connecting failed"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Connector(error) => Some(&**error),
        }
    }
}
