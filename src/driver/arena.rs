//! Values that stay where they are while others come.

use std::ops::{Index, IndexMut};

use slab::Slab;

/// A slab in chunks. One that doubles would copy all its values at once, and a box for each is
/// slow where thousands come and go together.
pub(super) struct Arena<T> {
    chunks: Vec<Slab<T>>,
    /// Those with room, the one to be filled next at the end.
    open: Vec<usize>,
    length: usize,
}

const CHUNK: usize = 256;

/// How many the chunk takes. The first is for a driver of one connection, of which there may be many.
fn room(number: usize) -> usize {
    if number == 0 { 1 } else { CHUNK }
}

impl<T> Arena<T> {
    pub(super) fn new() -> Arena<T> {
        Arena {
            chunks: Vec::new(),
            open: Vec::new(),
            length: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        let number = self.open.last().copied().unwrap_or_else(|| {
            self.chunks.push(Slab::new());
            self.open.push(self.chunks.len() - 1);
            self.chunks.len() - 1
        });
        let chunk = &mut self.chunks[number];
        if chunk.capacity() == 0 {
            chunk.reserve_exact(room(number));
        }
        let place = chunk.insert(value);
        self.length += 1;
        if chunk.len() == room(number) {
            self.open.pop();
        }
        number * CHUNK + place
    }

    pub(super) fn remove(&mut self, key: usize) -> T {
        let (number, place) = (key / CHUNK, key % CHUNK);
        let chunk = &mut self.chunks[number];
        if chunk.len() == room(number) {
            self.open.push(number);
        }
        self.length -= 1;
        chunk.remove(place)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let values = self.chunks.iter_mut().flatten();
        values.map(|(_, value)| value)
    }

    /// Gives back empty chunks, but for one. Returns below which key all values are.
    pub(super) fn shrink(&mut self) -> usize {
        let empty = self.chunks.iter_mut().filter(|chunk| chunk.is_empty());
        for chunk in empty.skip(1) {
            *chunk = Slab::new();
        }
        while let Some(last) = self.chunks.last()
            && last.capacity() == 0
        {
            self.chunks.pop();
        }
        let length = self.chunks.len();
        self.open.retain(|number| *number < length);
        length * CHUNK
    }

    /// Whether there is so much empty that it is worth while.
    pub(super) fn is_sparse(&self) -> bool {
        self.open.len() > 4 && self.open.len() > self.chunks.len() / 2
    }
}

impl<T> Index<usize> for Arena<T> {
    type Output = T;

    fn index(&self, key: usize) -> &T {
        &self.chunks[key / CHUNK][key % CHUNK]
    }
}

impl<T> IndexMut<usize> for Arena<T> {
    fn index_mut(&mut self, key: usize) -> &mut T {
        &mut self.chunks[key / CHUNK][key % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_keys_while_others_come_and_go() {
        let mut arena = Arena::new();
        let mut kept = Vec::new();
        for n in 0..10 * CHUNK {
            let key = arena.insert(n);
            if n % 7 == 0 {
                assert_eq!(arena.remove(key), n);
            } else {
                kept.push((key, n));
            }
        }
        for &(key, n) in &kept {
            assert_eq!(arena[key], n);
        }
        let mut all: Vec<_> = arena.iter_mut().map(|n| *n).collect();
        all.sort_unstable();
        assert!(all.iter().eq(kept.iter().map(|(_, n)| n)));
    }

    #[test]
    fn nobody_moves_when_others_come() {
        let mut arena = Arena::new();
        let first = arena.insert(0);
        let address = std::ptr::from_ref(&arena[first]);
        for n in 1..100 * CHUNK {
            arena.insert(n);
        }
        assert_eq!(std::ptr::from_ref(&arena[first]), address);
    }

    #[test]
    fn a_single_value_takes_the_room_of_one() {
        let mut arena = Arena::new();
        for n in 0..3 {
            let key = arena.insert(n);
            arena.remove(key);
        }
        assert_eq!((arena.chunks.len(), arena.chunks[0].capacity()), (1, 1));
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let mut arena = Arena::new();
        let keys: Vec<_> = (0..20 * CHUNK).map(|n| arena.insert(n)).collect();
        assert!(!arena.is_sparse());
        for key in &keys[CHUNK..] {
            arena.remove(*key);
        }
        assert!(arena.is_sparse());
        assert!(arena.shrink() <= 3 * CHUNK);
        assert!(!arena.is_sparse());
        let again: Vec<_> = (0..3 * CHUNK).map(|n| arena.insert(n)).collect();
        for (n, key) in again.iter().enumerate() {
            assert_eq!(arena[*key], n);
        }
        for (n, key) in keys[..CHUNK].iter().enumerate() {
            assert_eq!(arena.remove(*key), n);
        }
    }
}
