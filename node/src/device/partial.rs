//! Blobs that are not whole yet: a file of the blob's size, and beside it a map with one byte a unit.
//!
//! The map is a hint: after a restart every marked unit is hashed again before it counts, so neither `kill -9` nor power
//! loss can plant a wrong byte. Nothing is flushed until the blob is whole. The file's room is taken at once, so that a disk
//! that is too small shows before the first byte is fetched. The digest of the whole trails what is stored: in order it is
//! taken from memory, else the bytes are read back soon after, and when the last unit comes little is left to hash.
//!
//! Not here: whole blobs; see [`crate::store::blobs`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use anyhow::Context;
use bytes::Bytes;
use protocol::bits::Bits;
use protocol::digest::Digest;
use protocol::geometry::Geometry;
use protocol::verify::{BlobHasher, DigestMismatch, UnitVerifier, VerifiedBlob, VerifiedUnit};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Read at a time when a file is hashed.
const BLOCK_BYTES: usize = 256 << 10;
/// Units read back for the digest of the whole after each write: twice as many as a write stores, so that the digest catches
/// up, and so few that the write is soon over.
const CATCH_UP_UNITS: u32 = 8;

/// A blob on its way to being whole. Clones share the files.
#[derive(Clone, Debug)]
pub struct Partial(Arc<Files>);

#[derive(Debug)]
struct Files {
    blob: Digest,
    geometry: Geometry,
    content: File,
    content_path: PathBuf,
    map: File,
    map_path: PathBuf,
    /// Set when the whole is checked: from then on a late write of an abandoned fetch must not reach the file any more.
    closed: RwLock<bool>,
    trail: Mutex<Trail>,
}

/// How far the digest of the whole is.
#[derive(Debug)]
struct Trail {
    /// Units that are stored.
    stored: Bits,
    /// The hasher of the units before `next`; none while somebody hashes.
    hasher: Option<BlobHasher>,
    next: u32,
}

impl Partial {
    /// Opens or makes the files of `blob` in `dir`, and hashes the units that an earlier run marked: the returned set holds
    /// those that are really there. Blocks.
    ///
    /// # Errors
    /// When the files cannot be opened or the disk has no room for the whole blob.
    pub fn open(dir: &Path, blob: Digest, geometry: Geometry, verifier: Option<&UnitVerifier>) -> anyhow::Result<(Self, Bits)> {
        let content_path = dir.join(format!("{}-{}", blob.algorithm().name(), blob.hex()));
        let map_path = content_path.with_extension("units");
        let attempt = || -> io::Result<Files> {
            let content = open_file(&content_path)?;
            let map = open_file(&map_path)?;
            take_room(&content, geometry.size())?;
            map.set_len(u64::from(geometry.units()))?;
            let trail = Trail { stored: Bits::new(geometry.units()), hasher: Some(BlobHasher::of(&blob)), next: 0 };
            let (closed, trail) = (RwLock::new(false), Mutex::new(trail));
            Ok(Files { blob, geometry, content, content_path: content_path.clone(), map, map_path, closed, trail })
        };
        let partial = Self(Arc::new(attempt().with_context(|| format!("opening the partial blob {}", content_path.display()))?));
        if let Some(verifier) = verifier {
            partial.verify_marked(verifier).with_context(|| format!("reading the partial blob {}", content_path.display()))?;
        }
        let held = partial.trail().stored.clone();
        Ok((partial, held))
    }

    /// How the blob is cut.
    pub fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    /// Stores verified units, which follow each other. Blocks.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub fn write(&self, units: &[VerifiedUnit]) -> io::Result<()> {
        let (Some(first), Some(last)) = (units.first(), units.last()) else { return Ok(()) };
        let (first, end) = (first.proof().unit(), last.proof().unit() + 1);
        let _open = self.open_for_writing()?;
        for unit in units {
            self.0.content.write_all_at(unit.bytes(), unit.offset())?;
        }
        self.0.map.write_all_at(&vec![1; units.len()], u64::from(first))?;
        let hasher = {
            let mut trail = self.trail();
            for unit in first..end {
                trail.stored.insert(unit);
            }
            trail.hasher.take().map(|hasher| (hasher, trail.next))
        };
        if let Some((mut hasher, mut next)) = hasher {
            if next >= first {
                for unit in units.iter().skip((next - first) as usize) {
                    hasher.update(unit.bytes());
                    next += 1;
                }
            }
            return self.catch_up(hasher, next);
        }
        Ok(())
    }

    /// Stores bytes of a blob that only its whole digest proves; they do not count until then. Blocks.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub fn write_unproven(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _open = self.open_for_writing()?;
        self.0.content.write_all_at(bytes, offset)
    }

    /// Reads bytes that were stored. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.content.read_exact_at(bytes, offset)
    }

    /// Hashes what is left to hash of the whole; the file cannot be written any more from then on. Blocks.
    ///
    /// # Errors
    /// The outer one when the disk fails, the inner one when the bytes are not the blob.
    pub fn verify_whole(&self) -> io::Result<Result<VerifiedBlob, DigestMismatch>> {
        *self.0.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        let (hasher, next) = {
            let mut trail = self.trail();
            (trail.hasher.take(), trail.next)
        };
        let (mut hasher, next) = hasher.map_or_else(|| (BlobHasher::of(&self.0.blob), 0), |hasher| (hasher, next));
        self.hash_units(&mut hasher, next..self.0.geometry.units(), &mut vec![0; BLOCK_BYTES])?;
        Ok(hasher.finish(self.0.blob))
    }

    /// Whether every stored unit is still what it was: each is hashed again. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn is_sound(&self, verifier: &UnitVerifier) -> io::Result<bool> {
        let stored = self.trail().stored.clone();
        for unit in stored.iter() {
            if !self.is_unit(verifier, unit)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The file that holds the content, for the store to take over.
    pub fn content_path(&self) -> &Path {
        &self.0.content_path
    }

    /// Throws the map away, after the content was taken over.
    pub fn forget_map(&self) {
        if let Err(error) = std::fs::remove_file(&self.0.map_path) {
            tracing::debug!(path = %self.0.map_path.display(), %error, "the map of a finished blob was not removed");
        }
    }

    /// Throws both files away.
    pub fn discard(&self) {
        self.forget_map();
        if let Err(error) = std::fs::remove_file(&self.0.content_path) {
            tracing::debug!(path = %self.0.content_path.display(), %error, "a discarded blob was not removed");
        }
    }

    fn trail(&self) -> MutexGuard<'_, Trail> {
        self.0.trail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_for_writing(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let closed = self.0.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(io::Error::other("the blob is whole already")) } else { Ok(closed) }
    }

    /// Hashes some units that follow and are stored, and gives the hasher back.
    fn catch_up(&self, mut hasher: BlobHasher, mut next: u32) -> io::Result<()> {
        let ready = {
            let trail = self.trail();
            (next..next.saturating_add(CATCH_UP_UNITS).min(self.0.geometry.units())).take_while(|unit| trail.stored.contains(*unit)).count()
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most CATCH_UP_UNITS")]
        let end = next + ready as u32;
        if next < end {
            self.hash_units(&mut hasher, next..end, &mut vec![0; BLOCK_BYTES])?;
            next = end;
        }
        let mut trail = self.trail();
        (trail.hasher, trail.next) = (Some(hasher), next);
        Ok(())
    }

    fn hash_units(&self, hasher: &mut BlobHasher, units: std::ops::Range<u32>, block: &mut [u8]) -> io::Result<()> {
        let mut range = self.0.geometry.bytes_of(units);
        while range.start < range.end {
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(block.len());
            self.0.content.read_exact_at(&mut block[..length], range.start)?;
            hasher.update(&block[..length]);
            range.start += length as u64;
        }
        Ok(())
    }

    fn is_unit(&self, verifier: &UnitVerifier, unit: u32) -> io::Result<bool> {
        let range = self.0.geometry.bytes_of(unit..unit + 1);
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        self.0.content.read_exact_at(&mut bytes, range.start)?;
        Ok(verifier.verify(unit, Bytes::from(bytes)).is_ok())
    }

    fn verify_marked(&self, verifier: &UnitVerifier) -> io::Result<()> {
        let units = self.0.geometry.units();
        let mut marks = vec![0; units as usize];
        self.0.map.read_exact_at(&mut marks, 0)?;
        for unit in (0..units).filter(|unit| marks[*unit as usize] == 1) {
            if self.is_unit(verifier, unit)? {
                self.trail().stored.insert(unit);
            }
        }
        Ok(())
    }
}

/// Takes the room for the whole file, where the file system can.
fn take_room(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)?;
    match if size == 0 { Ok(()) } else { fallocate(file, FallocateFlags::empty(), 0, size) } {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::hash_list::HashListBuilder;

    fn content() -> (Bytes, UnitVerifier) {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 249) as u8).collect();
        let mut builder = HashListBuilder::new();
        builder.update(&bytes);
        let list = builder.finish(Digest::sha256(&bytes)).unwrap();
        (bytes.into(), UnitVerifier::Listed(list))
    }

    fn unit(bytes: &Bytes, verifier: &UnitVerifier, index: u32) -> VerifiedUnit {
        let range = verifier.geometry().bytes_of(index..index + 1);
        verifier.verify(index, bytes.slice(range.start as usize..range.end as usize)).unwrap()
    }

    #[test]
    fn a_marked_unit_whose_bytes_are_wrong_does_not_count_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, verifier) = content();
        let (blob, geometry) = (verifier.blob(), verifier.geometry());
        let (partial, held) = Partial::open(dir.path(), blob, geometry, Some(&verifier)).unwrap();
        assert_eq!(held.count(), 0);
        for index in [0, 2, 4] {
            partial.write(&[unit(&bytes, &verifier, index)]).unwrap();
        }
        partial.write_unproven(2 * 65_536 + 7, b"x").unwrap();
        drop(partial);
        let (_, held) = Partial::open(dir.path(), blob, geometry, Some(&verifier)).unwrap();
        assert_eq!(held.iter().collect::<Vec<_>>(), [0, 4]);
    }

    #[test]
    fn only_the_right_whole_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, verifier) = content();
        let (partial, _) = Partial::open(dir.path(), verifier.blob(), verifier.geometry(), Some(&verifier)).unwrap();
        for index in 0..verifier.geometry().units() {
            partial.write(&[unit(&bytes, &verifier, index)]).unwrap();
        }
        assert_eq!(partial.verify_whole().unwrap().unwrap().blob(), verifier.blob());
        assert!(partial.write_unproven(1, b"x").is_err(), "a late write must not spoil what was verified");
        drop(partial);
        let (partial, _) = Partial::open(dir.path(), verifier.blob(), verifier.geometry(), Some(&verifier)).unwrap();
        partial.write_unproven(1, b"x").unwrap();
        assert!(partial.verify_whole().unwrap().is_err());
    }

    #[test]
    fn the_whole_is_verified_in_whatever_order_and_runs_its_units_came() {
        let (bytes, verifier) = content();
        let units = |run: std::ops::Range<u32>| run.map(|index| unit(&bytes, &verifier, index)).collect::<Vec<_>>();
        let orders: [&[(u32, u32)]; 5] =
            [&[(0, 5)], &[(4, 5), (0, 2), (2, 4)], &[(1, 3), (0, 1), (3, 5)], &[(0, 1), (0, 2), (1, 5)], &[(3, 5), (1, 3), (0, 1)]];
        for runs in orders {
            let dir = tempfile::tempdir().unwrap();
            let (partial, _) = Partial::open(dir.path(), verifier.blob(), verifier.geometry(), Some(&verifier)).unwrap();
            for (start, end) in runs {
                partial.write(&units(*start..*end)).unwrap();
            }
            assert_eq!(partial.verify_whole().unwrap().unwrap().blob(), verifier.blob());
        }
    }

    #[test]
    fn what_came_in_order_is_not_read_again_for_the_digest_of_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, verifier) = content();
        let (partial, _) = Partial::open(dir.path(), verifier.blob(), verifier.geometry(), Some(&verifier)).unwrap();
        for index in 0..verifier.geometry().units() {
            partial.write(&[unit(&bytes, &verifier, index)]).unwrap();
        }
        std::fs::write(partial.content_path(), b"").unwrap();
        assert!(partial.verify_whole().unwrap().is_ok());
    }

    #[test]
    fn a_unit_that_rotted_after_it_was_stored_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, verifier) = content();
        let (partial, _) = Partial::open(dir.path(), verifier.blob(), verifier.geometry(), Some(&verifier)).unwrap();
        partial.write(&[unit(&bytes, &verifier, 1)]).unwrap();
        assert!(partial.is_sound(&verifier).unwrap());
        partial.write_unproven(65_536, b"rot").unwrap();
        assert!(!partial.is_sound(&verifier).unwrap());
    }

    #[test]
    fn the_room_for_the_whole_blob_is_taken_at_once_where_the_file_system_can() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (_, verifier) = content();
        let (partial, _) = Partial::open(dir.path(), verifier.blob(), verifier.geometry(), Some(&verifier)).unwrap();
        let file = File::open(partial.content_path()).unwrap();
        let can = !matches!(fallocate(&file, FallocateFlags::empty(), 0, 1), Err(Errno::OPNOTSUPP | Errno::NOSYS));
        assert_eq!(file.metadata().unwrap().blocks() * 512 >= verifier.geometry().size(), can);
    }
}
