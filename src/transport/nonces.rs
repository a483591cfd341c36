//! Which pings are out.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    num::NonZeroU64,
};

/// The nonces of the pings that were written and have no pong yet, oldest first. One of them is
/// awaited at most; the others were given up for other signs of life, and may be answered still.
pub(crate) struct Nonces {
    /// Hard to guess, and another one for each connection.
    random: RandomState,
    made: u64,
    out: VecDeque<NonZeroU64>,
}

/// What a pong is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    Newest,
    /// A ping that was given up.
    Older,
    Nothing,
}

impl Nonces {
    pub(crate) fn new() -> Nonces {
        Nonces {
            random: RandomState::new(),
            made: 0,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn next(&mut self) -> NonZeroU64 {
        self.made += 1;
        NonZeroU64::new(self.random.hash_one(self.made)).unwrap_or(NonZeroU64::MIN)
    }

    /// The ping with this nonce was written.
    pub(crate) fn wrote(&mut self, nonce: NonZeroU64) {
        if self.out.len() == REMEMBERED {
            self.out.pop_front();
        }
        self.out.push_back(nonce);
    }

    /// A pong came in. Older pings are answered with a newer one; a pong that doesn't tell which it
    /// answers does for the newest, because a peer may answer several at once.
    pub(crate) fn take(&mut self, nonce: Option<u64>) -> Answers {
        let Some(nonce) = nonce else {
            return match self.out.pop_front() {
                Some(_) => Answers::Newest,
                None => Answers::Nothing,
            };
        };
        let Some(place) = self.out.iter().position(|out| out.get() == nonce) else {
            return Answers::Nothing;
        };
        self.out.drain(..=place);
        if self.out.is_empty() {
            Answers::Newest
        } else {
            Answers::Older
        }
    }
}

/// More are never out but to a peer that sends and answers no ping at all.
const REMEMBERED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_pong_answers_earlier_pings_and_each_counts_once() {
        let mut nonces = Nonces::new();
        let made = [(); 4].map(|()| written(&mut nonces));
        assert_eq!(nonces.take(Some(made[1])), Answers::Older);
        assert_eq!(nonces.take(Some(made[0])), Answers::Nothing);
        assert_eq!(nonces.take(Some(made[3])), Answers::Newest);
        assert_eq!(nonces.take(Some(made[3])), Answers::Nothing);
        assert_eq!(nonces.take(Some(0)), Answers::Nothing);
        assert_eq!(nonces.take(None), Answers::Nothing);
    }

    #[test]
    fn a_pong_without_a_nonce_does_for_the_newest_ping_and_one_a_ping_is_expected() {
        let mut nonces = Nonces::new();
        written(&mut nonces);
        written(&mut nonces);
        assert_eq!(nonces.take(None), Answers::Newest);
        assert_eq!(nonces.take(None), Answers::Newest);
        assert_eq!(nonces.take(None), Answers::Nothing);
    }

    #[test]
    fn not_all_pings_are_remembered_for_ever() {
        let mut nonces = Nonces::new();
        let first = written(&mut nonces);
        for _ in 0..10_000 {
            written(&mut nonces);
        }
        assert_eq!(nonces.out.len(), REMEMBERED);
        assert_eq!(nonces.take(Some(first)), Answers::Nothing);
    }

    fn written(nonces: &mut Nonces) -> u64 {
        let nonce = nonces.next();
        nonces.wrote(nonce);
        nonce.get()
    }
}
