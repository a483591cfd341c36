//! A list of targets that does not change.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use futures_util::Stream;
use tower::discover::Change;

/// Discovers what it was given, and nothing else. Made by
/// [`Endpoints::fixed`](super::Endpoints::fixed).
pub struct Fixed<K, Target> {
    targets: vec::IntoIter<(K, Target)>,
}

impl<K, Target> Fixed<K, Target> {
    pub(super) fn new(targets: impl IntoIterator<Item = (K, Target)>) -> Self {
        let targets: Vec<_> = targets.into_iter().collect();
        Fixed {
            targets: targets.into_iter(),
        }
    }
}

// Nothing in it is pinned.
impl<K, Target> Unpin for Fixed<K, Target> {}

impl<K, Target> Stream for Fixed<K, Target> {
    type Item = Result<Change<K, Target>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.targets.next();
        Poll::Ready(next.map(|(key, target)| Ok(Change::Insert(key, target))))
    }
}

impl<K, Target> fmt::Debug for Fixed<K, Target> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed")
            .field("left", &self.targets.len())
            .finish()
    }
}
