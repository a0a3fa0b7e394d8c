//! The units of one flow as work.
//!
//! Not here: how fast it is done; see [`super::sharing`].

use std::ops::Range;

use protocol::geometry::Geometry;

use super::FRACTION_BITS;

/// The units of a fetch as work: which is next, and how much has to be done until it is whole.
#[derive(Clone, Debug)]
pub(crate) struct UnitsToCome {
    geometry: Geometry,
    units: Range<u32>,
    next: u32,
}

impl UnitsToCome {
    pub(crate) fn new(geometry: Geometry, units: Range<u32>) -> Self {
        Self { geometry, next: units.start, units }
    }

    /// Work from the start of the fetch to the end of the next unit.
    pub(crate) fn work_to_next(&self) -> u64 {
        self.bytes_before(self.next + 1) << (FRACTION_BITS + 3)
    }

    /// Takes the next unit, and whether it is the last.
    pub(crate) fn take_next(&mut self) -> (u32, bool) {
        self.next += 1;
        (self.next - 1, self.next >= self.units.end)
    }

    /// Bytes of the units that are whole.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.bytes_before(self.next)
    }

    /// Bytes that arrived when `work` was done since the start of the fetch.
    pub(crate) fn bytes_after(&self, work: u64) -> u64 {
        (work >> (FRACTION_BITS + 3)).clamp(self.whole_bytes(), self.bytes_before(self.units.end))
    }

    /// The bytes of unit `unit`.
    pub(crate) fn bytes_of_unit(&self, unit: u32) -> u64 {
        length(self.geometry.bytes_of(unit..unit + 1))
    }

    fn bytes_before(&self, unit: u32) -> u64 {
        length(self.geometry.bytes_of(self.units.start..unit))
    }
}

const fn length(bytes: Range<u64>) -> u64 {
    bytes.end - bytes.start
}
