//! Which answer is whose.

/// Where a protocol's messages carry the id that ties an answer to its request.
pub trait Ids<M> {
    /// Returns the id in `message`, `None` if it belongs to no request.
    fn id(&self, message: &M) -> Option<u64>;
    /// Writes `id` into `message`.
    fn set_id(&self, message: &mut M, id: u64);
}
