//! A set of small indices (units or pieces of one blob), dense and ordered.
//!
//! Not here: what an index means; see [`crate::geometry`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The longest set that is read: the units of the largest blob.
const LENGTH_MAX: u32 = 1 << 24;

/// A set of indices below a fixed length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Bits {
    words: Vec<u64>,
    length: u32,
    count: u32,
}

impl Bits {
    /// The empty set of indices below `length`.
    pub fn new(length: u32) -> Self {
        Self { words: vec![0; length.div_ceil(64) as usize], length, count: 0 }
    }

    /// The set of all indices below `length`.
    pub fn full(length: u32) -> Self {
        let mut bits = Self::new(length);
        bits.insert_range(0..length);
        bits
    }

    /// One more than the largest index the set may hold.
    #[inline]
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// How many indices are in the set.
    #[inline]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether every index below the length is in the set.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.count == self.length
    }

    /// Whether `index` is in the set; an index out of bounds never is.
    #[inline]
    pub fn contains(&self, index: u32) -> bool {
        index < self.length && self.words[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    /// Whether every index of `range` is in the set.
    #[inline]
    pub fn contains_all(&self, range: Range<u32>) -> bool {
        let mut index = range.start;
        while index < range.end {
            let upto = range.end.min((index / 64 + 1) * 64);
            let run = u64::MAX >> (64 - (upto - index)) << (index % 64);
            if upto > self.length || self.words[(index / 64) as usize] & run != run {
                return false;
            }
            index = upto;
        }
        true
    }

    /// Adds `index`; false if it was there already or is out of bounds.
    #[inline]
    pub fn insert(&mut self, index: u32) -> bool {
        if index >= self.length || self.contains(index) {
            return false;
        }
        self.words[(index / 64) as usize] |= 1 << (index % 64);
        self.count += 1;
        true
    }

    /// Adds every index of `range` that is in bounds.
    pub fn insert_range(&mut self, range: Range<u32>) {
        for index in range.start..range.end.min(self.length) {
            self.insert(index);
        }
    }

    /// Removes `index`; false if it was not there.
    #[inline]
    pub fn remove(&mut self, index: u32) -> bool {
        if !self.contains(index) {
            return false;
        }
        self.words[(index / 64) as usize] &= !(1 << (index % 64));
        self.count -= 1;
        true
    }

    /// The set as its maximal runs, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = (next..self.length).find(|&index| self.contains(index))?;
            let end = (start..self.length).find(|&index| !self.contains(index)).unwrap_or(self.length);
            next = end;
            Some(start..end)
        })
    }

    /// The indices in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges().flatten()
    }
}

/// A set as it is written: its length and its maximal runs.
#[derive(Serialize, Deserialize)]
struct Written {
    length: u32,
    ranges: Vec<Range<u32>>,
}

impl From<Bits> for Written {
    fn from(bits: Bits) -> Self {
        Self { length: bits.length, ranges: bits.ranges().collect() }
    }
}

impl TryFrom<Written> for Bits {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        if written.length > LENGTH_MAX {
            return Err("a set of more indices than a blob has units");
        }
        let mut bits = Self::new(written.length);
        for range in written.ranges {
            bits.insert_range(range);
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_maximal_and_ordered() {
        let mut bits = Bits::new(200);
        for index in [0, 1, 2, 63, 64, 65, 199] {
            assert!(bits.insert(index));
        }
        assert!(!bits.insert(64));
        assert!(!bits.insert(200));
        assert_eq!(bits.ranges().collect::<Vec<_>>(), [0..3, 63..66, 199..200]);
        assert_eq!(bits.count(), 7);
        assert!(bits.remove(1) && !bits.remove(1));
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 2, 63, 64, 65, 199]);
    }

    #[test]
    fn an_empty_set_of_nothing_is_full() {
        assert!(Bits::new(0).is_full());
        assert!(Bits::full(65).is_full());
        assert!(!Bits::new(1).is_full());
    }
}
