//! When a request is over.

use crate::link::InFlight;

/// Says until when a response keeps its request in flight.
///
/// The heartbeat's counterpart of tower's [`load::completion::TrackCompletion`]: an
/// implementation attaches `in_flight` to whatever part of the response lives longest, reports
/// signs of life to it, and drops it at the end.
///
/// [`load::completion::TrackCompletion`]: https://docs.rs/tower/latest/tower/load/completion/trait.TrackCompletion.html
///
/// ```
/// use std::{pin::Pin, task::{Context, Poll}};
/// use futures_util::{Stream, StreamExt};
/// use tower_heartbeat::{HeartbeatError, InFlight, Stage, TrackCompletion};
///
/// /// For responses that are streams: over when the stream is.
/// #[derive(Clone)]
/// struct CompleteOnStream;
///
/// struct Tracked<S> {
///     stream: S,
///     in_flight: Option<InFlight>,
/// }
///
/// impl<S> TrackCompletion<S> for CompleteOnStream {
///     type Output = Tracked<S>;
///
///     fn track_completion(&self, in_flight: InFlight, stream: S) -> Tracked<S> {
///         Tracked { stream, in_flight: Some(in_flight) }
///     }
/// }
///
/// impl<S: Stream + Unpin> Stream for Tracked<S> {
///     type Item = Result<S::Item, HeartbeatError>;
///
///     fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
///         let this = &mut *self;
///         let Some(in_flight) = &mut this.in_flight else {
///             return Poll::Ready(None);
///         };
///         match this.stream.poll_next_unpin(cx) {
///             Poll::Ready(Some(item)) => {
///                 in_flight.heard();
///                 Poll::Ready(Some(Ok(item)))
///             }
///             Poll::Ready(None) => {
///                 this.in_flight = None;
///                 Poll::Ready(None)
///             }
///             Poll::Pending => in_flight.poll_ended(cx, Stage::Streaming).map(|error| {
///                 this.in_flight = None;
///                 Some(Err(error))
///             }),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't track the completion of `{Response}`",
    note = "`CompleteOnResponse` takes any response, `http::CompleteOnBody` an `http::Response`"
)]
pub trait TrackCompletion<Response>: Clone {
    /// The response as the caller sees it.
    type Output;

    /// Attaches `in_flight` to `response`.
    fn track_completion(&self, in_flight: InFlight, response: Response) -> Self::Output;
}

/// A request is over with its response: for responses that are one message. The default.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CompleteOnResponse;

impl<Response> TrackCompletion<Response> for CompleteOnResponse {
    type Output = Response;

    #[inline]
    fn track_completion(&self, in_flight: InFlight, response: Response) -> Response {
        drop(in_flight);
        response
    }
}
