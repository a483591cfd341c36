//! What a policy has to know of a request, and the caller alone can say.

/// Says which requests may be sent again although the peer may have acted on them.
///
/// A closure from a request to a `bool` does.
pub trait Idempotent<Request> {
    /// Returns whether sending the request twice does no more than sending it once.
    fn is_idempotent(&self, request: &Request) -> bool;
}

impl<F, Request> Idempotent<Request> for F
where
    F: Fn(&Request) -> bool,
{
    fn is_idempotent(&self, request: &Request) -> bool {
        self(request)
    }
}

/// No request is idempotent: the default.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoneIdempotent;

impl<Request> Idempotent<Request> for NoneIdempotent {
    fn is_idempotent(&self, _: &Request) -> bool {
        false
    }
}

/// Keeps a copy of each request, in case it has to be sent again.
///
/// A closure from a request to an `Option` of one does.
pub trait CloneRequest<Request> {
    /// Returns the copy, or `None` if there is none: the request is then sent once, whatever becomes of it.
    fn clone_request(&self, request: &Request) -> Option<Request>;
}

impl<F, Request> CloneRequest<Request> for F
where
    F: Fn(&Request) -> Option<Request>,
{
    fn clone_request(&self, request: &Request) -> Option<Request> {
        self(request)
    }
}

/// Every request is cloned: the default. An `http::Request` can be where its body can.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByClone;

impl<Request> CloneRequest<Request> for ByClone
where
    Request: Clone,
{
    fn clone_request(&self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}
