//! What tonic hands from a connection to its calls.

use std::{fmt, sync::Arc};

use http::Extensions;
use tonic::transport::server::Connected;

use crate::{
    h2_io::PingIo,
    server::{handle::Handle, io::ServedIo},
};

/// What a [`ServedIo`] tells tonic of itself: its [`Handle`], and what the IO below it tells. A
/// [`CountLayer`](super::CountLayer) puts both where a call looks for them.
#[derive(Clone)]
pub struct ConnectionInfo {
    handle: Handle,
    /// The inner info, whatever its type.
    inner: Arc<dyn Fn(&mut Extensions) + Send + Sync>,
}

impl ConnectionInfo {
    /// Returns a handle to the connection.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn insert_inner(&self, extensions: &mut Extensions) {
        (self.inner)(extensions);
    }
}

impl<T> Connected for ServedIo<T>
where
    T: Connected,
{
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        let inner = self.get_ref().connect_info();
        ConnectionInfo {
            handle: self.handle(),
            inner: Arc::new(move |extensions| {
                extensions.insert(inner.clone());
            }),
        }
    }
}

/// Below the limits, it tells what the IO below it tells.
impl<T> Connected for PingIo<T>
where
    T: Connected,
{
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> T::ConnectInfo {
        self.get_ref().connect_info()
    }
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
