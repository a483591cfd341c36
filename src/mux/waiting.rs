//! Who waits for an answer, and whose an answer is.

use std::collections::{HashMap, VecDeque, hash_map};

use super::shared::Asker;
use crate::transport::Ids;

/// Those whose requests the transport has.
pub(super) enum Waiting<M> {
    InOrder(VecDeque<Asker<M>>),
    ById(Numbered<M>),
}

pub(super) struct Numbered<M> {
    askers: HashMap<u64, Waiter<M>>,
    last: u64,
    /// With how many those who have left are looked for: they are told by nobody, and their answers
    /// may never come.
    sweep_at: usize,
}

struct Waiter<M> {
    asker: Asker<M>,
    /// The id that the request had before.
    id: Option<u64>,
}

/// Whose a message is.
pub(super) enum Whose<M> {
    Asker(Asker<M>),
    /// An answer to somebody who has left, or to nobody.
    Nobody,
    /// No answer at all.
    Peer,
}

impl<M> Waiting<M> {
    pub(super) fn new(in_order: bool) -> Waiting<M> {
        if in_order {
            Waiting::InOrder(VecDeque::new())
        } else {
            Waiting::ById(Numbered {
                askers: HashMap::new(),
                last: 0,
                sweep_at: LEAST_SWEEP,
            })
        }
    }

    /// `request` is about to be sent. Gives the asker back if no answer to it could be told from others.
    pub(super) fn enter<I>(
        &mut self,
        ids: &I,
        request: &mut M,
        asker: Asker<M>,
    ) -> Result<(), Asker<M>>
    where
        I: Ids<M>,
    {
        match self {
            Waiting::InOrder(askers) => {
                askers.push_back(asker);
                Ok(())
            }
            Waiting::ById(numbered) => numbered.enter(ids, request, asker),
        }
    }

    /// `message` came in, and is no heartbeat.
    pub(super) fn take<I>(&mut self, ids: &I, message: &mut M) -> Whose<M>
    where
        I: Ids<M>,
    {
        match self {
            Waiting::InOrder(askers) => match askers.pop_front() {
                Some(asker) => Whose::Asker(asker),
                None => Whose::Peer,
            },
            Waiting::ById(numbered) => numbered.take(ids, message),
        }
    }

    pub(super) fn drain(&mut self) -> Vec<Asker<M>> {
        match self {
            Waiting::InOrder(askers) => askers.drain(..).collect(),
            Waiting::ById(numbered) => {
                let waiters = numbered.askers.drain();
                waiters.map(|(_, waiter)| waiter.asker).collect()
            }
        }
    }
}

impl<M> Numbered<M> {
    fn enter<I>(&mut self, ids: &I, request: &mut M, asker: Asker<M>) -> Result<(), Asker<M>>
    where
        I: Ids<M>,
    {
        if self.askers.len() >= self.sweep_at {
            self.askers.retain(|_, waiter| !waiter.asker.has_left());
            self.sweep_at = LEAST_SWEEP.max(2 * self.askers.len());
        }
        let own = ids.id(request);
        // A field may be narrower than the count, so what it took is what counts. One of those numbers
        // may mean none.
        for _ in 0..self.askers.len() + 2 {
            self.last = self.last.wrapping_add(1);
            ids.set_id(request, self.last);
            let Some(id) = ids.id(request) else {
                continue;
            };
            if let hash_map::Entry::Vacant(place) = self.askers.entry(id) {
                place.insert(Waiter { asker, id: own });
                return Ok(());
            }
        }
        Err(asker)
    }

    fn take<I>(&mut self, ids: &I, message: &mut M) -> Whose<M>
    where
        I: Ids<M>,
    {
        let Some(id) = ids.id(message) else {
            return Whose::Peer;
        };
        let Some(waiter) = self.askers.remove(&id) else {
            return Whose::Nobody;
        };
        if let Some(own) = waiter.id {
            ids.set_id(message, own);
        }
        Whose::Asker(waiter.asker)
    }
}

/// A field with fewer ids is never swept: its ids come round soon, and a late answer would find
/// another caller.
const LEAST_SWEEP: usize = 4_096;

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::mux::shared::Asker;

    struct Plain;

    impl Ids<u64> for Plain {
        fn id(&self, message: &u64) -> Option<u64> {
            Some(*message)
        }

        fn set_id(&self, message: &mut u64, id: u64) {
            *message = id;
        }
    }

    #[test]
    fn those_who_left_are_not_remembered_for_ever_and_those_who_wait_are() {
        let mut waiting = Waiting::new(false);
        let mut awaited = Vec::new();
        for number in 0..10_000 {
            let (answer, awaiting) = oneshot::channel();
            let asker = Asker {
                answer,
                _place: None,
            };
            let entered = waiting.enter(&Plain, &mut 0, asker);
            assert!(entered.is_ok());
            if number % 100 == 0 {
                awaited.push(awaiting);
            }
        }
        let Waiting::ById(numbered) = &waiting else {
            unreachable!("as it was made")
        };
        let remembered = numbered.askers.len();
        assert!(remembered <= LEAST_SWEEP, "{remembered}");
        for asker in waiting.drain() {
            asker.tell(Ok(7));
        }
        assert!(
            awaited
                .iter_mut()
                .all(|awaiting| awaiting.try_recv().is_ok())
        );
    }
}
