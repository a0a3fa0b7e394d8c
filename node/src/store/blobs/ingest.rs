//! Taking in a blob as a stream: bytes are hashed, cut into units and written while they arrive.
//!
//! Disk and hash work runs on the blocking pool in batches, the blob's hash beside the rest; one batch is worked on while
//! the next is collected. What was written goes to the disk early, so that the end of a large blob is not one long wait.
//! A batch that finds no room is forgotten as a whole, and the blob goes on where the one before it ended.
//!
//! Not here: who may send it; see `seed::registry`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt as _;
use protocol::digest::{Algorithm, Digest};
use protocol::geometry::BLOB_BYTES_MAX;
use protocol::hash_list::{HashList, HashListBuilder};
use protocol::verify::{BlobHasher, DigestMismatch, VerifiedBlob};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{BlobStore, IngestError};
use crate::store::blocks::each_block;

/// Bytes collected before they go to the blocking pool: the hop costs some 20 µs, 256 KiB of hashing and writing 300 µs.
const BATCH_BYTES: usize = 256 << 10;

/// The same while very many blobs arrive.
const BATCH_BYTES_MIN: usize = 64 << 10;

/// Batches that one blob has in memory: one is worked on while the next is collected.
const BATCHES_OF_BLOB: usize = 2;

/// Bytes that the batches of all blobs may take together, until batches cannot get smaller; an eighth of the memory that a
/// whole node may use.
const BATCHES_BYTES_MAX: usize = 8 << 20;

/// Bytes written after which they are sent to the disk while more arrive: large against the cost of a flush.
const SYNC_BYTES: u64 = 32 << 20;

/// A blob on its way in. Dropped before [`Ingest::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Ingest {
    store: BlobStore,
    _arriving: Arriving,
    batch: Vec<u8>,
    size: u64,
    disk: Disk,
}

/// Counts a blob among those that share the memory for batches.
#[derive(Debug)]
struct Arriving(BlobStore);

#[derive(Debug)]
enum Disk {
    Idle(Box<Written>),
    Busy(JoinHandle<Result<Box<Written>, Failed>>),
    Broken,
    /// The blob has its digest's name.
    Named(Box<(VerifiedBlob, Option<HashList>)>),
}

/// A batch that was not written.
#[derive(Debug)]
struct Failed {
    error: IngestError,
    /// All that came before it, if nothing but room was missing.
    before: Option<Box<Written>>,
}

#[derive(Debug)]
struct Written {
    hasher: BlobHasher,
    units: Units,
    /// The memory of the batch before, to be used again.
    spare: Vec<u8>,
}

/// The bytes as they lie on the disk, cut into units.
#[derive(Debug)]
struct Units {
    file: Option<tempfile::NamedTempFile>,
    list: HashListBuilder,
    bytes: u64,
    unsynced_bytes: u64,
    sync: Option<JoinHandle<io::Result<()>>>,
}

type Finished = (VerifiedBlob, Option<HashList>, tempfile::NamedTempFile);

impl Ingest {
    pub(super) fn new(store: BlobStore, algorithm: Algorithm) -> Self {
        let units = Units { file: None, list: HashListBuilder::new(), bytes: 0, unsynced_bytes: 0, sync: None };
        let written = Written { hasher: BlobHasher::new(algorithm), units, spare: Vec::new() };
        Self { _arriving: Arriving::new(&store), store, batch: Vec::new(), size: 0, disk: Disk::Idle(Box::new(written)) }
    }

    /// How many bytes were taken in so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether nothing stands in memory.
    pub const fn is_flushed(&self) -> bool {
        self.batch.capacity() == 0
    }

    /// Whether bytes that were taken in are lost, so that the blob can only be sent again from the start.
    pub const fn is_broken(&self) -> bool {
        matches!(self.disk, Disk::Broken)
    }

    /// Takes the next bytes. They may stand in memory, at most 512 KiB, until [`Ingest::flush`] or [`Ingest::finish`].
    ///
    /// # Errors
    /// When the blob grows too large or has its name already, or when these or earlier bytes could not be written. After
    /// [`IngestError::is_storage_full`] it goes on at [`Ingest::size`], which then is less than it was.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), IngestError> {
        let size = self.size + bytes.len() as u64;
        if size > BLOB_BYTES_MAX {
            return Err(IngestError::TooLarge);
        }
        if matches!(self.disk, Disk::Named(_)) {
            return Err(IngestError::Ended);
        }
        let batch_bytes = self.store.batch_bytes();
        if self.batch.len() + bytes.len() > batch_bytes {
            self.hand_over().await?;
        }
        if self.batch.is_empty() && !(1..=batch_bytes).contains(&self.batch.capacity()) {
            self.batch = Vec::with_capacity(batch_bytes);
        }
        self.batch.extend_from_slice(&bytes);
        self.size = size;
        Ok(())
    }

    /// Writes what stands in memory and gives the memory back, for a blob that pauses. Not a promise of durability.
    ///
    /// # Errors
    /// As [`Ingest::write`].
    pub async fn flush(&mut self) -> Result<(), IngestError> {
        if matches!(self.disk, Disk::Named(_)) {
            return Ok(());
        }
        self.hand_over().await?;
        let mut written = self.settle().await?;
        written.spare = Vec::new();
        self.disk = Disk::Idle(written);
        self.batch = Vec::new();
        Ok(())
    }

    /// Stores the blob durably; if `wanted` is given, only if it has that digest, else under the algorithm it began
    /// with. With it comes its hash list, if it has more than one unit. To ask again changes nothing.
    ///
    /// # Errors
    /// When the bytes are not `wanted`, or could not be written; nothing is left behind then, except as [`Ingest::write`]
    /// says.
    pub async fn finish(&mut self, wanted: Option<Digest>) -> Result<&(VerifiedBlob, Option<HashList>), IngestError> {
        if !matches!(self.disk, Disk::Named(_)) {
            self.flush().await?;
            let (mut written, store) = (self.settle().await?, self.store.clone());
            written.units.end_sync().await?;
            let (verified, list, file) = super::run(move || written.finish(&store, wanted)).await?;
            self.store.keep(verified, file).await?;
            self.disk = Disk::Named(Box::new((verified, list)));
        }
        let Disk::Named(named) = &self.disk else { return Err(IngestError::Broken) };
        let found = named.0.blob();
        match wanted.filter(|wanted| *wanted != found) {
            Some(wanted) => Err(DigestMismatch { wanted, found }.into()),
            None => Ok(named),
        }
    }

    async fn hand_over(&mut self) -> Result<(), IngestError> {
        let mut written = self.settle().await?;
        if self.batch.is_empty() {
            self.disk = Disk::Idle(written);
            return Ok(());
        }
        let batch = Arc::new(std::mem::replace(&mut self.batch, std::mem::take(&mut written.spare)));
        let Written { hasher, mut units, .. } = *written;
        let (store, hashed, before) = (self.store.clone(), Arc::clone(&batch), hasher.clone());
        let hash = spawn_blocking(move || {
            let mut hasher = hasher;
            hasher.update(&hashed);
            hasher
        });
        let write = spawn_blocking(move || match units.append(&store, &batch) {
            Ok(()) => units.sync_early().map(|()| (units, batch)).map_err(Failed::for_good),
            Err(error) => Err(Failed::with(error, before, units)),
        });
        self.disk = Disk::Busy(tokio::spawn(async move {
            let hasher = hash.await.map_err(|_| Failed::for_good(IngestError::Broken))?;
            let (units, batch) = write.await.map_err(|_| Failed::for_good(IngestError::Broken))??;
            let mut spare = Arc::try_unwrap(batch).unwrap_or_default();
            spare.clear();
            Ok(Box::new(Written { hasher, units, spare }))
        }));
        Ok(())
    }

    /// Waits for the batch under way. The handle stays in place while waiting, so that a caller that gives up half-way
    /// loses nothing; the state is broken from here until the caller puts the next one in. If the batch found no room, it
    /// and what stands in memory are forgotten, and the blob can go on from there.
    async fn settle(&mut self) -> Result<Box<Written>, IngestError> {
        if let Disk::Busy(work) = &mut self.disk {
            let result = work.await.unwrap_or_else(|_| Err(Failed::for_good(IngestError::Broken)));
            self.disk = Disk::Broken;
            return result.map_err(|failed| self.fall_back(failed));
        }
        match std::mem::replace(&mut self.disk, Disk::Broken) {
            Disk::Idle(written) => Ok(written),
            Disk::Busy(_) | Disk::Broken | Disk::Named(_) => Err(IngestError::Broken),
        }
    }

    fn fall_back(&mut self, failed: Failed) -> IngestError {
        self.batch = Vec::new();
        if let Some(before) = failed.before {
            self.size = before.units.bytes;
            self.disk = Disk::Idle(before);
        }
        failed.error
    }
}

impl Arriving {
    fn new(store: &BlobStore) -> Self {
        store.shared.arriving.fetch_add(1, Ordering::Relaxed);
        Self(store.clone())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.shared.arriving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BlobStore {
    /// How many bytes of each blob are collected at present, so that all that arrive together stay within their memory.
    fn batch_bytes(&self) -> usize {
        let arriving = self.shared.arriving.load(Ordering::Relaxed).max(1);
        (BATCHES_BYTES_MAX / (arriving * BATCHES_OF_BLOB)).clamp(BATCH_BYTES_MIN, BATCH_BYTES)
    }
}

impl Failed {
    const fn for_good(error: IngestError) -> Self {
        Self { error, before: None }
    }

    /// After `error`, which came before the batch was part of `units` or `hasher`: they go on if only room was missing.
    fn with(error: IngestError, hasher: BlobHasher, units: Units) -> Self {
        let before = error.is_storage_full().then(|| Box::new(Written { hasher, units, spare: Vec::new() }));
        Self { error, before }
    }
}

impl Units {
    fn append(&mut self, store: &BlobStore, batch: &[u8]) -> Result<(), IngestError> {
        store.must_have_room()?;
        let offset = self.bytes;
        let file = self.file(store)?;
        file.as_file().write_all_at(batch, offset).map_err(IngestError::io("write", file.path()))?;
        self.list.update(batch);
        self.bytes += batch.len() as u64;
        self.unsynced_bytes += batch.len() as u64;
        Ok(())
    }

    /// Sends to the disk what waits, when it is much and nothing is on its way there.
    fn sync_early(&mut self) -> Result<(), IngestError> {
        let (true, Some(file)) = (self.unsynced_bytes >= SYNC_BYTES, &self.file) else { return Ok(()) };
        let failed = || IngestError::io("sync", file.path());
        if let Some(mut before) = self.sync.take() {
            let Some(outcome) = (&mut before).now_or_never() else {
                self.sync = Some(before);
                return Ok(());
            };
            outcome.map_err(io::Error::other).flatten().map_err(failed())?;
        }
        let file = file.as_file().try_clone().map_err(failed())?;
        self.unsynced_bytes = 0;
        self.sync = Some(spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the sync under way. Its failure is the blob's: the kernel reports it once, so that a later sync of the same
    /// file would succeed.
    async fn end_sync(&mut self) -> Result<(), IngestError> {
        let (Some(sync), Some(file)) = (self.sync.take(), &self.file) else { return Ok(()) };
        sync.await.map_err(io::Error::other).flatten().map_err(IngestError::io("sync", file.path()))
    }

    fn file(&mut self, store: &BlobStore) -> Result<&mut tempfile::NamedTempFile, IngestError> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(store.temporary()?)),
        }
    }
}

impl Written {
    /// The whole file, verified and synced, and what goes with it.
    fn finish(mut self: Box<Self>, store: &BlobStore, wanted: Option<Digest>) -> Result<Finished, IngestError> {
        self.units.file(store)?;
        let Self { hasher, units: Units { file: Some(file), list, bytes, .. }, .. } = *self else { return Err(IngestError::Broken) };
        cut(file.as_file(), bytes).map_err(IngestError::io("cut", file.path()))?;
        let verified = match wanted {
            None => hasher.name(),
            Some(wanted) if wanted.algorithm() == hasher.algorithm() => hasher.finish(wanted)?,
            Some(wanted) => {
                let mut hasher = BlobHasher::of(&wanted);
                rehash(&mut hasher, file.path()).map_err(IngestError::io("read", file.path()))?;
                hasher.finish(wanted)?
            }
        };
        file.as_file().sync_all().map_err(IngestError::io("sync", file.path()))?;
        Ok((verified, list.finish(verified.blob()), file))
    }
}

/// Takes from a file what a write that failed may have left behind its end.
fn cut(file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() > bytes { file.set_len(bytes) } else { Ok(()) }
}

/// Puts the whole content of a file into `hasher`.
fn rehash(hasher: &mut BlobHasher, path: &std::path::Path) -> io::Result<()> {
    each_block(&mut File::open(path)?, |block| {
        hasher.update(block);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::geometry::UNIT_BYTES;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|n| (n % 251) as u8).collect()
    }

    async fn ingest(store: &BlobStore, content: &[u8], step: usize) -> Ingest {
        fill(store.begin(Algorithm::Sha256), content, step).await
    }

    async fn fill(mut ingest: Ingest, content: &[u8], step: usize) -> Ingest {
        for chunk in content.chunks(step) {
            ingest.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        ingest
    }

    #[tokio::test]
    async fn content_and_list_do_not_depend_on_how_the_bytes_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let unit = UNIT_BYTES as usize;
        for size in [0, 1, unit, unit + 1, 4 * BATCH_BYTES + 7] {
            let content = content(size);
            let mut builder = HashListBuilder::new();
            builder.update(&content);
            for (step, wanted) in [(1 << 20, Digest::sha256(&content)), (8191, Digest::sha512(&content))] {
                for began in Algorithm::ALL {
                    let (verified, list) = fill(store.begin(began), &content, step).await.finish(Some(wanted)).await.unwrap().clone();
                    assert_eq!((verified.blob(), verified.size()), (wanted, size as u64));
                    assert_eq!(list, builder.clone().finish(wanted));
                    assert!(std::fs::read(store.path(&wanted)).unwrap() == content);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_blob_is_hashed_as_it_arrives_and_read_again_only_for_another_algorithm() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        for began in Algorithm::ALL {
            for wanted in [Digest::sha256(b"hedge"), Digest::sha512(b"hedge")] {
                let mut ingest = fill(store.begin(began), b"hedge", 5).await;
                ingest.flush().await.unwrap();
                let arrived = std::fs::read_dir(dir.path().join("uploads")).unwrap().next().unwrap().unwrap().path();
                std::fs::write(arrived, b"hodge").unwrap();
                assert_eq!(ingest.finish(Some(wanted)).await.is_ok(), wanted.algorithm() == began);
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let leftovers = || std::fs::read_dir(dir.path().join("uploads")).unwrap().count();
        let mut given_up = ingest(&store, &content(3 * BATCH_BYTES), BATCH_BYTES).await;
        given_up.flush().await.unwrap();
        assert_eq!(leftovers(), 1);
        drop(given_up);
        assert_eq!(leftovers(), 0);
        let mut wrong = ingest(&store, b"hodge", 5).await;
        assert!(matches!(wrong.finish(Some(Digest::sha256(b"hedge"))).await, Err(IngestError::Mismatch(_))));
        assert!(wrong.is_broken());
        assert_eq!(leftovers(), 0);
    }

    #[tokio::test]
    async fn a_write_given_up_half_way_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let content = content(3 * BATCH_BYTES);
        let mut ingest = ingest(&store, &content, BATCH_BYTES).await;
        {
            let mut flush = Box::pin(ingest.flush());
            let _ = futures_util::poll!(flush.as_mut());
        }
        ingest.write(Bytes::from_static(b"end")).await.unwrap();
        let whole = [content.as_slice(), b"end"].concat();
        ingest.finish(Some(Digest::sha256(&whole))).await.unwrap();
    }

    #[tokio::test]
    async fn a_blob_that_found_no_room_goes_on_where_the_disk_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let content = content(5 * BATCH_BYTES + 7);
        let mut ingest = ingest(&store, &content[..2 * BATCH_BYTES], BATCH_BYTES).await;
        ingest.flush().await.unwrap();
        let Disk::Idle(written) = &mut ingest.disk else { panic!("a flushed blob waits") };
        let path = written.units.file.as_ref().unwrap().path().to_owned();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(written.units.file.as_mut().unwrap().as_file_mut(), full);

        ingest.write(Bytes::copy_from_slice(&content[2 * BATCH_BYTES..4 * BATCH_BYTES])).await.unwrap();
        ingest.write(Bytes::copy_from_slice(&content[4 * BATCH_BYTES..])).await.unwrap();
        assert!(ingest.flush().await.unwrap_err().is_storage_full());
        assert_eq!((ingest.size(), ingest.is_flushed(), ingest.is_broken()), (2 * BATCH_BYTES as u64, true, false));
        ingest.flush().await.unwrap();

        let Disk::Idle(written) = &mut ingest.disk else { panic!("a flushed blob waits") };
        *written.units.file.as_mut().unwrap().as_file_mut() = file;
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&content, 2 * BATCH_BYTES as u64).unwrap();
        ingest.write(Bytes::copy_from_slice(&content[2 * BATCH_BYTES..])).await.unwrap();
        let wanted = Digest::sha256(&content);
        let (verified, list) = ingest.finish(Some(wanted)).await.unwrap().clone();
        let mut builder = HashListBuilder::new();
        builder.update(&content);
        assert_eq!((verified.size(), list), (content.len() as u64, builder.finish(wanted)));
        assert!(std::fs::read(store.path(&wanted)).unwrap() == content);
    }

    #[tokio::test]
    async fn a_blob_that_has_its_name_keeps_it_and_takes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let mut ingest = ingest(&store, b"hedge", 5).await;
        let wanted = Digest::sha256(b"hedge");
        for _ in 0..2 {
            assert_eq!(ingest.finish(Some(wanted)).await.unwrap().0.blob(), wanted);
            assert!(matches!(ingest.finish(Some(Digest::sha256(b"hodge"))).await, Err(IngestError::Mismatch(_))));
            assert!(matches!(ingest.write(Bytes::from_static(b"row")).await, Err(IngestError::Ended)));
            assert_eq!((ingest.size(), ingest.is_broken()), (5, false));
        }
    }

    #[tokio::test]
    async fn after_a_failed_write_nothing_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        std::fs::remove_dir(dir.path().join("uploads")).unwrap();
        let mut ingest = ingest(&store, b"hedge", 5).await;
        assert!(matches!(ingest.flush().await, Err(IngestError::Io { .. })));
        assert!(matches!(ingest.write(Bytes::from(content(BATCH_BYTES + 1))).await, Err(IngestError::Broken)));
        assert!(matches!(ingest.finish(None).await, Err(IngestError::Broken)));
    }
}
