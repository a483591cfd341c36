//! Sequences of frames, an IO to carry them, and a parser to check it.

pub(crate) mod frames;
pub(crate) mod parser;
pub(crate) mod peer;
pub(crate) mod random;
pub(crate) mod socket;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}
