//! Room on the disk that blobs leave to the records: without it, nothing could be deleted on a full disk, and the index
//! could not be built.
//!
//! What another process takes away meanwhile is not held back by it; a write that finds no room fails all the same.
//!
//! Not here: how much an organisation may store.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Bytes that blobs leave to the records: an index of 100,000 manifests has about half of this.
const BLOBS_LEAVE_BYTES: u64 = 128 << 20;

/// On a small disk, blobs leave this part of it, and the others less in proportion.
const SMALL_DISK_PART: u64 = 16;

/// The part of what blobs leave that the journal leaves to the index: a change takes about as much of either.
const JOURNAL_PART: u64 = 2;

/// The part of it that must be there before the index is built: it would fail half-way, and again and again.
const INDEX_PART: u64 = 8;

/// Whether there is room for more of a blob on the disk of the folder `dir`.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] when there is none, or what the file system says.
pub(super) fn for_blobs(dir: &Path) -> io::Result<()> {
    leave(dir, 1)
}

/// Whether there is room for more records on the disk of the folder `dir`.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] when there is none, or what the file system says.
pub(super) fn for_records(dir: &Path) -> io::Result<()> {
    leave(dir, JOURNAL_PART)
}

/// Whether there is room to build the index on the disk of the folder `dir`.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] when there is none, or what the file system says.
pub(super) fn for_index(dir: &Path) -> io::Result<()> {
    leave(dir, INDEX_PART)
}

fn leave(dir: &Path, part: u64) -> io::Result<()> {
    let disk = statvfs(dir)?;
    let total = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let left = BLOBS_LEAVE_BYTES.min(total / SMALL_DISK_PART) / part;
    // A file system that does not say its size may have any.
    if total == 0 || free > left {
        return Ok(());
    }
    let reason = format!("the disk has {free} bytes free, {left} of them are kept for other uses; make room on it");
    Err(io::Error::new(io::ErrorKind::StorageFull, reason))
}
