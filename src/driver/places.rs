//! Where a driver has its connections.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use crate::link::Link;

/// The connections of a driver, by id.
pub(super) struct Places<G> {
    table: Vec<Option<Place<G>>>,
    /// The lowest first, so that the high ones come free and can be given back. Those beyond the
    /// table were given back already.
    free: BinaryHeap<Reverse<u32>>,
    taken: usize,
}

pub(super) struct Place<G> {
    pub(super) link: Arc<Link>,
    pub(super) state: State<G>,
}

pub(super) enum State<G> {
    Resting(G),
    /// Its key among those that are awake.
    Awake(usize),
}

impl<G> Places<G> {
    pub(super) fn new() -> Places<G> {
        Places {
            table: Vec::new(),
            free: BinaryHeap::new(),
            taken: 0,
        }
    }

    /// How many ids are taken.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    pub(super) fn take_id(&mut self) -> u32 {
        self.taken += 1;
        if let Some(Reverse(id)) = self.free.pop() {
            if (id as usize) < self.table.len() {
                return id;
            }
            // So are all others: nobody may get one of them twice.
            self.free.clear();
        }
        self.table.push(None);
        // Ids wrap far beyond what fits into memory.
        (self.table.len() - 1) as u32
    }

    pub(super) fn give_id_back(&mut self, id: u32) {
        self.taken -= 1;
        self.free.push(Reverse(id));
    }

    /// Whoever takes a connection puts it back, or gives its id back. An id may outlive its
    /// connection.
    pub(super) fn take(&mut self, id: u32) -> Option<Place<G>> {
        self.table.get_mut(id as usize)?.take()
    }

    pub(super) fn put(&mut self, id: u32, place: Place<G>) {
        self.table[id as usize] = Some(place);
    }

    pub(super) fn get(&self, id: u32) -> Option<&Place<G>> {
        self.table.get(id as usize)?.as_ref()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Place<G>> {
        self.table.drain(..).flatten()
    }

    /// Gives back the highest places, if many of them are free. Returns below which id all are then.
    pub(super) fn shrink(&mut self) -> Option<usize> {
        let spare = self.table.iter().rev().take_while(|place| place.is_none());
        let length = self.table.len() - spare.count();
        if self.table.len() - length < WORTH_WHILE {
            return None;
        }
        self.table.truncate(length);
        if self.table.capacity() > 2 * length + WORTH_WHILE {
            self.table.shrink_to_fit();
        }
        if self.free.len() > 2 * length + WORTH_WHILE {
            self.free.retain(|Reverse(id)| (*id as usize) < length);
            self.free.shrink_to_fit();
        }
        Some(length)
    }
}

const WORTH_WHILE: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::driver::BoxPinger;

    #[test]
    fn a_connection_at_rest_has_a_small_place() {
        assert_eq!(size_of::<Option<Place<BoxPinger>>>(), 24);
        assert_eq!(size_of::<Link>(), 64);
    }

    #[test]
    fn no_id_is_taken_twice_whatever_was_given_back() {
        let mut places = Places::<()>::new();
        let mut taken: HashSet<u32> = HashSet::new();
        // Full, then all but a few, again and again, with what is free at the end cut off.
        for round in 0..20_u32 {
            for _ in 0..1_000 * (round % 3 + 1) {
                let id = places.take_id();
                assert!(taken.insert(id), "{id} is taken");
            }
            let back: Vec<u32> = taken
                .iter()
                .copied()
                .filter(|id| id % 7 != 0 || round % 4 == 3)
                .collect();
            for id in back {
                taken.remove(&id);
                places.give_id_back(id);
            }
            assert_eq!(places.len(), taken.len());
            // Nothing was put anywhere, so all places look free.
            let kept = taken.iter().max().map_or(0, |id| *id as usize + 1);
            places.table.truncate(kept);
        }
    }

    #[test]
    fn high_places_that_are_free_are_given_back() {
        let mut places = Places::<()>::new();
        for _ in 0..10_000 {
            places.take_id();
        }
        for id in 1..10_000 {
            places.give_id_back(id);
        }
        assert_eq!(places.shrink(), Some(0), "nobody was put anywhere");
        assert!(places.table.capacity() <= WORTH_WHILE && places.free.capacity() <= WORTH_WHILE);
        assert_eq!(places.shrink(), None);
    }
}
