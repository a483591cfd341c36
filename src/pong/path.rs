//! A path as a ping.

use http::{Method, Request, Response, StatusCode};

use super::{PongLayer, Pongs};
use crate::config::{ConfigError, Setting};

/// Answers `GET` and `HEAD` of one path. Made by [`PongLayer::path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPongs {
    path: String,
    status: StatusCode,
}

impl PongLayer<PathPongs> {
    /// Answers `GET` and `HEAD` requests for `path`, such as `/health`, with the status 200 and the default of the service's response
    /// body, which has to be an empty one: `Empty`, `Full`, and the bodies of axum and tonic are such. A query is
    /// ignored, the host too; other methods and other paths, one with a slash behind it included, go to the service.
    ///
    /// Over HTTP/1 one exchange comes after the other, so a ping waits for the response before it; ask on
    /// a connection of its own, or over HTTP/2.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use hyper::body::Bytes;
    /// use tower::{Layer, Service, ServiceExt, service_fn};
    /// use tower_heartbeat::{BoxError, pong::PongLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let hangs = service_fn(|_: Request<()>| std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>());
    /// let mut service = PongLayer::path("/health")?.layer(hangs);
    /// let response = service.ready().await?.call(Request::get("/health").body(())?).await?;
    /// assert_eq!(response.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotAPath`]: `path` doesn't begin with a slash, or has something in it that no path has (a query, a
    /// space).
    pub fn path(path: impl Into<String>) -> Result<Self, ConfigError> {
        let path = path.into();
        let parsed = http::uri::PathAndQuery::try_from(path.as_str());
        if !path.starts_with('/') || parsed.ok().is_none_or(|parsed| parsed.path() != path) {
            return Err(ConfigError::NotAPath {
                setting: Setting::PongPath,
            });
        }
        Ok(PongLayer::from_pongs(PathPongs {
            path,
            status: StatusCode::OK,
        }))
    }

    /// Answers with the status 204, which says that there is no body. Default: 200, which all load balancers take.
    #[must_use]
    pub fn no_content(self) -> Self {
        PongLayer::from_pongs(PathPongs {
            status: StatusCode::NO_CONTENT,
            ..(*self.pongs).clone()
        })
    }
}

impl<A, B> Pongs<Request<A>, Response<B>> for PathPongs
where
    B: Default,
{
    fn pong(&self, request: &Request<A>) -> Option<Response<B>> {
        let asks = matches!(*request.method(), Method::GET | Method::HEAD);
        if !asks || request.uri().path() != self.path {
            return None;
        }
        let mut response = Response::new(B::default());
        *response.status_mut() = self.status;
        Some(response)
    }
}
