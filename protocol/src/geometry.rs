//! How a blob is cut: *units* are verified and relayed, *pieces* are announced and requested, *spans* of pieces are
//! claimed on the WAN. A function of the blob's size alone, so that all devices agree.
//!
//! Not here: which of them a node holds; see [`crate::bits`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes of a unit, the least that is verified and relayed.
pub const UNIT_BYTES: u64 = 64 << 10;

/// Bytes that one claim on the WAN covers, at least one piece: large enough that request headers and claims cost under
/// 0.1 %, small enough that the last claims of a blob end together.
pub const SPAN_BYTES: u64 = 512 << 10;

/// The largest blob, in bytes: with 64 KiB units its indices stay below 2^32 and its hash list below 512 MiB.
pub const BLOB_BYTES_MAX: u64 = 1 << 40;

/// How one blob is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Geometry {
    size: u64,
    unit_bytes: u64,
    piece_bytes: u64,
}

impl Geometry {
    /// The cut of a blob whose units a hash list proves, or that is a single unit proven by its digest.
    ///
    /// Pieces: 64 KiB below 128 MiB; else the largest power of two ≤ size/256, at most 1 MiB; 4 MiB above 4 GiB.
    pub const fn listed(size: u64) -> Self {
        let piece_bytes = if size < 128 << 20 {
            UNIT_BYTES
        } else if size > 4 << 30 {
            4 << 20
        } else {
            let limit = size / 256;
            let largest = 1 << (63 - limit.leading_zeros());
            if largest > 1 << 20 { 1 << 20 } else { largest }
        };
        Self { size, unit_bytes: UNIT_BYTES, piece_bytes }
    }

    /// The cut of a blob that only its whole digest proves: one unit, one piece.
    pub const fn unlisted(size: u64) -> Self {
        let bytes = if size < UNIT_BYTES { UNIT_BYTES } else { size };
        Self { size, unit_bytes: bytes, piece_bytes: bytes }
    }

    /// Bytes of the blob.
    #[inline]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of every unit but the last.
    #[inline]
    pub const fn unit_bytes(&self) -> u64 {
        self.unit_bytes
    }

    /// Bytes of every piece but the last.
    pub const fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// How many units the blob has; an empty blob has none.
    #[expect(clippy::cast_possible_truncation, reason = "at most BLOB_BYTES_MAX / UNIT_BYTES = 2^24")]
    pub const fn units(&self) -> u32 {
        self.size.div_ceil(self.unit_bytes) as u32
    }

    /// How many pieces the blob has.
    #[expect(clippy::cast_possible_truncation, reason = "never more than units")]
    pub const fn pieces(&self) -> u32 {
        self.size.div_ceil(self.piece_bytes) as u32
    }

    /// How many spans the blob has.
    pub const fn spans(&self) -> u32 {
        self.pieces().div_ceil(self.pieces_per_span())
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most SPAN_BYTES / UNIT_BYTES")]
    const fn units_per_piece(&self) -> u32 {
        (self.piece_bytes / self.unit_bytes) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most SPAN_BYTES / UNIT_BYTES")]
    const fn pieces_per_span(&self) -> u32 {
        let pieces = SPAN_BYTES / self.piece_bytes;
        if pieces == 0 { 1 } else { pieces as u32 }
    }

    /// The piece that `unit` is part of.
    #[inline]
    pub const fn piece_of_unit(&self, unit: u32) -> u32 {
        unit / self.units_per_piece()
    }

    /// The span that `piece` is part of.
    #[inline]
    pub const fn span_of_piece(&self, piece: u32) -> u32 {
        piece / self.pieces_per_span()
    }

    /// The units of `pieces`.
    #[inline]
    pub fn units_of(&self, pieces: Range<u32>) -> Range<u32> {
        let per = self.units_per_piece();
        pieces.start.saturating_mul(per).min(self.units())..pieces.end.saturating_mul(per).min(self.units())
    }

    /// The pieces of `span`.
    #[inline]
    pub fn pieces_of_span(&self, span: u32) -> Range<u32> {
        let per = self.pieces_per_span();
        span.saturating_mul(per).min(self.pieces())..span.saturating_add(1).saturating_mul(per).min(self.pieces())
    }

    /// The bytes of `units`.
    #[inline]
    pub fn bytes_of(&self, units: Range<u32>) -> Range<u64> {
        let start = u64::from(units.start) * self.unit_bytes;
        let end = u64::from(units.end) * self.unit_bytes;
        start.min(self.size)..end.min(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piece_size_depends_on_the_size_alone() {
        for (size, piece_bytes) in [
            (0, 64 << 10),
            (1, 64 << 10),
            ((128 << 20) - 1, 64 << 10),
            (128 << 20, 512 << 10),
            ((256 << 20) - 1, 512 << 10),
            (256 << 20, 1 << 20),
            (4 << 30, 1 << 20),
            ((4 << 30) + 1, 4 << 20),
        ] {
            assert_eq!(Geometry::listed(size).piece_bytes(), piece_bytes, "{size}");
        }
    }

    #[test]
    fn every_byte_is_in_one_unit_piece_and_span() {
        for size in [0, 1, UNIT_BYTES - 1, UNIT_BYTES, UNIT_BYTES + 1, 10 << 20, (128 << 20) + 3, (5 << 30) + 7] {
            let geometry = Geometry::listed(size);
            let spans: Vec<_> =
                (0..geometry.spans()).map(|span| geometry.bytes_of(geometry.units_of(geometry.pieces_of_span(span)))).collect();
            let mut next = 0;
            for bytes in spans {
                assert_eq!(bytes.start, next);
                next = bytes.end;
            }
            assert_eq!(next, size);
        }
    }

    #[test]
    fn an_unlisted_blob_is_one_unit() {
        let geometry = Geometry::unlisted(9 << 20);
        assert_eq!((geometry.units(), geometry.pieces(), geometry.spans()), (1, 1, 1));
        assert_eq!(geometry.bytes_of(0..1), 0..9 << 20);
    }
}
