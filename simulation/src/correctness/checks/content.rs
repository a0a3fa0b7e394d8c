//! Verified: an honest device stores no unit that does not pass the check it was wanted with, sends none that does not (but for
//! those that rot or a fault changes on the way), calls no blob whole that is not, and throws a blob's units away only when its
//! hash list lied.
//!
//! Not verified: hashing itself; units have tags instead of bytes, and the tests of `protocol::verify` hash.

use protocol::digest::Digest;

use crate::correctness::content::{Library, Proven, Tag};
use crate::correctness::disk::Disk;
use crate::correctness::world::Verdict;

/// Needs no books: what is right is known.
#[derive(Debug)]
pub(in crate::correctness) struct ContentChecks;

impl ContentChecks {
    /// A device stored a unit.
    pub(in crate::correctness) fn stored(
        &self,
        device: usize,
        library: &Library,
        (blob, proven): (&Digest, Proven),
        unit: u32,
        tag: Tag,
    ) -> Verdict {
        if tag == library.expected(blob, proven, unit) {
            return Ok(());
        }
        Err(format!("d{device} stores unit {unit} of {blob}, which nobody verified: it is {tag:?}"))
    }

    /// A device sends a unit that it read as `tag`.
    pub(in crate::correctness) fn relayed(
        &self,
        device: usize,
        disk: &Disk,
        library: &Library,
        (blob, unit): (&Digest, u32),
        tag: Tag,
    ) -> Verdict {
        let rotted = disk.is_sound(blob) == Some(false);
        let expected = disk.proven(blob).map_or(Tag::Right, |proven| library.expected(blob, proven, unit));
        if rotted || tag == expected {
            return Ok(());
        }
        Err(format!("d{device} sends unit {unit} of {blob}, which it did not verify: it is {tag:?}"))
    }

    /// A device says that a blob is whole.
    pub(in crate::correctness) fn completed(&self, device: usize, disk: &Disk, blob: &Digest) -> Verdict {
        if disk.has_whole(blob) { Ok(()) } else { Err(format!("d{device} says that {blob} is whole, which it is not")) }
    }

    /// A device throws the units of a blob away.
    pub(in crate::correctness) fn discards(&self, device: usize, library: &Library, blob: &Digest) -> Verdict {
        if library.is_lied_about(blob) { Ok(()) } else { Err(format!("d{device} throws {blob} away, of which no hash list lies")) }
    }
}
