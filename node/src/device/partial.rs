//! Blobs that are not whole yet: a file of the blob's size, and beside it a map with one byte a unit.
//!
//! The map is a hint: after a restart every marked unit is hashed again before it counts, so neither `kill -9` nor power
//! loss can plant a wrong byte. Nothing is flushed until the blob is whole.
//!
//! Not here: whole blobs; see [`crate::store::blobs`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use anyhow::Context;
use bytes::Bytes;
use protocol::bits::Bits;
use protocol::digest::Digest;
use protocol::geometry::Geometry;
use protocol::verify::{BlobHasher, DigestMismatch, UnitVerifier, VerifiedBlob, VerifiedUnit};

/// Read at a time when a whole file is hashed.
const BLOCK_BYTES: usize = 256 << 10;

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
}

impl Partial {
    /// Opens or makes the files of `blob` in `dir`, and hashes the units that an earlier run marked: the returned set holds
    /// those that are really there. Blocks.
    ///
    /// # Errors
    /// When the files cannot be opened or the disk is full.
    pub fn open(dir: &Path, blob: Digest, geometry: Geometry, verifier: Option<&UnitVerifier>) -> anyhow::Result<(Self, Bits)> {
        let content_path = dir.join(format!("{}-{}", blob.algorithm().name(), blob.hex()));
        let map_path = content_path.with_extension("units");
        let attempt = || -> io::Result<Files> {
            let content = open_file(&content_path)?;
            let map = open_file(&map_path)?;
            content.set_len(geometry.size())?;
            map.set_len(u64::from(geometry.units()))?;
            Ok(Files { blob, geometry, content, content_path: content_path.clone(), map, map_path, closed: RwLock::new(false) })
        };
        let partial = Self(Arc::new(attempt().with_context(|| format!("opening the partial blob {}", content_path.display()))?));
        let held = match verifier {
            Some(verifier) => {
                partial.verify_marked(verifier).with_context(|| format!("reading the partial blob {}", content_path.display()))?
            }
            None => Bits::new(geometry.units()),
        };
        Ok((partial, held))
    }

    /// How the blob is cut.
    pub fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    /// Stores a verified unit. Blocks.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub fn write(&self, unit: &VerifiedUnit) -> io::Result<()> {
        let _open = self.open_for_writing()?;
        self.0.content.write_all_at(unit.bytes(), unit.offset())?;
        self.0.map.write_all_at(&[1], u64::from(unit.proof().unit()))
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

    /// Hashes the whole file, which cannot be written any more from then on. Blocks.
    ///
    /// # Errors
    /// The outer one when the disk fails, the inner one when the bytes are not the blob.
    pub fn verify_whole(&self) -> io::Result<Result<VerifiedBlob, DigestMismatch>> {
        *self.0.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        let mut hasher = BlobHasher::of(&self.0.blob);
        let mut block = vec![0; BLOCK_BYTES];
        let size = self.0.geometry.size();
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from(size - offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            self.0.content.read_exact_at(&mut block[..length], offset)?;
            hasher.update(&block[..length]);
            offset += length as u64;
        }
        Ok(hasher.finish(self.0.blob))
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

    fn open_for_writing(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let closed = self.0.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(io::Error::other("the blob is whole already")) } else { Ok(closed) }
    }

    fn verify_marked(&self, verifier: &UnitVerifier) -> io::Result<Bits> {
        let geometry = self.0.geometry;
        let mut marks = vec![0; geometry.units() as usize];
        self.0.map.read_exact_at(&mut marks, 0)?;
        let mut held = Bits::new(geometry.units());
        for unit in (0..geometry.units()).filter(|unit| marks[*unit as usize] == 1) {
            let range = geometry.bytes_of(unit..unit + 1);
            let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            self.0.content.read_exact_at(&mut bytes, range.start)?;
            if verifier.verify(unit, Bytes::from(bytes)).is_ok() {
                held.insert(unit);
            }
        }
        Ok(held)
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
            partial.write(&unit(&bytes, &verifier, index)).unwrap();
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
            partial.write(&unit(&bytes, &verifier, index)).unwrap();
        }
        assert_eq!(partial.verify_whole().unwrap().unwrap().blob(), verifier.blob());
        assert!(partial.write_unproven(1, b"x").is_err(), "a late write must not spoil what was verified");
        drop(partial);
        let (partial, _) = Partial::open(dir.path(), verifier.blob(), verifier.geometry(), Some(&verifier)).unwrap();
        partial.write_unproven(1, b"x").unwrap();
        assert!(partial.verify_whole().unwrap().is_err());
    }
}
