//! Choices that a seed decides.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Another one, which this one decides.
    pub(crate) fn split(&mut self) -> Random {
        Random(self.next())
    }

    /// From `low` to `high`, both included.
    pub(crate) fn from(&mut self, low: usize, high: usize) -> usize {
        let span = u64::try_from(high - low).expect("it fits") + 1;
        low + usize::try_from(self.next() % span).expect("it fits")
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.from(1, 100) <= percent
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
