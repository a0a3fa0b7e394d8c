//! The disk of a device: what is on it, what survives a crash, and when it is full.
//!
//! Not here: what is written there; the driver does that.

use std::collections::BTreeMap;

use protocol::agent::record::Record;
use protocol::bits::Bits;
use protocol::digest::Digest;
use protocol::geometry::Geometry;
use protocol::name::AppName;
use protocol::statement::counters::Counters;
use protocol::time::floor::KeptFloor;

use super::content::{Library, Proven, Tag};
use super::draws::Draws;
use super::seed_side::Sealed;

/// Units of a blob that is not whole, and the map that says which are there.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    pub(super) geometry: Geometry,
    pub(super) proven: Proven,
    units: BTreeMap<u32, Tag>,
}

/// What a device keeps of signed documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) counters: Counters,
    pub(super) assignment: Option<Sealed>,
    pub(super) state: Option<Sealed>,
    /// The newest root's epoch.
    pub(super) epoch: u64,
    /// The number of the newest role of the app, and the floor that it says.
    pub(super) role: (u64, Option<u64>),
    pub(super) floor: Option<KeptFloor>,
    pub(super) records: BTreeMap<AppName, Record>,
    pub(super) report_counter: u64,
}

/// The disk of a device.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) kept: Kept,
    /// Whole blobs, and whether they are sound.
    whole: BTreeMap<Digest, Tag>,
    partial: BTreeMap<Digest, Partial>,
    /// Units written since the last moment at which everything was on the disk.
    unsynced: Vec<(Digest, u32)>,
    room: Option<u64>,
}

/// Units that may be written before they are synced.
const UNSYNCED_MAX: usize = 8;

impl Disk {
    /// An empty disk with room enough.
    pub(super) fn new() -> Self {
        Self { kept: Kept::default(), whole: BTreeMap::new(), partial: BTreeMap::new(), unsynced: Vec::new(), room: None }
    }

    /// Only so many bytes more fit; without a number, as many as come.
    pub(super) const fn set_room(&mut self, bytes: Option<u64>) {
        self.room = bytes;
    }

    /// Whether nothing fits any more.
    pub(super) fn is_full(&self) -> bool {
        self.room == Some(0)
    }

    /// Opens the partial blob, a new one if there is none cut this way; the units that pass the check again, which a disk
    /// after a crash may have lost. Without `again`, all units that the map names.
    pub(super) fn open(&mut self, library: &Library, blob: Digest, proven: Proven, again: bool) -> Bits {
        let geometry = library.geometry(&blob, proven);
        let fresh = Partial { geometry, proven, units: BTreeMap::new() };
        let partial = self.partial.entry(blob).or_insert_with(|| fresh.clone());
        if partial.proven != proven {
            *partial = fresh;
        }
        if again {
            partial.units.retain(|unit, tag| *tag == library.expected(&blob, proven, *unit));
        }
        let mut held = Bits::new(geometry.units());
        for unit in partial.units.keys() {
            held.insert(*unit);
        }
        held
    }

    /// Writes a unit; false if there is no room.
    pub(super) fn write(&mut self, blob: Digest, unit: u32, tag: Tag) -> bool {
        let Some(partial) = self.partial.get_mut(&blob) else { return false };
        let bytes = partial.geometry.bytes_of(unit..unit + 1);
        let bytes = bytes.end - bytes.start;
        if let Some(room) = &mut self.room {
            if *room < bytes {
                *room = 0;
                return false;
            }
            *room -= bytes;
        }
        partial.units.insert(unit, tag);
        self.unsynced.push((blob, unit));
        if self.unsynced.len() > UNSYNCED_MAX {
            self.unsynced.remove(0);
        }
        true
    }

    /// Takes back a unit that was written.
    pub(super) fn unwrite(&mut self, blob: &Digest, unit: u32) {
        if let Some(partial) = self.partial.get_mut(blob) {
            partial.units.remove(&unit);
        }
    }

    /// How the units of a blob that is not whole are checked.
    pub(super) fn proven(&self, blob: &Digest) -> Option<Proven> {
        self.partial.get(blob).map(|partial| partial.proven)
    }

    /// The unit as it is read now.
    pub(super) fn read(&self, blob: &Digest, unit: u32) -> Option<Tag> {
        self.whole.get(blob).copied().or_else(|| self.partial.get(blob)?.units.get(&unit).copied())
    }

    /// Whether the whole digest fits what is there; none if units are missing.
    pub(super) fn check_whole(&self, blob: &Digest) -> Option<bool> {
        let partial = self.partial.get(blob)?;
        let all = (0..partial.geometry.units()).map(|unit| partial.units.get(&unit));
        let mut fits = true;
        for tag in all {
            fits &= *tag? == Tag::Right;
        }
        Some(fits)
    }

    /// A checked blob gets its name.
    pub(super) fn finish(&mut self, blob: Digest) {
        self.partial.remove(&blob);
        self.whole.insert(blob, Tag::Right);
        self.unsynced.retain(|(written, _)| *written != blob);
    }

    /// Throws away what there is of a blob that is not whole.
    pub(super) fn discard(&mut self, blob: &Digest) {
        self.partial.remove(blob);
    }

    /// Throws away a whole blob.
    pub(super) fn remove(&mut self, blob: &Digest) {
        self.whole.remove(blob);
    }

    /// Whether the whole blob is there, sound or not.
    pub(super) fn has_whole(&self, blob: &Digest) -> bool {
        self.whole.contains_key(blob)
    }

    /// Whether a whole blob is sound; none if it is not there.
    pub(super) fn is_sound(&self, blob: &Digest) -> Option<bool> {
        self.whole.get(blob).map(|tag| *tag == Tag::Right)
    }

    /// Whole blobs, in order of their digests.
    pub(super) fn wholes(&self) -> impl Iterator<Item = &Digest> {
        self.whole.keys()
    }

    /// A whole blob rots.
    pub(super) fn rot(&mut self, blob: Digest) {
        if let Some(tag) = self.whole.get_mut(&blob) {
            *tag = Tag::Wrong;
        }
    }

    /// The power fails: what was not synced may be torn, or gone though the map names it. How many units that cost.
    pub(super) fn crash(&mut self, draws: &mut Draws) -> u64 {
        let mut lost = 0;
        for (blob, unit) in std::mem::take(&mut self.unsynced) {
            let Some(units) = self.partial.get_mut(&blob).map(|partial| &mut partial.units) else { continue };
            if units.contains_key(&unit) && draws.chance(500) {
                lost += 1;
                if draws.chance(700) {
                    units.insert(unit, Tag::Torn);
                } else {
                    units.remove(&unit);
                }
            }
        }
        lost
    }
}
