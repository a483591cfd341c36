//! A response body that keeps its request in flight.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    completion::TrackCompletion,
    error::{Error, Stage},
    link::InFlight,
};

/// A request is over when its response's body is complete or dropped.
///
/// Each frame of the body is a sign of life; its errors after the end of the connection are that
/// end. A body that nobody polls is no sign of a dead peer, but for `quiet_timeout`, which sees only
/// that nothing comes.
///
/// ```
/// use tower_heartbeat::{Config, HeartbeatLayer, http::CompleteOnBody, ping};
///
/// let layer = HeartbeatLayer::new(Config::default(), ping::none())
///     .completion(CompleteOnBody::default());
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CompleteOnBody;

impl<B> TrackCompletion<Response<B>> for CompleteOnBody
where
    B: http_body::Body,
{
    type Output = Response<TrackedBody<B>>;

    fn track_completion(&self, in_flight: InFlight, response: Response<B>) -> Self::Output {
        response.map(|inner| TrackedBody {
            progress: if inner.is_end_stream() {
                Progress::Complete
            } else {
                Progress::Streaming { in_flight }
            },
            inner,
        })
    }
}

pin_project! {
    /// A response body on a connection with a heartbeat. Made by [`CompleteOnBody`].
    ///
    /// An error of it is [`Error::Heartbeat`] with [`Stage::Streaming`] once the connection has
    /// ended, after which it yields nothing more; otherwise the inner body's.
    ///
    /// `Unpin` where the inner body is.
    ///
    /// # Ties
    ///
    /// A frame that is there wins over an end of the connection at the same instant.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the request: it is no longer in flight.
    pub struct TrackedBody<B> {
        // Dropped first: the stream ends before it stops counting as in flight.
        #[pin]
        inner: B,
        progress: Progress,
    }
}

#[derive(Debug)]
enum Progress {
    Streaming {
        in_flight: InFlight,
    },
    Complete,
    /// The end of the connection was reported; the inner body is not asked again.
    Cut,
}

impl<B> TrackedBody<B> {
    /// Returns a reference to the inner body.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B> http_body::Body for TrackedBody<B>
where
    B: http_body::Body,
{
    type Data = B::Data;
    type Error = Error<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let in_flight = match this.progress {
            Progress::Streaming { in_flight } => in_flight,
            Progress::Complete => return this.inner.poll_frame(cx).map_err(Error::Inner),
            Progress::Cut => return Poll::Ready(None),
        };
        match this.inner.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                in_flight.heard();
                // Who reads to a known end need not poll once more to see it.
                if this.inner.is_end_stream() {
                    *this.progress = Progress::Complete;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = match in_flight.ended(Stage::Streaming) {
                    Some(ended) => {
                        *this.progress = Progress::Cut;
                        Error::Heartbeat(ended)
                    }
                    None => {
                        *this.progress = Progress::Complete;
                        Error::Inner(error)
                    }
                };
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                *this.progress = Progress::Complete;
                Poll::Ready(None)
            }
            Poll::Pending => in_flight.poll_ended(cx, Stage::Streaming).map(|ended| {
                *this.progress = Progress::Cut;
                Some(Err(Error::Heartbeat(ended)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.progress {
            Progress::Streaming { .. } | Progress::Complete => self.inner.is_end_stream(),
            Progress::Cut => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.progress {
            Progress::Streaming { .. } | Progress::Complete => self.inner.size_hint(),
            Progress::Cut => SizeHint::with_exact(0),
        }
    }
}

impl<B> fmt::Debug for TrackedBody<B>
where
    B: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedBody")
            .field("inner", &self.inner)
            .field("progress", &self.progress)
            .finish()
    }
}
