//! Random numbers that depend on a seed and a purpose alone, so that a run is the same everywhere.
//!
//! Not here: what is drawn; see [`super::plan`].

use protocol::rendezvous;

/// A source of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    seed: u64,
    count: u64,
}

impl Draws {
    /// The numbers of `seed` for one purpose; those of another purpose are others.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self { seed: rendezvous::draw(rendezvous::draw(seed, purpose), !purpose), count: 0 }
    }

    /// Any number.
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        rendezvous::draw(self.seed, self.count)
    }

    /// A number below `count`; zero if that is zero.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.next() % count.max(1)
    }

    /// An index below `count`.
    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    /// A number from `least` to `most`, both included.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True `permille` times of a thousand.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of `items`.
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }
}
