//! When a request is over.

use crate::link::InFlight;

/// Says until when a response keeps its request in flight.
///
/// The heartbeat's counterpart of tower's [`load::completion::TrackCompletion`]: an
/// implementation attaches `in_flight` to whatever part of the response lives longest, reports
/// signs of life to it, and drops it at the end.
///
/// [`load::completion::TrackCompletion`]: https://docs.rs/tower/latest/tower/load/completion/trait.TrackCompletion.html
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
